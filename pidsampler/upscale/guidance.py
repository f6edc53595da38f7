"""Guidance on a caption: whether a result has it, how much, and away from what."""

from __future__ import annotations

import math
from typing import Any, Protocol

from numpy.typing import NDArray

from ..errors import ConfigError
from ..onnx.contract import Contract
from ..values import flag
from .options import Options


class HasNullCaption(Protocol):
    """A model, or the files of one."""

    @property
    def null_caption(self) -> NDArray[Any] | None:
        """Caption where none is given; None where the folder has none."""
        ...


def guidance_for(options: Options, contract: Contract, *, pair: bool = False) -> float | None:
    """Return the guidance scale of a result; None where a row calls the network once.

    Args:
        options: As asked for.
        contract: The model's.
        pair: Whether the sampler guides by its rows, with a scale of its own.

    Raises:
        PidSamplerError: The model takes no caption; the sampler guides by its rows, and there is no caption, or another
            scale is given; or as `guidance_scale`.
    """
    if contract.caption is None and (flag("pair", pair) or options.guidance not in (None, 1.0)):
        what = "the sampler guides toward a caption by its rows" if pair else "guidance needs a network with a caption"
        raise ConfigError(
            f"{what}, but {contract.name} takes none: leave it out, or export the model with caption=input"
        )
    return guidance_scale(options, contract.guidance, null_caption=contract.null_caption, pair=pair)


def guidance_scale(options: Options, own: float | None, *, null_caption: bool, pair: bool = False) -> float | None:
    """Return the guidance scale that options ask for; None where the network is called once a row.

    Args:
        options: As asked for.
        own: The model's own scale, which is taken where a caption or a negative is given; or None.
        null_caption: Whether the model has a null caption: with a negative it stands for a caption.
        pair: As in `guidance_for`.

    Raises:
        PidSamplerError: There is no caption to lead toward, a negative is not used, or a pair is given another scale.
    """
    if flag("pair", pair):
        if options.guidance is not None:
            raise ConfigError(
                f"the sampler guides by its rows, with a scale of its own, but guidance={options.guidance:g} is given: "
                "leave it out"
            )
        if guidance_scale(options, math.inf, null_caption=null_caption) is None:
            raise ConfigError(
                "the sampler guides toward a caption by its rows, but none is given: pass a caption, to a model that "
                "takes one"
            )
        return None
    told = options.caption is not None or options.negative is not None
    scale = options.guidance if options.guidance is not None else own if told else None
    if scale in (None, 1.0):
        if options.negative is not None:
            raise ConfigError(
                "a negative has an effect with guidance alone: pass a guidance other than 1, or no negative"
            )
        return None
    if options.caption is None and not (told and null_caption):
        what = "a negative" if options.guidance is None else f"guidance={scale:g}"
        raise ConfigError(f"{what} leads toward a caption, but none is given: pass a caption too")
    return scale


def negative_for(options: Options, model: HasNullCaption) -> NDArray[Any] | None:
    """Return the embedding that guidance leads away from: that of the options, or the folder's; None is zeros."""
    return model.null_caption if options.negative is None else options.negative
