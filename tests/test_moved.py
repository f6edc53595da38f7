"""What 0.1 had under other names works for one release, and says what to write now."""

import importlib
import subprocess
import sys
import warnings
from dataclasses import dataclass

import pytest

import pidsampler
from pidsampler import moved

# An optional package that is not installed keeps its module from being imported, at either path.
OPTIONAL = {"export": "onnx_ir", "jobs.ray": "ray"}

CALLER = """
import importlib, sys, warnings

def warned(action):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        value = action()
    assert len(found) == 1, (action.text, [str(one.message) for one in found])
    assert found[0].category is DeprecationWarning, found[0]
    assert found[0].filename == __file__, (action.text, found[0].filename)
    return value

def do(text, name):
    def action():
        inside = {}
        exec(compile(text, __file__, "exec"), inside)
        return eval(compile(name, __file__, "eval"), inside)
    action.text = text
    return action

for old, text, name, new in CASES:
    parent, _, attribute = old.rpartition(".")  # as if it had not been asked for yet
    sys.modules.pop(old, None)
    if parent in sys.modules:
        vars(sys.modules[parent]).pop(attribute, None)
    found = warned(do(text, name))
    module, _, attribute = new.partition(":")
    value = importlib.import_module(module)
    assert found is (getattr(value, attribute) if attribute else value), (text, new)
"""


def _here(path):
    return all(
        importlib.util.find_spec(package) for part, package in OPTIONAL.items() if f".{path}.".startswith(f".{part}.")
    )


def _in_a_fresh_process(tmp_path, cases):
    script = tmp_path / "caller.py"
    script.write_text(f"CASES = {cases!r}\n{CALLER}")
    done = subprocess.run([sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_moved_modules(tmp_path):
    cases = []
    for old, new in moved.MODULES.items():
        if _here(new):
            old, new = f"pidsampler.{old}", f"pidsampler.{new}"
            parent, _, name = old.rpartition(".")
            cases += [
                (old, f"import {old} as found", "found", new),
                (old, f"from {parent} import {name} as found", "found", new),
                (old, f"import {parent}", old, new),
            ]
    _in_a_fresh_process(tmp_path, cases)


def test_moved_names(tmp_path):
    cases = []
    for module, names in moved.NAMES.items():
        for name, new in names.items():
            place, _, renamed = new.partition(":")
            if _here(module) and _here(place):
                old, target = f"pidsampler.{module}.{name}", f"pidsampler.{place}:{renamed or name}"
                cases += [
                    (old, f"from pidsampler.{module} import {name} as found", "found", target),
                    (old, f"import pidsampler.{module}", old, target),
                ]
    _in_a_fresh_process(tmp_path, cases)


def test_names_of_a_moved_module(tmp_path):
    """A name that had left its module is found by the module's old path too."""
    old = next(old for old, new in moved.MODULES.items() if new in moved.NAMES and _here(new))
    name = next(iter(moved.NAMES[moved.MODULES[old]]))
    with pytest.warns(DeprecationWarning, match="has moved to"):
        assert getattr(importlib.import_module(f"pidsampler.{old}"), name) is not None


def test_every_target_is_a_place_of_today():
    for new in moved.MODULES.values():
        assert new not in moved.MODULES
    for module, names in moved.NAMES.items():
        assert module not in moved.MODULES, f"{module} has moved itself: list its names under its new place"
        assert all(new.partition(":")[0] not in moved.MODULES for new in names.values())


def test_what_there_never_was_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pidsampler.nothing
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("pidsampler.nothing")


@moved.keywords(colour="color")
def paint(x, y=1, *, color="red", width=2):
    return x, y, color, width


@moved.keywords(colour="color")
@dataclass(frozen=True, kw_only=True)
class Paint:
    color: str
    width: int = 2
    colour = moved.attribute("colour", "color")


def warned(action):
    """Return what the action does, its warning, and check that the warning is of this file."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        value = action()
    (one,) = found
    assert one.category is DeprecationWarning
    assert one.filename == __file__
    return value, str(one.message)


def test_arguments_that_became_keywords():
    assert paint(1, 2, color="blue") == (1, 2, "blue", 2)
    value, message = warned(lambda: paint(1, 2, "blue", 3))
    assert value == (1, 2, "blue", 3)
    assert message == "pass color, width of paint by keyword: this works until version 0.3"
    value, message = warned(lambda: Paint("blue"))
    assert value == Paint(color="blue")
    assert message == "pass color of Paint by keyword: this works until version 0.3"
    with pytest.raises(TypeError):
        paint(1, 2, "blue", color="red")
    with pytest.raises(TypeError):
        paint(1, 2, "blue", 3, 4)


def test_arguments_that_have_a_new_name():
    value, message = warned(lambda: paint(1, colour="blue"))
    assert value == (1, 1, "blue", 2)
    assert message == "the parameter colour of paint is called color now: this works until version 0.3"
    assert warned(lambda: Paint(colour="blue"))[0] == Paint(color="blue")
    with pytest.raises(TypeError):
        paint(1, colour="blue", color="red")


def test_attributes_that_have_a_new_name():
    value, message = warned(lambda: Paint(color="blue").colour)
    assert value == "blue"
    assert message == "the attribute colour of Paint is called color now: this works until version 0.3"
