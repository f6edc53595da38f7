"""Guidance beyond `Guided`: each formula written out anew, what the methods have in common, and wrong input."""

import numpy as np
import pytest
from fake_cupy import FakeCupy
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import convolve1d, zoom

from pidsampler import FlowODE, PidSamplerError, sample
from pidsampler.denoiser import (
    AdaptiveProjectedGuidance,
    CFGZeroStar,
    FrequencyDecoupledGuidance,
    Guided,
    RescaledGuidance,
)

RNG = np.random.default_rng(5)
X, TOLD, UNTOLD = RNG.standard_normal((3, 2, 3, 24, 16))
T = 0.6


def net(m):
    """A network whose output does not depend on x, in x's type."""
    return lambda x, t: m.astype(x.dtype)


CASES = {
    "rescaled": (RescaledGuidance, {"scale": 3.0}),
    "zero star": (CFGZeroStar, {"scale": 3.0}),
    "projected": (AdaptiveProjectedGuidance, {"scale": 3.0, "norm": 4.0}),
    "frequency": (FrequencyDecoupledGuidance, {"scales": (4.0, 2.0, 1.5)}),
}


def guided(name, *, told=TOLD, untold=UNTOLD, x=X, t=T, **more):
    kind, options = CASES[name]
    out = np.full_like(x, np.nan)
    kind(net(told), net(untold), **options | more).predict(x, t, out)
    return out


def each(a, b):
    return np.array([np.vdot(one, other) for one, other in zip(a, b, strict=True)])[:, None, None, None]


def test_rescaled():
    g = UNTOLD + 3.0 * (TOLD - UNTOLD)
    drawn = np.stack([one * wanted.std() / one.std() for one, wanted in zip(g, TOLD, strict=True)])
    assert_allclose(guided("rescaled"), 0.7 * drawn + 0.3 * g, rtol=1e-12)
    assert_allclose(guided("rescaled", rescale=0.0), g, rtol=1e-12)
    full = guided("rescaled", rescale=1.0)
    assert_allclose([one.std() for one in full], [one.std() for one in TOLD], rtol=1e-12)


def test_zero_star():
    s = each(TOLD, UNTOLD) / each(UNTOLD, UNTOLD)
    assert_allclose(guided("zero star"), s * UNTOLD + 3.0 * (TOLD - s * UNTOLD), rtol=1e-11, atol=1e-12)
    along = guided("zero star", untold=-0.5 * TOLD)  # nothing of the conditional one is left to overshoot
    assert_allclose(along, TOLD, rtol=1e-12)
    assert_array_equal(guided("zero star", zero_from=0.6), np.zeros_like(X))
    assert_allclose(guided("zero star", zero_from=0.7), guided("zero star"))


@pytest.mark.parametrize(
    ("prediction", "p", "q"), [("velocity", 1.0, -T), ("x0", 0.0, 1.0), ("eps", 1 / (1 - T), -T / (1 - T))]
)
@pytest.mark.parametrize(("eta", "norm"), [(0.0, None), (0.3, 7.0), (1.0, 0.5)])
def test_projected(prediction, p, q, eta, norm):
    x0 = p * X + q * TOLD
    d = q * (TOLD - UNTOLD)
    if norm is not None:
        d = d * np.minimum(1.0, norm / np.sqrt(each(d, d)))
    parallel = each(d, x0) / each(x0, x0) * x0
    expected = x0 + 2.0 * (d - parallel + eta * parallel)
    found = p * X + q * guided("projected", eta=eta, norm=norm, prediction=prediction)
    assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    if eta == 0.0:
        assert_allclose(each(found - x0, x0), 0.0, atol=1e-9)


def test_projected_with_all_of_it_is_plain_guidance():
    out = np.empty_like(X)
    Guided(net(TOLD), net(UNTOLD), 3.0).predict(X, T, out)
    assert_allclose(guided("projected", eta=1.0, norm=None), out, rtol=1e-12, atol=1e-12)


def test_momentum_adds_the_calls_before_and_begins_anew():
    outputs = RNG.standard_normal((4, *X.shape))
    told = iter(outputs)
    guidance = AdaptiveProjectedGuidance(
        lambda x, t: next(told), net(UNTOLD), scale=2.0, eta=1.0, momentum=-0.5, prediction="x0"
    )
    d, before = [m - UNTOLD for m in outputs], None
    for k, t in enumerate((0.9, 0.5, 0.5, 0.2)):  # the third call begins anew
        before = d[k] if k in (0, 2) else d[k] - 0.5 * before
        out = np.empty_like(X)
        guidance.predict(X, t, out)
        assert_allclose(out, outputs[k] + before, rtol=1e-12, atol=1e-12)


def pyramid(x, bands):
    """The bands of a Laplacian pyramid, each brought to full size, by other means than the package's."""

    def blurred(x):
        for axis in (2, 3):
            x = convolve1d(x, np.array([1, 4, 6, 4, 1]) / 16, axis=axis, mode="mirror")
        return x

    def down(x):
        b = blurred(x)
        return b.reshape(*b.shape[:2], b.shape[2] // 2, 2, b.shape[3] // 2, 2).mean(axis=(3, 5))

    def up(x):
        return blurred(zoom(x, (1, 1, 2, 2), order=1, mode="nearest", grid_mode=True))

    levels = [x]
    for _ in range(bands - 1):
        levels.append(down(levels[-1]))
    found = []
    for k, level in enumerate(levels):
        band = level - up(levels[k + 1]) if k + 1 < bands else level
        for _ in range(k):
            band = up(band)
        found.append(band)
    return found


def test_frequency():
    scales = (4.0, 2.0, 1.5)
    bands = pyramid(TOLD - UNTOLD, 3)
    assert_allclose(sum(bands), TOLD - UNTOLD, atol=1e-13)
    expected = TOLD + sum((scale - 1.0) * band for scale, band in zip(scales, bands, strict=True))
    assert_allclose(guided("frequency"), expected, rtol=0, atol=1e-13)
    out = np.empty_like(X)
    Guided(net(TOLD), net(UNTOLD), 2.5).predict(X, T, out)
    assert_allclose(guided("frequency", scales=(2.5, 2.5)), out, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_the_conditional_network_alone_where_that_is_enough(name):
    kind, options = CASES[name]

    def forbidden(x, t):
        raise AssertionError("the unconditional network is called")

    one = {"scales": (1.0, 1.0)} if "scales" in options else {"scale": 1.0}
    for more in (one, {"interval": (0.0, 0.5)}, {"interval": (0.7, 1.0)}):
        out = np.empty_like(X)
        kind(net(TOLD), forbidden, **options | more).predict(X, T, out)
        assert_array_equal(out, TOLD)


@pytest.mark.parametrize("name", CASES)
def test_float32_and_networks_that_agree(name):
    x, m = X.astype(np.float32), TOLD.astype(np.float32)
    found = guided(name, told=m, untold=UNTOLD.astype(np.float32), x=x)
    assert found.dtype == np.float32
    assert_allclose(found, guided(name), rtol=0, atol=2e-5 * np.abs(found).max())
    agreed = guided(name, told=m, untold=m, x=x)
    assert_allclose(agreed, m, rtol=0, atol=1e-5)
    assert np.isfinite(guided(name, told=0.0 * m, untold=0.0 * m, x=0.0 * x)).all()


@pytest.mark.parametrize("name", CASES)
def test_cupys_arrays_give_the_same(name, tmp_path, monkeypatch):
    cupy = FakeCupy(tmp_path)
    kind, options = CASES[name]
    x, told, untold = (cupy.asarray(a.astype(np.float32)) for a in (X, TOLD, UNTOLD))
    out = cupy.empty(x.shape, np.float32)
    momentum = {"momentum": -0.5} if name == "projected" else {}
    guidance = kind(lambda x, t: told, lambda x, t: untold, **options | momentum)
    guidance.predict(x, T, out)
    guidance.predict(x, 0.5 * T, out)
    twin = kind(net(TOLD), net(UNTOLD), **options | momentum)
    expected = np.empty(X.shape, np.float32)
    for t in (T, 0.5 * T):
        twin.predict(X.astype(np.float32), t, expected)
    assert_allclose(out.get(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_samples_with_any_sampler():
    for name in CASES:
        kind, options = CASES[name]
        guidance = kind(lambda x, t: 0.5 * x, lambda x, t: 0.3 * x, **options)
        x = sample(guidance, FlowODE([0.9, 0.5, 0.0]), shape=(2, 3, 12, 12))
        assert np.isfinite(x).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RescaledGuidance(net(X), net(X), scale=2, rescale=1.5), r"rescale=1\.5 must be a finite number in"),
        (lambda: CFGZeroStar(net(X), net(X), scale=2, zero_from=0), r"zero_from=0 must be"),
        (lambda: AdaptiveProjectedGuidance(net(X), net(X), scale=2, eta=2), "eta=2 must be"),
        (lambda: AdaptiveProjectedGuidance(net(X), net(X), scale=2, norm=0), "norm=0 must be"),
        (lambda: AdaptiveProjectedGuidance(net(X), net(X), scale=2, momentum=-2), "momentum=-2 must be"),
        (lambda: AdaptiveProjectedGuidance(net(X), net(X), scale=2, prediction="v"), "velocity"),
        (lambda: FrequencyDecoupledGuidance(net(X), net(X), scales=[2]), r"scales=\[2\] must be 2 to 8 numbers"),
        (lambda: FrequencyDecoupledGuidance(net(X), net(X), scales=[2, 1], interval=(0.5, 0.2)), "interval"),
        (
            lambda: guided("frequency", x=X[:, :, :22], told=TOLD[:, :, :22], untold=UNTOLD[:, :, :22]),
            r"3 bands need images whose sides are multiples of 4, from 12 on, found shape \(2, 3, 22, 16\)",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(PidSamplerError, match=message):
        make()
