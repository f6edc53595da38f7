"""What the sampler asks of a network, and which of two networks a row asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

from ..errors import ConfigError, ModelError
from ..values import number, shown, whole
from .torch import TorchNetwork, is_module

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
"""A `Denoiser`, or any function net(x, t) -> m."""

DenoiserLike = NetworkLike | tuple[NetworkLike, NetworkLike]
"""A network, or (conditional, unconditional), for tables whose rows ask both."""


def as_denoiser(network: DenoiserLike) -> Denoiser:
    """Return a Denoiser as it is, one around a callable net(x, t) -> m, or the `Pair` of a tuple of two.

    A torch.nn.Module is called with tensors, see `TorchNetwork`.

    Raises:
        PidSamplerError: The network is no Denoiser and cannot be called.
    """
    if callable(getattr(network, "predict", None)):
        return cast(Denoiser, network)
    if is_module(network):
        return TorchNetwork(network)
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

    Args:
        denoiser: Network, or a pair of two.
        net: Network that is asked, 0 or 1.

    Raises:
        PidSamplerError: As `as_denoiser`; or the unconditional one is asked, and there is one network only.
    """
    denoiser = as_denoiser(denoiser)
    networks: tuple[Denoiser, ...] = getattr(denoiser, "networks", (denoiser,))
    if whole("net", net, low=0, high=1) < len(networks):
        return networks[net]
    what = "one that is guided already" if hasattr(denoiser, "unconditional") else "one network"
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
        """Write the conditional network's output, for a caller that names neither."""
        self.networks[0].predict(x, t, out)


class _Function:
    def __init__(self, function: Callable[[Any, float], Any]) -> None:
        self._function = function

    def predict(self, x: Array, t: float, out: Array) -> None:
        m = self._function(x, t)
        if getattr(m, "shape", None) != out.shape:
            raise ModelError(f"the network returned shape {getattr(m, 'shape', None)}, expected that of x, {out.shape}")
        out[...] = m


def time_of(t: float) -> float:
    """Return the noise level that a network is asked at, checked: in (0, 1]."""
    return number("t", t, low=0, high=1, above=True)
