"""Backends by name and by their arrays: ours, registered ones, and those of other packages' entry points."""

import importlib.metadata
from types import SimpleNamespace

import numpy as np
import pytest

import pidsampler.backends
from pidsampler import FlowSDE, PidSamplerError, sample
from pidsampler.backends import BACKENDS, Backend, backend_of, get_backend, registry
from pidsampler.backends.numpy import NumpyBackend


@pytest.fixture(autouse=True)
def _as_new():
    """What a test registers is forgotten after it."""
    registry._made.cache_clear()
    yield
    for name in BACKENDS.keys() - {"numpy", "cupy"}:
        BACKENDS.unregister(name)
    registry._made.cache_clear()


class Box:
    """An array of a library of one's own."""


class Boxes(NumpyBackend):
    """A backend of boxes."""

    name = "boxes"

    @staticmethod
    def owns(x):
        return isinstance(x, Box)


def test_ours(cupy):
    assert get_backend("numpy") is get_backend("numpy")
    assert isinstance(get_backend("numpy"), NumpyBackend)
    assert get_backend("cupy") is get_backend("cupy")
    assert isinstance(get_backend("cupy"), Backend)
    assert backend_of(np.zeros(3)) is get_backend("numpy")
    assert backend_of(cupy.asarray(np.zeros(3))) is get_backend("cupy")
    assert backend_of([1.0]) is get_backend("numpy")  # whose adopt says what it makes of it


def test_an_object_is_taken_as_it_is():
    mine = NumpyBackend()
    assert get_backend(mine) is mine
    table, shape = FlowSDE([0.9, 0.0]).table(), (1, 3, 4, 4)
    one, other = (sample(lambda x, t: x, table, shape=shape, backend=backend) for backend in (mine, "numpy"))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("backend", [None, 1.5, NumpyBackend, object(), b"numpy", [1]])
def test_what_is_no_backend(backend):
    with pytest.raises(PidSamplerError, match=r"backend=.* is neither a name such as 'numpy' nor a backend object"):
        get_backend(backend)


def test_a_registered_one_is_found_by_name_and_by_its_arrays(monkeypatch):
    made = []

    class Counted(Boxes):
        def __init__(self):
            made.append(self)

    BACKENDS.register(Counted, name="boxes")
    assert made == []  # until it is asked for
    assert get_backend("boxes") is get_backend("boxes") is backend_of(Box())
    assert len(made) == 1
    assert backend_of(np.zeros(3)) is get_backend("numpy")
    with pytest.raises(PidSamplerError, match="unknown backend 'boxs': did you mean 'boxes'"):
        get_backend("boxs")
    with pytest.raises(PidSamplerError, match="there is a backend 'numpy' already"):
        BACKENDS.register(Counted, name="numpy")


def test_a_class_joins_by_its_own_name():
    BACKENDS.register(Boxes)
    assert isinstance(get_backend("boxes"), Boxes)


def test_what_cannot_be_registered():
    with pytest.raises(PidSamplerError, match="name=1 must be a text"):
        BACKENDS.register(Boxes, name=1)
    with pytest.raises(PidSamplerError, match=r"backend 'mine' .* is no function"):
        BACKENDS.register(object(), name="mine")
    BACKENDS.register(lambda: 3, name="none")
    with pytest.raises(PidSamplerError, match=r"factory .* made 3, which lacks a method of a Backend"):
        get_backend("none")


def test_other_packages_join_by_an_entry_point(monkeypatch):
    def broken():
        raise ImportError("no boxes here")

    entries = [
        SimpleNamespace(name="boxes", value="boxes:Boxes", load=lambda: Boxes),
        SimpleNamespace(name="broken", value="broken:It", load=broken),
        SimpleNamespace(name="numpy", value="usurper:It", load=broken),
    ]
    asked = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: asked.append(group) or entries)
    assert isinstance(get_backend("boxes"), Boxes)
    assert backend_of(Box()) is get_backend("boxes")
    assert type(get_backend("numpy")) is NumpyBackend
    with pytest.raises(PidSamplerError, match=r"backend 'broken' \(broken:It\) cannot be loaded: no boxes here"):
        get_backend("broken")
    assert set(asked) == {"pidsampler.backends"}


def test_what_0_1_could_do():
    backend, row = get_backend("numpy"), FlowSDE([0.9, 0.4, 0.0]).table().rows[0]
    x, m = np.full((2, 1, 3, 8), 0.5, np.float32)
    found, out = x.copy(), np.empty_like(x)
    with pytest.warns(DeprecationWarning, match=r"pass draw of NumpyBackend\.noise by keyword"):
        backend.noise(found, [3], 2)
    with pytest.warns(DeprecationWarning, match=r"pass m, saved, seeds of NumpyBackend\.step by keyword"):
        backend.step(row, found, m, [], [3])
    with pytest.warns(DeprecationWarning, match=r"pass m, out of NumpyBackend\.predict_x0 by keyword"):
        backend.predict_x0(row, x, m, out)
    expected, x0 = x.copy(), np.empty_like(x)
    backend.noise(expected, [3], draw=2)
    backend.step(row, expected, m=m, saved=[], seeds=[3])
    backend.predict_x0(row, x, m=m, out=x0)
    assert np.array_equal(found, expected)
    assert np.array_equal(out, x0)
    with pytest.warns(DeprecationWarning, match=r"pidsampler\.image\.despeckle\.DESPECKLE"):
        assert pidsampler.backends.DESPECKLE == 16.0
