"""Guidance: Denoisers of a conditional and an unconditional network.

Each is the conditional network where the scale is 1. A table may guide by its own rows instead, where a method needs
the two outputs apart, as CFG++: it then takes the pair of networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError
from ..table import check_prediction, x0_weights
from ..values import number, numbers, shown
from .base import Array, NetworkLike, as_denoiser, time_of

Interval = tuple[float, float]


class _Guidance:
    """What all have: two networks, a scale, and the noise levels within which to guide."""

    def __init__(
        self, conditional: NetworkLike, unconditional: NetworkLike, scale: float, interval: Interval = (0.0, 1.0)
    ) -> None:
        self.conditional, self.unconditional = as_denoiser(conditional), as_denoiser(unconditional)
        ends = numbers("interval", interval)
        if len(ends) != 2 or not 0.0 <= ends[0] <= ends[1] <= 1.0:
            raise ConfigError(f"guidance interval {shown(interval)} must keep 0 <= lowest <= highest <= 1")
        self.scale, self.interval = number("scale", scale), (ends[0], ends[1])
        self._told: Array = None

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the guided output at x, t in (0, 1]; one network call where one is enough, else two."""
        t = time_of(t)
        lowest, highest = self.interval
        if self._is_conditional or not lowest <= t <= highest:
            self.conditional.predict(x, t, out)
            return
        self.unconditional.predict(x, t, out)
        told = self._told
        if type(told) is not type(x) or told.shape != x.shape or told.dtype != x.dtype:
            # To be written over. CuPy's arrays have no namespace to ask for an empty one, others have no copy().
            self._told = told = x.copy() if hasattr(x, "copy") else x + 0
        self.conditional.predict(x, t, told)
        self._combine(x, t, told, out)

    @property
    def _is_conditional(self) -> bool:
        return self.scale == 1.0

    def _combine(self, x: Array, t: float, told: Array, out: Array) -> None:
        """Make of the unconditional output in `out` the guided one; `told`, the conditional one, may be overwritten."""
        raise NotImplementedError


class Guided(_Guidance):
    """Classifier-free guidance: m = m_uncond + scale*(m_cond - m_uncond), a Denoiser of two.

    Guidance is linear, so it means the same for a velocity, x0 or eps, and any table takes it.

    Args:
        conditional: A Denoiser or callable net(x, t) -> m, with the conditions bound.
        unconditional: The same without them (or with the negative ones).
        scale: Guidance scale: 1 is the conditional alone, 0 the unconditional alone, above 1 overshoots.
        interval: Noise levels (lowest, highest) within which to guide; elsewhere only the conditional is called
            (Kynkaanniemi et al., arXiv 2404.07724).

    Raises:
        PidSamplerError: A network is none, the scale is not finite, or the interval is not within 0..1.

    Source: Ho and Salimans, arXiv 2207.12598, equation 6 with scale = 1 + w.
    """

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the guided output at x, t in (0, 1]; one network call where one is enough, else two."""
        t = time_of(t)
        if self.scale == 0.0 and self.interval[0] <= t <= self.interval[1]:
            self.unconditional.predict(x, t, out)
            return
        super().predict(x, t, out)

    def _combine(self, x: Array, t: float, told: Array, out: Array) -> None:
        told -= out
        told *= self.scale
        out += told


class RescaledGuidance(_Guidance):
    """Guidance whose output is drawn back to the conditional one's standard deviation, against overexposure.

        g = m_uncond + scale*(m_cond - m_uncond),    m = (rescale*std(m_cond)/std(g) + 1 - rescale) * g

    The standard deviations are those of each image, over all of its elements.

    Args:
        conditional: As in `Guided`, and so are unconditional, scale and interval.
        unconditional: The network without the conditions.
        scale: Guidance scale.
        rescale: How far it is drawn back, 0..1; 0 is `Guided`.
        interval: Noise levels within which to guide.

    Raises:
        PidSamplerError: As `Guided`; or rescale is not in 0..1.

    Source: Lin et al., arXiv 2305.08891, equations 15 and 16.
    """

    def __init__(
        self,
        conditional: NetworkLike,
        unconditional: NetworkLike,
        *,
        scale: float,
        rescale: float = 0.7,
        interval: Interval = (0.0, 1.0),
    ) -> None:
        super().__init__(conditional, unconditional, scale, interval)
        self.rescale = number("rescale", rescale, low=0, high=1)

    def _combine(self, x: Array, t: float, told: Array, out: Array) -> None:
        wanted = _per_image(told).std(axis=1, dtype=np.float64)
        told -= out
        told *= self.scale
        out += told
        found = np.maximum(_per_image(out).std(axis=1, dtype=np.float64), _TINY)
        out *= _over(out, self.rescale * (wanted / found) + (1.0 - self.rescale))


class CFGZeroStar(_Guidance):
    """CFG-Zero*: guidance from the unconditional velocity, scaled to be as near to the conditional one as it can.

        m = s*m_uncond + scale*(m_cond - s*m_uncond),    s = <m_cond, m_uncond> / |m_uncond|^2 for each image

    At noise levels from `zero_from` up the velocity is 0 and no network is called (zero-init): x stays as it is.

    Args:
        conditional: As in `Guided`, and so are unconditional, scale and interval; both predict the velocity.
        unconditional: The network without the conditions.
        scale: Guidance scale.
        zero_from: Lowest noise level of the zero velocity, such as the first time of the list; None is no zero-init.
        interval: Noise levels within which to guide.

    Raises:
        PidSamplerError: As `Guided`; or zero_from is not in (0, 1].

    Source: Fan et al., arXiv 2503.18886, equations 7 to 10 and algorithm 1.
    """

    def __init__(
        self,
        conditional: NetworkLike,
        unconditional: NetworkLike,
        *,
        scale: float,
        zero_from: float | None = None,
        interval: Interval = (0.0, 1.0),
    ) -> None:
        super().__init__(conditional, unconditional, scale, interval)
        self.zero_from = None if zero_from is None else number("zero_from", zero_from, low=0, high=1, above=True)

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the guided velocity at x, t in (0, 1]; no network call, one, or two."""
        if self.zero_from is not None and time_of(t) >= self.zero_from:
            out[...] = 0.0
            return
        super().predict(x, t, out)

    def _combine(self, x: Array, t: float, told: Array, out: Array) -> None:
        out *= _over(out, _dot(told, out) / np.maximum(_dot(out, out), _TINY))
        told -= out
        told *= self.scale
        out += told


class AdaptiveProjectedGuidance(_Guidance):
    """APG: guidance without, or with less of, its part along the conditional x0, which oversaturates colors.

    On x0 = p*x + q*m, for each image: d = x0_cond - x0_uncond, plus `momentum` times the d of the call before. Then d
    is shortened to a norm of at most `norm`, and x0 = x0_cond + (scale - 1)*(d_orthogonal + eta*d_parallel). Parallel
    is what lies along x0_cond.

    Momentum makes it remember the calls of one run: they must come at falling noise levels, and a run at a time. Each
    call at a higher noise level, and at one and the same, begins anew.

    Args:
        conditional: As in `Guided`, and so are unconditional, scale and interval.
        unconditional: The network without the conditions.
        scale: Guidance scale.
        eta: Share of the parallel part that stays; 1 keeps all of it.
        norm: Largest Euclidean norm of d for an image, r in the paper; None does not bound it.
        momentum: Beta in the paper, within -1..1: its own are -0.75 to 0. Negative pushes away from the calls before.
        prediction: What the networks predict: "velocity", "x0" or "eps".
        interval: Noise levels within which to guide.

    Raises:
        PidSamplerError: As `Guided`; a number is out of its range; or the prediction is unknown.

    Source: Sadat et al., arXiv 2410.02416, section 4 and algorithm 1.
    """

    def __init__(
        self,
        conditional: NetworkLike,
        unconditional: NetworkLike,
        *,
        scale: float,
        eta: float = 0.0,
        norm: float | None = None,
        momentum: float = 0.0,
        prediction: str = "velocity",
        interval: Interval = (0.0, 1.0),
    ) -> None:
        super().__init__(conditional, unconditional, scale, interval)
        self.eta = number("eta", eta, low=0, high=1)
        self.norm = None if norm is None else number("norm", norm, low=0, above=True)
        self.momentum = number("momentum", momentum, low=-1, high=1)
        self.prediction = check_prediction(prediction)
        self._before: tuple[float, Array] | None = None  # the noise level and d of the call before

    def _combine(self, x: Array, t: float, told: Array, out: Array) -> None:
        p, q = x0_weights(self.prediction, t)
        out -= told
        out *= -q  # d
        if self.momentum:
            before, self._before = self._before, None
            if before is not None and t < before[0] and type(before[1]) is type(out) and before[1].shape == out.shape:
                out += self.momentum * before[1]
            self._before = t, out.copy()
        if self.norm is not None:
            out *= _over(out, self.norm / np.maximum(np.sqrt(_dot(out, out)), self.norm))
        x0 = q * told + p * x
        x0 *= _over(x0, (1.0 - self.eta) * _dot(out, x0) / np.maximum(_dot(x0, x0), _TINY))
        out -= x0
        out *= (self.scale - 1.0) / q
        out += told


class FrequencyDecoupledGuidance(_Guidance):
    """FDG: guidance with a scale of its own for each band of a Laplacian pyramid.

        m = m_cond + sum_k (scales[k] - 1)*band_k(m_cond - m_uncond)

    It is linear, so it means the same for a velocity, x0 or eps. Equal scales are `Guided`.

    Args:
        conditional: As in `Guided`, and so are unconditional and interval.
        unconditional: The network without the conditions.
        scales: Guidance scales from the finest band to what is left, two at least. High ones sharpen, and low ones keep
            colors and composition.
        interval: Noise levels within which to guide.

    Raises:
        PidSamplerError: As `Guided`; there is one scale; or an image's sides are no multiples of 2^(bands - 1), or too
            small.

    Source: Sadat et al., arXiv 2506.19713, section 4. The pyramid is kornia's: blurred with (1, 4, 6, 4, 1)/16 at
    mirrored edges, halved and doubled bilinearly.
    """

    def __init__(
        self,
        conditional: NetworkLike,
        unconditional: NetworkLike,
        *,
        scales: Sequence[float],
        interval: Interval = (0.0, 1.0),
    ) -> None:
        self.scales = numbers("scales", scales)
        if not 2 <= len(self.scales) <= _MOST_BANDS:
            raise ConfigError(f"scales={shown(scales)} must be 2 to {_MOST_BANDS} numbers, from the finest band down")
        super().__init__(conditional, unconditional, self.scales[0], interval)

    @property
    def _is_conditional(self) -> bool:
        return set(self.scales) == {1.0}

    def _combine(self, x: Array, t: float, told: Array, out: Array) -> None:
        unit = 2 ** (len(self.scales) - 1)
        if out.ndim != 4 or any(n % unit or n < 3 * unit for n in out.shape[2:]):
            raise ConfigError(
                f"{len(self.scales)} bands need images whose sides are multiples of {unit}, from {3 * unit} on, found "
                f"shape {tuple(out.shape)}"
            )
        out -= told
        out *= -1.0
        out[...] = _weighted(out, [scale - 1.0 for scale in self.scales])
        out += told


_TINY = np.finfo(np.float64).tiny  # in place of a zero that would be divided by
_MOST_BANDS = 8


def _per_image(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


def _dot(a: Array, b: Array) -> Array:
    """Inner product of each image, float64 (B,)."""
    return _per_image(a * b).sum(axis=1, dtype=np.float64)


def _over(x: Array, factors: Array) -> Array:
    """A factor for each image, shaped to multiply x, in x's type."""
    return factors.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _weighted(d: Array, weights: Sequence[float]) -> Array:
    """The sum of a Laplacian pyramid's bands by weights, as large as d."""
    if len(weights) == 1:
        return weights[0] * d
    low = _halved(d)
    rest = _weighted(low, weights[1:])
    low *= weights[0]
    rest -= low
    found = _doubled(rest, d)
    found += weights[0] * d
    return found


def _halved(x: Array) -> Array:
    blurred = _blurred(_blurred(x, 2), 3)
    total = blurred[:, :, ::2, ::2] + blurred[:, :, 1::2, ::2]
    total += blurred[:, :, ::2, 1::2]
    total += blurred[:, :, 1::2, 1::2]
    total *= 0.25
    return total


def _doubled(x: Array, like: Array) -> Array:
    """x at twice the size, that of `like`."""
    tall = _stretched(x, like[:, :, :, ::2].copy(), 2)
    return _blurred(_blurred(_stretched(tall, like.copy(), 3), 2), 3)


def _stretched(x: Array, out: Array, axis: int) -> Array:
    """Linear interpolation at quarters along an axis; what lies outside is the edge."""
    x, wide = x.swapaxes(axis, 3), out.swapaxes(axis, 3)  # views
    wide[..., ::2] = 0.75 * x
    wide[..., 1::2] = wide[..., ::2]
    x = 0.25 * x
    wide[..., 2::2] += x[..., :-1]
    wide[..., :1] += x[..., :1]
    wide[..., 1:-1:2] += x[..., 1:]
    wide[..., -1:] += x[..., -1:]
    return out


def _blurred(x: Array, axis: int) -> Array:
    """x blurred with (1, 4, 6, 4, 1)/16 along an axis, mirrored about its first and last element."""
    x = x.swapaxes(axis, 3)
    out, near, far = 0.375 * x, 0.25 * x, 0.0625 * x
    out[..., 1:] += near[..., :-1]
    out[..., :-1] += near[..., 1:]
    out[..., 2:] += far[..., :-2]
    out[..., :-2] += far[..., 2:]
    out[..., :1] += near[..., 1:2] + far[..., 2:3]
    out[..., 1:2] += far[..., 1:2]
    out[..., -1:] += near[..., -2:-1] + far[..., -3:-2]
    out[..., -2:-1] += far[..., -2:-1]
    return out.swapaxes(axis, 3)
