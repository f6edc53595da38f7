"""README and docs/: links, examples, commands; the site's navigation; the reference, and the schemas of files."""

import ast
import contextlib
import dataclasses
import inspect
import io
import json
import re
import shlex
import sys
import textwrap
import tomllib
import types
from functools import cache

import numpy as np
import pytest
from jsonschema.validators import validator_for
from markdown_it import MarkdownIt
from paths import REPOSITORY
from referencing import Registry, Resource

import pidsampler as ps
from pidsampler import values
from pidsampler.cli.main import build_parser
from pidsampler.errors import ConfigError
from pidsampler.io.records import read_record
from pidsampler.onnx import model_tables
from pidsampler.onnx.manifest import Manifest
from pidsampler.schedulers.registry import LISTS, as_scheduler
from pidsampler.study.file import read_study
from pidsampler.study.settings import SETTINGS
from pidsampler.values import whole

sys.path.append(str(REPOSITORY / "docs"))
import drawings
import reference

DOCS = REPOSITORY / "docs"
NAV = {title: group["pages"] for title, group in tomllib.loads((DOCS / "nav.toml").read_text("utf-8")).items()}
PAGES = sorted({"README.md", *(page for pages in NAV.values() for page in pages if page.endswith(".md"))})
# Each page with examples in Python, how many, and the test that runs them all.
RUN_BY = {
    "README.md": (1, "tests/test_package.py"),
    "docs/benchmarks.md": (3, "tests/bench/test_page.py"),
    "docs/cfg-pp.md": (1, "tests/test_page_blocks.py"),
    "docs/comfyui.md": (1, "tests/interop/test_k_diffusion.py"),
    "docs/diffusers.md": (2, "tests/interop/test_pipelines.py"),
    "docs/getting-started.md": (1, "tests/test_package.py"),
    "docs/guidance.md": (1, "tests/test_page_blocks.py"),
    "docs/learn.md": (2, "tests/test_page_blocks.py"),
    "docs/notebooks.md": (4, "tests/test_doors.py"),
    "docs/one-graph.md": (1, "tests/export/test_one_graph.py"),
    "docs/own-scheduler.md": (1, "tests/test_package.py"),
    "docs/pid.md": (1, "tests/upscale/test_teacher.py"),
    "docs/records.md": (1, "tests/test_doors.py"),
    "docs/solvers.md": (2, "tests/test_page_blocks.py"),
    "docs/start.md": (3, "tests/test_page_blocks.py"),
    "docs/studies.md": (2, "tests/study/test_python.py"),
    "docs/tables.md": (1, "tests/test_page_blocks.py"),
    "docs/wrappers.md": (2, "tests/test_page_blocks.py"),
}
# Pages whose test needs what most machines lack: it is skipped there. .ci/run has an environment with PyTorch.
NEEDS = {"docs/comfyui.md": "PyTorch", "docs/diffusers.md": "PyTorch and diffusers"}


GALLERY = sorted(page for pages in NAV.values() for page in pages if page.endswith(".ipynb"))


def cells(page, kind):
    book = json.loads((REPOSITORY / page).read_text("utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


@cache
def tokens(page):
    text = "\n\n".join(cells(page, "markdown")) if page in GALLERY else (REPOSITORY / page).read_text("utf-8")
    return MarkdownIt("commonmark").enable("table").parse(text)


@cache
def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = []
    for opened, inline in zip(tokens(page), tokens(page)[1:], strict=False):
        if opened.type == "heading_open":
            text = "".join(part.content for part in inline.children if part.type in ("text", "code_inline"))
            found.append(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return [f"{a}-{found[:i].count(a)}" if a in found[:i] else a for i, a in enumerate(found)]


def links(page):
    for token in tokens(page):
        for part in token.children or ():
            if (link := part.attrs.get("href") or part.attrs.get("src")) is not None:
                yield link
            if part.type == "html_inline":
                yield from re.findall(r"(?:href|src)=\"([^\"]*)\"", part.content)
        if token.type == "html_block":
            yield from re.findall(r"(?:href|src)=\"([^\"]*)\"", token.content)


@pytest.mark.parametrize("page", [*PAGES, *GALLERY])
def test_links_and_anchors_lead_somewhere(page):
    for link in links(page):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), f"{page} links to {link}"
        assert target.resolve().is_relative_to(REPOSITORY), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(REPOSITORY).as_posix()), f"{page} links to {link}"


def test_the_navigation_has_each_page_of_docs_once():
    listed = [page for pages in NAV.values() for page in pages]
    assert len(set(listed)) == len(listed)
    pages = [*DOCS.glob("*.md"), *DOCS.glob("gallery/*")]
    assert {path.relative_to(REPOSITORY).as_posix() for path in pages} <= {*listed}
    assert [page for page in listed if page.endswith((".md", ".ipynb")) and not (REPOSITORY / page).is_file()] == []


def test_every_example_is_run_by_a_test():
    fences = {page: [t.content for t in tokens(page) if t.type == "fence" and t.info == "python"] for page in PAGES}
    for page, examples in fences.items():
        for example in examples:
            compile(example, page, "exec")
    assert {page: len(examples) for page, examples in fences.items() if examples} == {
        p: n for p, (n, _) in RUN_BY.items()
    }
    for page, (_, test) in RUN_BY.items():
        name = page.rpartition("/")[2].removesuffix(".md")
        text = (REPOSITORY / test).read_text("utf-8")
        assert re.search(rf"\b{name}\b", text, re.IGNORECASE), (page, test)
        assert bool(re.search(r"^\w+ = pytest.importorskip", text, re.MULTILINE)) == (page in NEEDS), (page, test)


def python_in(code):
    """Yield the parts of a code block that are Python: all of it, or a line with a keyword, an attribute or a loop.

    A formula such as x0 = clip(p*x + q*m) is none, and a spec such as heun.detail(amount=1)@pid is none.
    """
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.For, ast.With, ast.Attribute, ast.keyword)
    for part in {code, *code.splitlines()}:
        try:
            nodes = [*ast.walk(ast.parse(textwrap.dedent(part)))]
        except SyntaxError:
            continue
        if any(isinstance(node, kinds) for node in nodes) and not any(isinstance(node, ast.MatMult) for node in nodes):
            yield part


@pytest.mark.parametrize(
    "code", ["import os\nos.sep\n", "run.add_noise()\n", "pidsampler table heun\nup(x, start=1)\n"]
)
def test_python_is_found(code):
    assert [*python_in(code)]


@pytest.mark.parametrize(
    "code", ["x0 = clip(p*x + q*m)\n", "pytest\n", "flow-sde(eta=0.5).detail@pid\n", "pip install x\n"]
)
def test_commands_and_formulas_are_no_python(code):
    assert [*python_in(code)] == []


def test_python_stands_in_fences_of_its_name():
    blocks = [(page, t) for page in PAGES for t in tokens(page) if t.type in ("code_block", "fence")]
    hidden = [(page, part) for page, t in blocks if t.info != "python" for part in python_in(t.content)]
    assert hidden == []


def test_every_page_is_two_clicks_from_the_readme():
    def linked(page):
        paths = ((REPOSITORY / page).parent / link.partition("#")[0] for link in links(page) if "://" not in link)
        return {path.resolve().relative_to(REPOSITORY).as_posix() for path in paths if path.is_file()}

    first = linked("README.md")
    second = {page for each in first & {*PAGES, *GALLERY} for page in linked(each)}
    assert {*PAGES, *GALLERY} - {"README.md"} - first - second == set()


@pytest.mark.parametrize("page", GALLERY)
def test_notebooks_are_kept_without_results(page):
    """The site's build runs them, and fails where one does."""
    code = [cell for cell in json.loads((REPOSITORY / page).read_text("utf-8"))["cells"] if "outputs" in cell]
    assert [cell["outputs"] for cell in code] == [[]] * len(code) != []
    assert {cell["execution_count"] for cell in code} == {None}


def commands(page):
    """Each command line of ours in a page's code, without remarks and the rest of the pipe; "..." is a checkpoint."""
    for token in tokens(page):
        if token.type not in ("code_block", "fence") or token.info not in ("", "bash", "sh", "console"):
            continue
        for line in re.sub(r" *\\\n *", " ", token.content).splitlines():
            for command in re.split(r" (?:&&|\|) ", line):
                if command.startswith("pidsampler "):
                    yield re.split(r" {3,}| > ", command.replace(" ... ", " --checkpoint C "))[0]


def test_the_commands_of_the_pages_are_ours():
    found = [(page, command) for page in PAGES for command in commands(page)]
    assert len(found) > 40
    wrong = {}
    for page, command in found:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                build_parser().parse_args(shlex.split(re.sub(r"\bN\b", "4", command), comments=True)[1:])
        except SystemExit as ended:
            if ended.code:
                wrong[page, command] = said.getvalue()
    assert wrong == {}


# What a page's reader has of his own, or leaves to him: no spec that is known here.
READERS = {
    "heun.clipped(bound=1.2)@uniform:8",
    "S",
    "A",
    "B",
    "SPEC",
    "NAME",
    "@table.json",
    "@table-6.json",
    "@list.txt",
}


def specs(command):
    """Yield each sampler that a command names, and the model whose own tables it may name."""
    words = shlex.split(re.sub(r"\bN\b", "4", command), comments=True)[1:]
    parsed = build_parser().parse_args(words)
    model = getattr(parsed, "model", None)
    for name in ("scheduler", "samplers", "against"):
        found = getattr(parsed, name, None)
        for spec in [found] if isinstance(found, str) else found or ():
            yield spec, model


def unresolved(spec, model):
    """What is wrong with a spec; "" of a right one, and of a file of the reader's own."""
    if spec in READERS or re.match(r"[\w/]+\.py:", spec):
        return ""
    try:
        bundled = model in ("tiny", "tiny-teacher", "gaussian")
        tables = model_tables(model if bundled else "tiny-teacher") if model else {}
        as_scheduler(spec, own=ps.timesteps.pid(), tables=tables)
    except ps.PidSamplerError as error:
        return str(error)
    return ""


def test_the_commands_name_samplers_that_there_are():
    found = [(page, spec, model) for page in PAGES for command in commands(page) for spec, model in specs(command)]
    assert {"dpmpp-2m", "@learnt-4", "heun@uniform:8"} <= {spec for _, spec, _ in found}
    assert {(page, spec): wrong for page, spec, model in found if (wrong := unresolved(spec, model))} == {}


def named(page):
    """Yield each sampler with its list and steps, and each table of a model, in the text's code."""
    for token in tokens(page):
        for part in token.children or ():
            if part.type == "code_inline" and re.fullmatch(
                r"@learnt-\d+|[a-z][\w.()=,-]*@[a-z]\w*(?:\(.*\))?:\d+", part.content
            ):
                yield part.content


def test_the_texts_name_samplers_that_there_are():
    found = [(page, spec) for page in PAGES for spec in named(page)]
    assert len(found) > 30
    assert {(page, spec): wrong for page, spec in found if (wrong := unresolved(spec, "tiny-teacher"))} == {}


@pytest.mark.parametrize("spec", ["dpmpp-22m", "@learnt-44", "heun@uniformm:8"])
def test_a_sampler_that_is_none_is_found(spec):
    assert unresolved(spec, "FOLDER")


def test_the_drawings_are_those_that_the_script_makes():
    made = drawings.drawings()
    assert {path.name: path.read_text("utf-8") for path in drawings.FOLDER.iterdir()} == made
    assert {link.partition("/")[2] for link in links("docs/how-it-works.md") if link.endswith(".svg")} == {*made}


def test_the_forms_for_issues_name_what_there_is():
    text = "\n".join(path.read_text("utf-8") for path in (REPOSITORY / ".github").rglob("*.*"))
    asked = re.findall(r"(?:`|placeholder: )pidsampler (.+?)(?:`|$)", text, re.MULTILINE)
    assert {"doctor", "--version", "schedulers NAME"} <= {*asked}
    for command in asked:
        if command != "--version":
            build_parser().parse_args(command.replace("NAME", "heun").split())
    for name in re.findall(r"[\w/-]+\.md\b", text):
        assert (REPOSITORY / name).is_file(), name


SCHEMAS = {path.name: json.loads(path.read_text("utf-8")) for path in (DOCS / "schemas").glob("*.json")}
REGISTRY = Registry().with_resources((name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items())


def complaints(kind, data):
    schema = SCHEMAS[f"{kind}.schema.json"]
    found = validator_for(schema)(schema, registry=REGISTRY).iter_errors(json.loads(json.dumps(data)))
    return [f"{error.json_path}: {error.message}" for error in found]


def test_the_schemas_are_schemas():
    assert sorted(SCHEMAS) == [f"{kind}.schema.json" for kind in ("manifest", "record", "study", "table")]
    for schema in SCHEMAS.values():
        validator_for(schema).check_schema(schema)


@pytest.mark.parametrize("info", ps.list_schedulers(), ids=lambda info: info.name)
def test_tables_are_as_their_schema_says(info):
    table = ps.get_scheduler(info.name, [0.9, 0.6, 0.3, 0]).table()
    assert complaints("table", table.clipped(1.0).to_dict()) == []


def test_tables_that_are_biased_or_learnt_are_as_their_schema_says():
    biased = ps.get_scheduler("flow-sde.s_noise(1.1)@uniform:4").table().to_dict()
    assert "bias" in biased["rows"][0]
    assert complaints("table", biased) == []
    learnt = REPOSITORY / "pidsampler/models/tiny-teacher/tables/learnt-4.json"
    assert complaints("table", json.loads(learnt.read_text("utf-8"))) == []


def changed(data, path, value):
    """Data in which the entry at a path has another value, or is gone where that is None."""
    data = json.loads(json.dumps(data))
    *above, last = path
    place = data
    for key in above:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "pidsampler.StepTable/3"),
        (("rows",), []),
        (("rows", 0, "t"), 0),
        (("rows", 0, "h"), [[0]]),
        (("rows", 0, "clip"), "1"),
        (("rows", 0, "saves", 0, "slot"), None),
    ],
)
def test_what_is_no_table_is_none_to_the_schema_and_to_the_reader(path, value):
    data = changed(ps.get_scheduler("unipc@uniform:3").table().to_dict(), path, value)
    assert complaints("table", data)
    with pytest.raises(ps.PidSamplerError):
        ps.StepTable.from_json(json.dumps(data))


def test_records_are_as_their_schema_says(tmp_path):
    up, picture = ps.Upscaler.load("tiny"), np.zeros((8, 8, 3), np.uint8)
    for name, options in {"a.png": {"seed": 2**64 - 1}, "b.jpg": {"start": 0.6, "finish": ps.Finish("match")}}.items():
        up(picture, **options).save(tmp_path / name)
        assert complaints("record", read_record(tmp_path / name)) == []
    learnt = ps.Upscaler.load("tiny-teacher", tiling=ps.Tiling(64, 16))(np.zeros((32, 32, 3), np.uint8), "@learnt-4")
    assert learnt.record["tiles"] is not None
    assert complaints("record", learnt.record) == []
    assert complaints("record", changed(learnt.record, ("seed",), None))
    assert complaints("record", changed(learnt.record, ("table", "rows", 0, "t"), 2))


def test_manifests_are_as_their_schema_says():
    schema = SCHEMAS["manifest.schema.json"]
    assert {*schema["properties"]} == {field.name for field in dataclasses.fields(Manifest)} | {"licence"}
    for path in (REPOSITORY / "pidsampler/models").glob("*/pidsampler.json"):
        assert complaints("manifest", json.loads(path.read_text("utf-8"))) == []
    rule = {"shift": {"base": 6, "size": 2048}, "steps": 25}
    assert complaints("manifest", {"timesteps": rule}) == []
    assert complaints("manifest", {"timesteps": {**rule, "steps": 0}})
    assert complaints("manifest", {"license": "MIT", "licence": "MIT"})


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples/studies").glob("*.toml")), ids=lambda path: path.name)
def test_studies_are_as_their_schema_says(path):
    assert complaints("study", tomllib.loads(path.read_text("utf-8"))) == []


def test_the_schema_of_studies_has_the_keys_that_are_read(tmp_path):
    schema = SCHEMAS["study.schema.json"]
    assert {*schema["$defs"]["settings"]["properties"]} == {*SETTINGS}
    assert complaints("study", tomllib.loads((REPOSITORY / "pidsampler/study/init.toml").read_text("utf-8"))) == []
    (tmp_path / "no.toml").write_text("colour = 1")
    with pytest.raises(ps.PidSamplerError, match="known are") as said:
        read_study(tmp_path / "no.toml")
    assert {*str(said.value).rpartition("known are ")[2].split(", ")} == {*schema["properties"]}
    assert complaints("study", {"colour": 1})


ENTRIES = {entry.path: entry for entry in reference.entries()}
# The functions of pidsampler.values that refuse a value.
CHECKS = {name for name, thing in vars(values).items() if getattr(thing, "__module__", "") == values.__name__}
CHECKS -= {"field", "items", "shown", "T", "F"}
ERRORS = ("ConfigError", "FileError", "ModelError", "DeviceError", "MissingDependencyError", "UsageError")


def described(path, thing):
    """Yield what the docstring of a class, function or method lacks, or has too much."""
    docstring = inspect.getdoc(thing) or ""
    if not docstring:
        yield f"{path} has no docstring"
    for title in ("Args:", "Returns:", "Raises:"):
        if docstring.count(f"\n{title}\n") > 1:
            yield f"{path} has {title} twice"
    takes, told = reference.parameters(thing), reference.inherited(thing)
    for name in takes:
        if name not in told and not re.search(rf"\b{name}\b", docstring):
            yield f"{path} does not say what {name} is"
    own = re.findall(r"^(\w+):", reference.section(docstring, "Args"), re.MULTILINE)
    yield from (f"{path} describes {name}, which it does not take" for name in own if name not in takes)
    if own:
        yield from (f"the Args of {path} lack {name}" for name in takes if name not in told)
    if inspect.isfunction(thing) or inspect.ismethod(thing):
        source = inspect.getsource(inspect.unwrap(thing))
        raised = re.findall(r"^ +raise (?:errors\.)?(\w+)", source, re.MULTILINE)
        checked = re.findall(r"(?<![\w.])(\w+)\(", source)  # by a function that raises such an error
        if ({*raised} & {*ERRORS} or {*checked} & CHECKS) and "Raises:" not in docstring:
            yield f"{path} does not say when it raises an error"
        gives = inspect.unwrap(thing).__annotations__.get("return", "None")
        if gives not in ("None", None) and not re.search(r"\b(?:return|yield)s?\b", docstring, re.IGNORECASE):
            yield f"{path} does not say what it returns"


# A shape: of numbers and letters in parentheses, or that of something named.
SHAPE = r"\((?:[\w +*/-]+,)+[\w +*/ -]*\)|\blike x\b|\b(?:of|same|this) shape\b|\bshape of x\b|\bof `shape`"
ARRAYS = r"(?<![\w.])(?:NDArray|Array|Times)\b"


def undescribed(path, thing):
    """Yield what the docstring of a function lacks of an array's shape, of errors and of a source."""
    docstring, function = inspect.getdoc(thing) or "", inspect.unwrap(thing)
    gives = str(function.__annotations__.get("return", ""))
    said = reference.section(docstring, "Returns") or docstring.partition("\n")[0]
    if re.search(ARRAYS, gives) and "Callable" not in gives and not re.search(SHAPE, said):
        yield f"{path} gives no shape"
    if "Raises:" not in docstring and reference.parameters(function) and raises(function):
        yield f"{path} does not say when it raises an error"
    if function in LISTED and "\nSource: " not in docstring:
        yield f"{path} names no source"


def raises(function, deep=True):
    """Whether a function checks a value or raises an error of ours, or calls one of its package that does."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {getattr(call, "id", "") for call in calls}
    called = [function.__globals__.get(name) for name in names]
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    errors = {getattr(getattr(error, "func", None), "id", "") for error in raised}
    if names & CHECKS or errors & {*ERRORS, "unknown_name"} or any(name.startswith("get_") for name in names):
        return True
    ours = [f for f in map(inspect.unwrap, filter(inspect.isfunction, called)) if f.__module__.startswith("pidsampler")]
    return deep and any(raises(each, deep=False) for each in ours)


LISTED = {inspect.unwrap(function) for function in LISTS.values()}
FUNCTIONS = {path: entry.thing for path, entry in ENTRIES.items() if inspect.isfunction(entry.thing)}


def zzz(steps: int, t_max: float = 1.0) -> "Times":  # noqa: F821
    """Return a list of `steps` times that fall from t_max, then 0."""
    return checked_times(steps)


def checked_times(steps):
    return np.linspace(1.0, 0.0, whole("steps", steps))


def test_what_an_array_lacks_is_found(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "LISTED", {zzz})
    checked_times.__module__ = "pidsampler.timesteps"
    assert [*undescribed("zzz", zzz)] == [
        "zzz gives no shape",
        "zzz does not say when it raises an error",
        "zzz names no source",
    ]
    subset = ps.timesteps.subset
    shapeless = types.FunctionType(subset.__code__, subset.__globals__, "subset")
    shapeless.__annotations__ = subset.__annotations__
    shapeless.__doc__ = subset.__doc__.replace("float64 (steps + 1,), descending to 0.", "Times.")
    assert [*undescribed("subset", shapeless)] == ["subset gives no shape"]


@pytest.mark.parametrize("path", FUNCTIONS)
def test_functions_say_shapes_errors_and_sources(path):
    assert [*undescribed(path, FUNCTIONS[path])] == []


@pytest.mark.parametrize("info", ps.list_schedulers(), ids=lambda info: info.name)
def test_every_scheduler_names_its_source(info):
    assert info.source


def untold(x: int, y: int) -> int:
    """Sum of two.

    Args:
        y: One of them.
        z: The other one.
    """
    if y:
        raise ConfigError("no")
    return y


def checked(x: int) -> None:
    """Check x, a whole number."""
    whole("x", x)


def test_what_a_docstring_lacks_is_found():
    assert [*described("checked", checked)] == ["checked does not say when it raises an error"]
    assert [*described("untold", untold)] == [
        "untold does not say what x is",
        "untold describes z, which it does not take",
        "the Args of untold lack x",
        "untold does not say when it raises an error",
        "untold does not say what it returns",
    ]


@pytest.mark.parametrize("path", ENTRIES)
def test_every_public_name_is_described(path):
    entry = ENTRIES[path]
    if entry.is_value:
        assert reference.value_docstring(entry)
        return
    lacking = [*described(path, entry.thing)]
    for name, member in reference.members(entry.thing) if inspect.isclass(entry.thing) else ():
        if callable(member):
            lacking += described(f"{path}.{name}", member)
        elif not inspect.getdoc(member):
            lacking.append(f"{path}.{name} has no docstring")
    assert not lacking, "\n".join(lacking)
