"""The stand-in for CuPy against CuPy: all that it offers, and so all that tests let the package use, exists there.

CuPy imports without a driver, so its names and signatures can be read anywhere. Those of one version are stored in
cupy_names.json; where CuPy is installed, it is asked as well.
"""

import inspect

import cupy_names
import fake_cupy
import numpy as np
import pytest

ARRAYS_OWN = {"where"}  # of the tests alone
PYTHONS = {"__module__", "__dict__", "__weakref__"}  # of any class that is not written in C


@pytest.fixture(name="real", params=["stored", "installed"])
def _real(request):
    if request.param == "stored":
        return cupy_names.stored()
    return cupy_names.read(pytest.importorskip("cupy", reason="CuPy is not installed"))


@pytest.fixture(name="fake")
def _fake(folder):
    return fake_cupy.FakeCupy(folder)


def offered(fake):
    """Return {path: value} of all that stands in for something of CuPy's."""
    x, pool = fake.asarray(np.ones((2, 2))), fake.get_default_memory_pool()
    parts = {
        "": {name: value for name, value in vars(fake).items() if name not in fake.OWN},
        "cuda": vars(fake.cuda),
        "cuda.runtime": vars(fake.cuda.runtime),
        "cuda.MemoryPointer": vars(x.data),
        "ndarray": {name: None for name in {*dir(x)} - ARRAYS_OWN - PYTHONS if hasattr(x, name)},
    }
    for place, made in (
        ("cuda.Device", [x.device, fake.cuda.Device()]),
        ("cuda.Event", [fake.cuda.Event()]),
        ("cuda.MemoryPool", [pool]),
        ("cuda.Stream", [fake.cuda.Stream()]),
        ("RawModule", [fake.RawModule("")]),
    ):
        parts[place] = {name: getattr(one, name) for one in made for name in {*vars(type(one)), *vars(one)}}
    return {
        f"{place}.{name}".lstrip("."): value
        for place, values in parts.items()
        for name, value in values.items()
        if not name.startswith("_") or place == "ndarray"
    }


def test_all_that_the_stand_in_offers_is_cupys(fake, real):
    found = offered(fake)
    for path, value in found.items():
        place, _, name = path.rpartition(".")
        assert name in real["names"][place], f"CuPy has no {path}"
        if path in real["signatures"] and callable(value) and path != "ndarray":
            check_signature(path, inspect.signature(value), cupy_names.signature(real["signatures"][path]))
    assert found.keys() >= {
        "empty",
        "ndarray.get",
        "RawModule.get_function",
        "cuda.Stream.ptr",
        "cuda.runtime.getDevice",
    }


def check_signature(path, ours, theirs):
    """Ours takes nothing that theirs does not, nor at another place, and has all that theirs needs."""
    places = list(theirs.parameters)
    for k, (name, parameter) in enumerate(ours.parameters.items()):
        assert name in places, f"{path} has no {name}"
        assert parameter.kind is parameter.KEYWORD_ONLY or places[k] == name, f"{name} of {path} is at another place"
        assert theirs.parameters[name].kind in (parameter.kind, parameter.POSITIONAL_OR_KEYWORD), f"{path}: {name}"
    needed = {p.name for p in theirs.parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD}
    assert needed <= ours.parameters.keys(), path


def test_what_the_tests_alone_have_is_none_of_cupys(fake, real):
    assert not fake.OWN & real["names"][""]
    assert not ARRAYS_OWN & real["names"]["ndarray"]


def test_arrays_are_numpys_without_what_cupys_have_not(fake):
    x = fake.asarray(np.ones((2, 3), np.float32))
    for name in ("__array_namespace__", "ctypes", "resize", "setflags"):
        assert not hasattr(x, name)
    with pytest.raises(TypeError, match="unexpected keyword argument 'where'"):
        x.sum(where=True)
    with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy\.ndarray'>"):
        x + np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match=r"no implementation found for 'numpy\.is_busday'"):
        np.is_busday(x)
    assert type(np.exp(x)) is fake.ndarray


def test_what_is_stored_is_what_is_installed():
    """Of the version that was stored; of another the tests above ask what is used of it."""
    installed, stored = (
        cupy_names.read(pytest.importorskip("cupy", reason="CuPy is not installed")),
        cupy_names.stored(),
    )
    if installed["version"] != stored["version"]:
        pytest.skip(f"CuPy {installed['version']} is installed, and {stored['version']} stored")
    assert installed == stored
