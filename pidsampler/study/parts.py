"""The parts of a study: what may stand in place of a model, what results are compared with, what a report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from .. import moved
from ..denoiser import DenoiserLike, GaussianMixture, as_denoiser
from ..errors import ConfigError, PidSamplerError, unknown_name
from ..table import PREDICTIONS
from ..values import field, flag, instance, mapping, number, numbers, shown, word
from ..values import shape as shape_

_SHAPE = (3, 128, 256)  # of a flow
_FORM = ("shape", "interval")  # keys of a flow beside those of its law


def _shape(name: str, value: object) -> tuple[int, int, int]:
    found = shape_(name, value)
    if len(found) != 3 or found[0] != 3:
        raise ConfigError(f"{name}={shown(value)}, expected [3, height, width]")
    return found[0], found[1], found[2]


def _interval(name: str, value: object) -> tuple[float, float]:
    found = numbers(name, value, low=0.0, high=1.0)
    if len(found) != 2 or found[0] <= found[1]:
        raise ConfigError(f"{name}={shown(value)}, expected two descending noise levels in 0..1")
    return found


def _sizes(name: str, value: object) -> tuple[int, int, int]:
    if len(found := shape_(name, value)) != 3:
        raise ConfigError(f"{name}={shown(value)}, expected (channels, height, width)")
    return found[0], found[1], found[2]


def _network(name: str, value: object) -> Any:
    as_denoiser(value)  # type: ignore[arg-type]
    return value


@moved.keywords()
@attrs.frozen(kw_only=True)
class Flow:
    """A closed-form flow under a name of the study's, to be used as a model.

    Args:
        law: Distribution of each element, independent of the others.
        shape: (3, H, W): how many are drawn with a seed.
        interval: Noise levels to sample between. Every list of times is scaled to it; a run starts from the exact
            state there, and is compared with the exact one at its end. Methods keep their order only within t = 1 and
            0, where the velocity has no bounded derivatives.

    Raises:
        PidSamplerError: A value is not as described.
    """

    law: GaussianMixture = field(instance, kind=GaussianMixture, words="a GaussianMixture")
    shape: tuple[int, int, int] = field(_shape)
    interval: tuple[float, float] = field(_interval, default=(1.0, 0.0))

    def at(self, t: float) -> GaussianMixture:
        """Return the law of the noisy elements at noise level t.

        Raises:
            PidSamplerError: t is outside 0..1.
        """
        t = number("t", t, low=0.0, high=1.0)
        stds = np.hypot((1.0 - t) * self.law.stds, t)
        return GaussianMixture(((1.0 - t) * self.law.means).tolist(), stds.tolist(), self.law.weights.tolist())


@attrs.frozen(eq=False)
class Network:
    """A network of one's own, to be used as a model: it is sampled from noise, without a picture to enlarge.

    Args:
        net: A Denoiser, a callable net(x, t) -> m, or a tuple (conditional, unconditional) of two, with their
            conditions bound. x is float32 (1, C, H, W), t in (0, 1].
        shape: (C, H, W). With 3 channels a result is a picture too, whose -1..1 are black and white.
        prediction: What it predicts: "velocity" (eps - x0), "x0" or "eps".
        name: What a study calls it; None takes the function's or the class' name.

    Raises:
        PidSamplerError: A value is not as described.
    """

    net: DenoiserLike = field(_network, repr=shown)
    shape: tuple[int, int, int] = field(_sizes, kw_only=True)
    prediction: str = field(word, choices=PREDICTIONS, kw_only=True, default="velocity")
    name: str | None = field(word, optional=True, kw_only=True, default=None)


@attrs.frozen(kw_only=True)
class Truth:
    """What results are compared with, beside the preset's.

    Args:
        converged: The spec that stands for the exact ODE solution of a network.
        reduce: Whether the images are references, each of which is reduced by the model's scale first.
        references: Folder of high-resolution pictures of the images' names, or None.

    Raises:
        PidSamplerError: Both `reduce` and `references` are given, or a value is of a wrong kind.
    """

    converged: str = field(word, default="dpmpp-2m@uniform:64")
    reduce: bool = field(flag, default=False)
    references: str | None = field(word, optional=True, default=None)

    def __attrs_post_init__(self) -> None:
        if self.reduce and self.references is not None:
            raise ConfigError("reduce makes the images their own references: leave 'references' out, or reduce")


def _choice(name: str, value: object, *, choices: Sequence[str]) -> str:
    if (found := word(name, value)) not in choices:
        raise unknown_name(f"choice of {name}", found, known=choices)
    return found


@attrs.frozen(kw_only=True)
class ReportOptions:
    """What a report says and holds.

    Args:
        title: Title, a word or two.
        question: Question to answer, one sentence.
        pictures: "first" keeps the pictures of each image's first seed, "all" those of every one.
        album: Megabytes of pictures in the report.

    Raises:
        PidSamplerError: There is no such choice of pictures, or a value is of a wrong kind.
    """

    title: str = field(word, default="study")
    question: str = field(word, default="")
    pictures: str = field(_choice, choices=("first", "all"), default="first")
    album: float = field(number, low=0.0, default=30.0)


def flow_of(name: str, values: Mapping[str, Any]) -> Flow:
    """Return the `Flow` of a study file's table: means, stds, weights, shape and interval.

    Raises:
        PidSamplerError: A key is unknown, or a value is not as described.
    """
    word("name", name)
    mapping("values", values, words="values")
    known = ("means", "stds", "weights", *_FORM)
    for key in values:
        if key not in known:
            raise ConfigError(f"flow {name!r}: {unknown_name('key', key, known=known)}")
    try:
        law = GaussianMixture(values["means"], values["stds"], values.get("weights", [1.0] * len(values["means"])))
        return Flow(law=law, **{"shape": _SHAPE, **{key: values[key] for key in _FORM if key in values}})
    except PidSamplerError as error:
        raise ConfigError(f"flow {name!r}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"flow {name!r} needs lists of numbers means, stds and weights: {error!r}") from error
