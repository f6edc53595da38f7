"""Options are declared once: one frozen object, from which every signature and every message takes them."""

import ast
import inspect
import typing
import warnings

import attrs
import numpy as np
import pytest
from paths import REPOSITORY

from pidsampler import Finish, FlowSDE, PidSamplerError, Size, Tiling, Upscaler
from pidsampler.errors import ConfigError
from pidsampler.upscale import batch
from pidsampler.upscale.options import Options

PACKAGE = REPOSITORY / "pidsampler"
RGB = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)


@pytest.fixture(scope="module")
def up():
    return Upscaler.load("gaussian", "cpu")


def test_options_are_frozen_and_compare_by_value():
    caption = np.ones((2, 3))
    first, second = (
        Options("heun", seed=3, caption=array, finish=Finish(size=Size(2))) for array in (caption, [[1.0] * 3] * 2)
    )
    assert first == second
    assert hash(first) == hash(second)
    assert first != attrs.evolve(first, caption=2 * caption)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        first.seed = 4
    caption[:] = 0.0  # the caller's own
    assert (first.caption == 1.0).all()
    with pytest.raises(ValueError, match="read-only"):
        first.caption[0, 0] = 0.0
    assert Options(finish=None) == Options()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, r"seed=-1 must be a whole number in 0\.\.2\^64-1"),
        ({"seed": 1.5}, r"seed=1\.5 must be a whole number"),
        ({"degrade_sigma": 1.1}, r"degrade_sigma=1\.1 must be a finite number in \[0, 1\]"),
        ({"noise": 3}, "noise=3 must be a name or a function"),
        ({"sampler": 3}, "sampler=3 must be a spec, a scheduler or StepTable, or what makes one"),
        ({"caption": "x"}, "the caption is <U1"),
        ({"guidance": -1}, r"guidance=-1 must be a finite number from 0"),
        ({"guidance": "5"}, r"guidance='5' must be a finite number from 0"),
        ({"negative": "x"}, "the caption is <U1"),
        ({"steps": 0}, r"steps=0 must be a whole number of at least 1"),
        ({"finish": "match"}, "finish='match' must be a Finish"),
    ],
)
def test_options_are_checked(up, options, message):
    for made in (lambda: Options(**options), lambda: up(RGB, **options)):
        with pytest.raises(ConfigError, match=message):
            made()


def test_a_name_that_is_none_is_answered_by_the_nearest(up):
    with pytest.raises(PidSamplerError, match="unknown option 'sed': did you mean 'seed'"):
        up(RGB, sed=1)
    with pytest.raises(PidSamplerError, match="unknown option 'captoin': did you mean 'caption'"):
        up.record(batch.Source.of(RGB), captoin=None)
    with pytest.raises(
        PidSamplerError, match="unknown option 'noise': known are caption, degrade_sigma, guidance, negative, seed"
    ):
        up.bind(RGB, noise="fixed")


def test_signatures_show_the_options():
    declared = {option.name: option.default for option in attrs.fields(Options)}
    for function, names in (
        (Upscaler.__call__, set(declared)),
        (Upscaler.record, set(declared)),
        (Upscaler.bind, {"seed", "degrade_sigma", "caption", "guidance", "negative"}),
    ):
        parameters = inspect.signature(function).parameters
        assert names <= set(parameters)
        for name in names:
            assert parameters[name].default == declared[name]
            assert parameters[name].kind is (
                parameters[name].KEYWORD_ONLY if name != "sampler" else parameters[name].POSITIONAL_OR_KEYWORD
            )
        assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        assert typing.get_type_hints(function).keys() >= names
        assert len(parameters) - 1 <= len(declared) + 3  # the picture, and two to be called
    assert "seed" in str(inspect.signature(Upscaler.load("gaussian", "cpu")))


def test_settings_of_files_are_the_same_options():
    assert {field.name for field in attrs.fields(batch.Settings)} == {
        *(field.name for field in attrs.fields(Options)),
        "overwrite",
    }
    settings = batch.Settings("heun", seed=3, overwrite=True)
    assert Options(**settings.keywords()) == Options("heun", seed=3)


def test_no_option_is_a_parameter_elsewhere():
    """Of the application: an option is a field of `Options`, and functions take the object."""
    names = {"caption", "degrade_sigma", "negative"}
    found = set()
    for path in [*(PACKAGE / "upscale").glob("*.py"), PACKAGE / "cli" / "upscale.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                found |= {f"{path.name}: {node.name}" for argument in arguments if argument.arg in names}
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", None) in names:
                found.add(f"{path.name}: {node.target.id}")
    own = {"options.py: caption", "options.py: degrade_sigma", "options.py: negative", "options.py: _content"}
    assert found == own | {"again.py: make_again", "again.py: of"}  # a record has the hashes of embeddings only


def warned(action):
    """Return what the action does and its warnings, each of which is of this file."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        value = action()
    assert {one.filename for one in found} <= {__file__}
    return value, [(one.category.__name__, str(one.message)) for one in found]


def test_calls_of_the_last_version(up):
    scheduler = FlowSDE([0.9, 0.4, 0.0])
    expected = up(RGB, scheduler, seed=3, degrade_sigma=0.1, noise="fixed", finish=Finish(size=Size(2)))
    seen = []
    found, said = warned(lambda: up(RGB, scheduler, 3, 0.1, "fixed", None, None, Finish(size=Size(2)), seen.append))
    assert said == [
        (
            "DeprecationWarning",
            "pass seed, degrade_sigma, noise, on_step, caption, finish, progress of Upscaler.__call__ by keyword: this "
            "works until version 0.3",
        )
    ]
    assert np.array_equal(found.array, expected.array)
    assert found.record == expected.record
    assert sum(seen) == pytest.approx(1.0)
    found, ((kind, text),) = warned(lambda: up(RGB, scheduler=scheduler, seed=3))
    assert (kind, text[:53]) == ("DeprecationWarning", "the parameter scheduler of Upscaler.__call__ is calle")
    assert np.array_equal(found.array, up(RGB, scheduler, seed=3).array)
    source = batch.Source.of(RGB)
    found, said = warned(lambda: up.record(source, scheduler, 3, 0.1, "fixed"))
    assert found == up.record(source, scheduler, seed=3, degrade_sigma=0.1, noise="fixed")
    assert len(said) == 1
    bound, said = warned(lambda: up.bind(RGB, 3, 0.1))
    assert (bound.shape, len(said)) == ((1, 3, 32, 32), 1)
    other, said = warned(lambda: Upscaler.load("gaussian", "cpu", None, accept_licence=False, tiling=Tiling(64)))
    assert (other.tiling, len(said)) == (Tiling(64), 2)


def test_warnings_name_the_caller(up):
    _, said = warned(lambda: up(RGB, degrade_sigma=0.9, finish=Finish(size=Size(width=10, height=3))))
    assert [kind for kind, _ in said] == ["PidSamplerWarning"] * 2
    assert "degrade_sigma=0.9 is above 0.8" in said[0][1]
    assert "size 10x3 changes the shape" in said[1][1]
