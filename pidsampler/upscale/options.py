"""The options of a result, declared once: `Upscaler`, folders and the command line take theirs from here."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, unknown_name
from ..io import captions
from ..noise import NoiseFunction
from ..schedulers.making import SamplerLike, is_made
from ..values import field, instance, mapping, number, shown, whole, words
from .finish import Finish

F = TypeVar("F", bound=Callable[..., Any])

# Order of what version 0.1 took by position after the image and the sampler.
_BY_POSITION = ("seed", "degrade_sigma", "noise", "on_step", "caption", "finish", "progress")


def _sampler(name: str, value: object) -> Any:
    if not isinstance(value, str) and not is_made(value) and not callable(value):
        raise ConfigError(f"{name}={shown(value)} must be a spec, a scheduler or StepTable, or what makes one")
    return value


def _noise(name: str, value: object) -> Any:
    if not isinstance(value, str) and not callable(value):
        raise ConfigError(f"{name}={shown(value)} must be a name or a function (seed, draw, shape) -> array")
    return value


def _caption(name: str, value: object) -> NDArray[np.float32]:
    embedding = captions.checked(value).copy()
    embedding.flags.writeable = False
    return embedding


def _finish(name: str, value: object) -> Finish:
    return Finish() if value is None else instance(name, value, kind=Finish, words="a Finish")


def _content(caption: NDArray[np.float32] | None) -> object:
    return None if caption is None else (caption.shape, caption.tobytes())


@attrs.frozen
class Options:
    """What a result depends on beside its image and the model.

    Args:
        sampler: A sampler that ends at 0, in any form of `get_scheduler`, over the model's own timesteps where it names
            none. None takes the model's own, FlowSDE where its manifest says none.
        seed: Seed, 0..2^64-1.
        degrade_sigma: Noise level of the latent, 0..1; PiD is trained for 0..0.8. For a picture this much noise is
            added to its latent, in the model's frame. A latent is taken to have it already.
        noise: Noise of the sampler, as in `start`: "independent", "fixed", "brownian", "torch" or a function.
        caption: Embedding of a caption, floats (tokens, width) as `Contract.caption` says, for a model that takes one;
            None is the model's null caption, or zeros where it has none.
        guidance: Guidance scale on the caption, from 0: m = m_negative + guidance*(m_caption - m_negative), two model
            calls a row, with the same latent. 1 is one call with the caption alone. None is the model's own where a
            caption or a negative is given, else 1.
        negative: Embedding like the caption that guidance leads away from; None is what a missing caption is. It goes
            with a caption, which the model's null caption can be too.
        steps: Number of steps of the model's own timesteps, for a sampler that names none; None is the model's own.
        start: Noise level in (0, 1] to begin at, from the enlarged picture with that much noise, as SDEdit (arXiv
            2108.01073): timesteps are cut to those below, see `timesteps.begin`. Not for a latent, which is no
            picture. None begins with pure noise.
        finish: Post-processing: color, size and specks of the result; None is `Finish()` too.

    Raises:
        PidSamplerError: A value is not as described.
    """

    sampler: SamplerLike | None = field(_sampler, optional=True, default=None)
    seed: int = field(whole, low=0, high=2**64 - 1, default=0, kw_only=True)
    degrade_sigma: float = field(number, low=0.0, high=1.0, default=0.0, kw_only=True)
    noise: str | NoiseFunction = field(_noise, default="independent", kw_only=True)
    caption: NDArray[Any] | None = field(_caption, optional=True, default=None, kw_only=True, eq=_content)
    guidance: float | None = field(number, low=0.0, optional=True, default=None, kw_only=True)
    negative: NDArray[Any] | None = field(_caption, optional=True, default=None, kw_only=True, eq=_content)
    steps: int | None = field(whole, low=1, optional=True, default=None, kw_only=True)
    start: float | None = field(number, low=0.0, high=1.0, above=True, optional=True, default=None, kw_only=True)
    finish: Finish = field(_finish, default=Finish(), kw_only=True)

    @classmethod
    def of(cls, given: Mapping[str, Any], names: Sequence[str] = ()) -> Self:
        """Make options from keyword arguments.

        Args:
            given: Values by name.
            names: Names that are allowed; none for all.

        Raises:
            PidSamplerError: A name is unknown, or a value is not as described.
        """
        given, names = mapping("given", given, words="options by name"), words("names", names)
        known = names or [option.name for option in attrs.fields(Options)]
        for name in given:
            if name not in known:
                raise unknown_name("option", name, known=known)
        return cls(**given)

    def keywords(self) -> dict[str, Any]:
        """Return the options as keyword arguments of `Upscaler.__call__` and `Upscaler.record`."""
        return {option.name: getattr(self, option.name) for option in attrs.fields(Options)}


def listed(*names: str) -> Callable[[F], F]:
    """Return a decorator that puts options into a signature in the place of its **options.

    Args:
        *names: Options that the function takes; none for all.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        *own, _ = signature.parameters.values()
        taken = {parameter.name for parameter in own}
        options = [
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type
            )
            for option in attrs.fields(Options)
            if option.name not in taken and (not names or option.name in names)
        ]
        first = [parameter for parameter in own if parameter.kind is not parameter.KEYWORD_ONLY]
        later = [*options, *(parameter for parameter in own if parameter.kind is parameter.KEYWORD_ONLY)]
        rank = {name: k for k, name in enumerate(_BY_POSITION)}
        later.sort(key=lambda parameter: rank.get(parameter.name, len(rank)))
        function.__signature__ = signature.replace(parameters=[*first, *later])  # type: ignore[attr-defined]
        kinds = typing.get_type_hints(Options)
        function.__annotations__ |= {option.name: kinds[option.name] for option in options}
        return function

    return decorate
