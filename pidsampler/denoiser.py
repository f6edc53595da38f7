"""Denoisers: what the sampler asks of a network, guidance, and closed-form ones whose exact answer is known.

The closed-form flows are for tests and research: with x_t = (1 - t)*x0 + t*eps and x0 Gaussian or a mixture of
Gaussians, the velocity v = E[eps - x0 | x_t] has an exact formula, so a sampler's error is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from .errors import ConfigError, ModelError
from .values import number, numbers, shown, whole

Array = Any


@runtime_checkable
class Denoiser(Protocol):
    """A network whose conditions were bound when it was made.

    One that reads or writes another type than the state's may say so by attributes `input_dtype` and `output_dtype`;
    `sample` then gives it x and `out` of those, so that nothing is converted in a pass of its own.
    """

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the network's output for the noisy images x at noise level t into `out`.

        Args:
            x: float32 or float64 (B, 3, H, W) on the backend's device; not to be changed.
            t: Noise level in (0, 1].
            out: Array like x, for the velocity (or what else the table expects).
        """
        ...


NetworkLike = Denoiser | Callable[[Any, float], Any]
# Or (conditional, unconditional), for tables whose rows ask both.
DenoiserLike = NetworkLike | tuple[NetworkLike, NetworkLike]


def as_denoiser(network: DenoiserLike) -> Denoiser:
    """Return a Denoiser as it is, one around a callable net(x, t) -> m, or the `Pair` of a tuple of two.

    Raises:
        PidSamplerError: The network is no Denoiser and cannot be called.
    """
    if callable(getattr(network, "predict", None)):
        return cast(Denoiser, network)
    if callable(network):
        return _Function(network)
    if isinstance(network, tuple) and len(network) == 2:
        return Pair(*network)
    raise ConfigError(
        "expected a Denoiser with predict(x, t, out), a callable net(x, t), or a tuple (conditional, unconditional) of "
        f"two such, found {shown(network)}"
    )


def network_of(denoiser: DenoiserLike, net: int) -> Denoiser:
    """Return the one of a denoiser's networks that a row asks: 0 the conditional, 1 the unconditional.

    Raises:
        PidSamplerError: As `as_denoiser`; or the unconditional one is asked, and there is one network only.
    """
    denoiser = as_denoiser(denoiser)
    networks: tuple[Denoiser, ...] = getattr(denoiser, "networks", (denoiser,))
    if whole("net", net, low=0, high=1) < len(networks):
        return networks[net]
    what = "Guided, which guides by itself" if isinstance(denoiser, Guided) else "one network"
    raise ConfigError(
        f"the sampler's rows ask a conditional and an unconditional network, found {what}: pass the tuple "
        "(conditional, unconditional)"
    )


class Pair:
    """A conditional and an unconditional network, between which a table's rows choose by `net`.

    Args:
        conditional: A Denoiser or callable net(x, t) -> m, with the conditions bound.
        unconditional: The same without them (or with the negative ones).

    Raises:
        PidSamplerError: A network is none.
    """

    def __init__(self, conditional: NetworkLike, unconditional: NetworkLike) -> None:
        self.networks = (as_denoiser(conditional), as_denoiser(unconditional))

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the conditional network's output, for who asks no row's network."""
        self.networks[0].predict(x, t, out)


class _Function:
    def __init__(self, function: Callable[[Any, float], Any]) -> None:
        self._function = function

    def predict(self, x: Array, t: float, out: Array) -> None:
        m = self._function(x, t)
        if getattr(m, "shape", None) != out.shape:
            raise ModelError(f"the network returned shape {getattr(m, 'shape', None)}, expected that of x, {out.shape}")
        out[...] = m


class Guided:
    """Classifier-free guidance: m = m_uncond + scale*(m_cond - m_uncond), a Denoiser of two.

    Guidance is linear, so it means the same for a velocity, x0 or eps, and any table takes it. A table may guide by its
    own rows instead, where a method needs the two outputs apart, as CFG++: it then takes the pair of networks.

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

    def __init__(
        self,
        conditional: NetworkLike,
        unconditional: NetworkLike,
        scale: float,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.conditional, self.unconditional = as_denoiser(conditional), as_denoiser(unconditional)
        ends = numbers("interval", interval)
        if len(ends) != 2 or not 0.0 <= ends[0] <= ends[1] <= 1.0:
            raise ConfigError(f"guidance interval {shown(interval)} must keep 0 <= lowest <= highest <= 1")
        self.scale, self.interval = number("scale", scale), (ends[0], ends[1])
        self._other: Array = None

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the guided output at x, t in (0, 1]; one network call where one is enough, else two."""
        t = _time(t)
        lowest, highest = self.interval
        if self.scale == 1.0 or not lowest <= t <= highest:
            self.conditional.predict(x, t, out)
            return
        self.unconditional.predict(x, t, out)
        if self.scale == 0.0:
            return
        kept = self._other
        if type(kept) is not type(x) or kept.shape != x.shape or kept.dtype != x.dtype:
            # To be written over. CuPy's arrays have no namespace to ask for an empty one, others have no copy().
            self._other = x.copy() if hasattr(x, "copy") else x + 0
        self.conditional.predict(x, t, self._other)
        self._other -= out
        self._other *= self.scale
        out += self._other


class Gaussian:
    """Exact velocity of the flow whose clean images are N(mean, std^2), independently per element.

    With variance D = (1 - t)^2*std^2 + t^2 of x_t and r = (x - (1 - t)*mean) / D,
    E[x0] = mean + (1 - t)*std^2*r and E[eps] = t*r, so v = (t - (1 - t)*std^2)*r - mean.

    Args:
        mean: A number, or an array that broadcasts against x.
        std: Above or equal to 0, in x's unit; a number or an array like mean.

    Raises:
        PidSamplerError: std is negative or something is not finite.
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = _law("mean", mean), _law("std", std)
        _check_law(self.mean, self.std)

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the exact velocity at x, t in (0, 1]."""
        t = _time(t)
        variance = self.std**2
        out[...] = x - (1.0 - t) * self.mean
        out *= (t - (1.0 - t) * variance) / ((1.0 - t) ** 2 * variance + t**2)
        out -= self.mean


class GaussianMixture:
    """Exact velocity of the flow whose clean elements are drawn from a mixture of Gaussians, each on its own.

    v is the mean of the components' velocities (see `Gaussian`) under the posterior weights
    proportional to weights[k] * N(x; (1 - t)*means[k], D[k]). It is computed by numpy's functions, which CuPy's arrays
    carry out themselves.

    Args:
        means: K numbers.
        stds: K numbers, above or equal to 0.
        weights: K numbers above 0; they are normalised to sum to 1.

    Raises:
        PidSamplerError: The lengths differ, a std is negative, a weight is not above 0, or one is not finite.
    """

    def __init__(self, means: Sequence[float], stds: Sequence[float], weights: Sequence[float]) -> None:
        self.means, self.stds = np.array(numbers("means", means)), np.array(numbers("stds", stds))
        self.weights = np.array(numbers("weights", weights))
        if not self.means.shape == self.stds.shape == self.weights.shape:
            raise ConfigError(
                f"a mixture needs as many means ({len(means)}) as stds ({len(stds)}) and weights ({len(weights)})"
            )
        _check_law(self.means, self.stds)
        if not len(self.weights) or not (self.weights > 0).all():
            raise ConfigError(f"mixture weights must be above 0, found {shown(weights)}")
        self.weights /= self.weights.sum()

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the exact velocity at x, t in (0, 1]."""
        t = _time(t)
        laws = [(float(m), float(s) ** 2) for m, s in zip(self.means, self.stds, strict=True)]
        spreads = [(1.0 - t) ** 2 * v + t**2 for _, v in laws]
        logs = [
            np.square(x - (1.0 - t) * mean) * (-0.5 / d) + (np.log(w) - 0.5 * np.log(d))
            for (mean, _), d, w in zip(laws, spreads, self.weights.tolist(), strict=True)
        ]
        highest = logs[0]
        for log in logs[1:]:
            highest = np.maximum(highest, log)
        total = x.copy()
        total[...] = 0.0
        out[...] = 0.0
        for (mean, variance), d, log in zip(laws, spreads, logs, strict=True):
            weight = np.exp(log - highest)
            total += weight
            out += weight * ((x - (1.0 - t) * mean) * ((t - (1.0 - t) * variance) / d) - mean)
        out /= total


def _time(t: float) -> float:
    return number("t", t, low=0, high=1, above=True)


def _law(name: str, value: Any) -> Any:
    """A number, or an array as it is."""
    return value if getattr(value, "ndim", 0) else number(name, value)


def _check_law(mean: Any, std: Any) -> None:
    if not np.isfinite(mean).all() or not np.isfinite(std).all() or np.any(np.less(std, 0)):
        raise ConfigError(f"a Gaussian needs a finite mean and a finite std >= 0, found {shown(mean)} and {shown(std)}")
