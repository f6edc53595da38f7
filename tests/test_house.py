"""The rules of the house, computed from the source: who imports whom, what is private, how large things may be."""

import ast
import functools
import re
from graphlib import CycleError, TopologicalSorter

import pytest
from paths import REPOSITORY

ROOT = REPOSITORY / "pidsampler"
FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# What may take more than two arguments by position: the arguments' order is the field's own.
BY_POSITION = {
    *("noise.philox.normal", "noise.torch.normal", "timesteps.continuous.pid_shift"),
    *("interop.diffusers.scheduler.TableScheduler.step", "interop.diffusers.scheduler.TableScheduler.scale_noise"),
    *("interop.k_diffusion.KSampler.__call__", "interop.tensors.BatchNoise.__call__"),
    *("denoiser.guidance.Guided", "denoiser.flows.GaussianMixture"),
}
# A Denoiser's only method, which users write: predict(x, t, out).
CONTRACT = "predict"
# What may take more than nine arguments: a row is as wide as the recurrence, the application's options are declared in
# one place, and these are as wide as the file that they are read from, by keyword alone.
WIDE = {"table.Row", "upscale.options.Options"}
WIDE |= {"learn.learn.Learning", "learn.result.Fit"}  # as wide as its command's options, and as its report
WIDE |= {"onnx.manifest.Manifest", "onnx.contract.Contract", "export.architecture.Architecture"}
WIDE |= {"interop.diffusers.scheduler.TableScheduler"}

# Methods of named tuples that begin with an underscore only in order not to collide with fields.
NAMED_TUPLE = {"_asdict", "_fields", "_replace", "_make"}


def _module(name):
    """Such as "schedulers.base" for "schedulers/base.py", "schedulers" for its __init__, "" for the root."""
    parts = name.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree_of(name):
    """The syntax tree of a file."""
    return ast.parse(FILES[name].read_text(encoding="utf-8"), name)


def trees():
    return [(name, tree_of(name)) for name in FILES]


MODULES = {_module(name): name for name in FILES}


def _imports(name):
    """Each module of the package that a file imports, at any depth but under TYPE_CHECKING."""
    module = _module(name)
    package = module if name.endswith("__init__.py") else module.rpartition(".")[0]

    def visit(node):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                yield from visit(child)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "pidsampler":
                    yield alias.name.removeprefix("pidsampler").removeprefix(".")
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                above = package.split(".") if package else []
                above = above[: len(above) - node.level + 1]
                origin = ".".join([*above, *([node.module] if node.module else [])])
            elif node.module and node.module.split(".")[0] == "pidsampler":
                origin = node.module.removeprefix("pidsampler").removeprefix(".")
            else:
                origin = None
            if origin is not None:
                for alias in node.names:
                    inside = f"{origin}.{alias.name}".removeprefix(".")
                    yield inside if inside in MODULES else origin
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    return set(visit(tree_of(name))) - {module}


def test_no_circle_of_imports():
    graph = {_module(name): _imports(name) for name in FILES}
    unknown = {module for found in graph.values() for module in found} - set(MODULES)
    assert not unknown, "imports of what is no module"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(module or "pidsampler" for module in error.args[1]))


def _private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def _own(tree):
    """Each name that a file defines: its functions, classes, variables, and attributes of its own objects."""
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr
        elif isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__slots__" for target in node.targets):
            yield from ast.literal_eval(node.value)


def _is_self(node):
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    return called or (isinstance(node, ast.Name) and node.id in ("self", "cls"))


def _intrusions(tree):
    own = set(_own(tree)) | NAMED_TUPLE
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.level or (node.module or "").startswith("pidsampler") else []
            for name in [*parts, *(alias.name for alias in node.names)]:
                if _private(name):
                    yield f"line {node.lineno}: import of {name}"
        elif isinstance(node, ast.Attribute) and _private(node.attr):
            if not _is_self(node.value) and node.attr not in own:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "setattr", "hasattr", "delattr")
            and isinstance(word := node.args[1], ast.Constant)
            and _private(word.value)
            and not _is_self(node.args[0])
            and word.value not in own
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("name", FILES)
def test_no_module_reaches_into_another(name):
    assert list(_intrusions(tree_of(name))) == []


def test_the_root_is_small():
    root = [name for name in FILES if "/" not in name]
    assert len(root) <= 12, root


@pytest.mark.parametrize("name", FILES)
def test_no_module_is_long(name):
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 400


def test_pillow_opens_only_named_formats():
    """Without a list it tries all readers, and that of PostScript starts a program."""
    opened = [
        (name, ast.unparse(call))
        for name, tree in trees()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Image.open")
    ]
    assert opened
    assert [call for call in opened if "formats=[" not in call[1]] == []
    assert [name for name, tree in trees() if "imread" in ast.unparse(tree)] == []


def test_the_upscaler_is_a_short_composition():
    (upscaler,) = (node for node in tree_of("upscale/upscaler.py").body if getattr(node, "name", "") == "Upscaler")
    strings = (node.body[0] for node in ast.walk(upscaler) if isinstance(node, (*FUNCTIONS, ast.ClassDef)))
    docstrings = [s for s in strings if isinstance(s, ast.Expr) and isinstance(getattr(s.value, "value", 0), str)]
    lines = upscaler.end_lineno - upscaler.lineno + 1 - sum(s.end_lineno - s.lineno + 1 for s in docstrings)
    assert lines <= 80


def _decorators(node):
    return {ast.unparse(d.func if isinstance(d, ast.Call) else d).rpartition(".")[2] for d in node.decorator_list}


def _signature(function, method):
    """The parameters that may be given by position, and all, without self or cls."""
    arguments = function.args
    first = 1 if method and "staticmethod" not in _decorators(function) else 0
    position = [a.arg for a in [*arguments.posonlyargs, *arguments.args]][first:]
    return position, [*position, *(a.arg for a in arguments.kwonlyargs)]


def _keyword_only(options):
    return any(keyword.arg == "kw_only" and getattr(keyword.value, "value", None) is True for keyword in options)


def _fields(node):
    """The parameters of the constructor that `dataclass` or `attrs` writes."""
    (decorator,) = (d for d in node.decorator_list if ast.unparse(d).startswith(("dataclass", "attrs.", "frozen")))
    all_keywords = isinstance(decorator, ast.Call) and _keyword_only(decorator.keywords)
    position, keywords = [], []
    for field in node.body:
        if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
            continue
        if ast.unparse(field.annotation).endswith("KW_ONLY"):
            all_keywords = True
            continue
        options = field.value.keywords if isinstance(field.value, ast.Call) else []
        if any(option.arg == "init" and getattr(option.value, "value", None) is False for option in options):
            continue
        (keywords if all_keywords or _keyword_only(options) else position).append(field.target.id)
    return position, [*position, *keywords]


def _public(name):
    """Each public function, method and constructor of a file: its name, what it takes by position, what in all."""
    module = _module(name)
    for node in tree_of(name).body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            yield f"{module}.{node.name}", *_signature(node, method=False)
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        made = {"dataclass", "frozen", "define"} & _decorators(node)
        for method in node.body:
            if not isinstance(method, FUNCTIONS):
                continue
            if method.name == "__init__":
                made = set()
                yield f"{module}.{node.name}", *_signature(method, method=True)
            elif method.name == "__call__" or not method.name.startswith("_"):
                yield f"{module}.{node.name}.{method.name}", *_signature(method, method=True)
        if made:
            yield f"{module}.{node.name}", *_fields(node)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("cli/")])
def test_arguments_are_few_and_named(name):
    for function, position, parameters in _public(name):
        assert len(position) <= 2 or function in BY_POSITION or function.endswith(f".{CONTRACT}"), (
            f"{function} takes {position} by position"
        )
        assert len(parameters) <= 9 or function in WIDE, f"{function} takes {len(parameters)} parameters"


def _entries(name):
    """The (name, text) of each argument, attribute and error in a file's docstrings, and of each option's help."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
            yield from re.findall(r"^ +(\*{0,2}\w+): (.+)", ast.get_docstring(node) or "", re.MULTILINE)
        elif isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            yield "help", node.value.value


# What is no noun: a reader sees the entry alone.
NO_NOUN = (
    r"(?:Of|Whose|It|Likewise|Such as|At most|At least|Above|Below|Within|One for)\b|From \d|In [(\[]|-?\d+\b(?! hex)"
)


@pytest.mark.parametrize("name", FILES)
def test_an_argument_is_told_by_its_noun(name):
    """ "Seed of the noise, 0..2^64-1", not "Of the noise" and not "0..2^64-1"."""
    assert [entry for entry in _entries(name) if re.match(NO_NOUN, entry[1], re.IGNORECASE)] == []


@pytest.mark.parametrize(
    ("entry", "fails"),
    [
        ("Of the noise.", True),
        ("such as 4G, to cut tiles by", True),
        ("0..2^64-1.", True),
        ("In (0, 1].", True),
        ("One for each image.", True),
        ("Seed of the noise, 0..2^64-1.", False),
        ("(height, width) of the picture.", False),
        ("Items to show.", False),
    ],
)
def test_what_is_no_noun_is_found(entry, fails):
    assert bool(re.match(NO_NOUN, entry, re.IGNORECASE)) == fails
