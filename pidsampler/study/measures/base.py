"""What a measure is: a function of one run's Sample, with its unit, direction and source."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ... import moved
from ...denoiser import GaussianMixture
from ...errors import ConfigError, unknown_name
from ...values import array, instance, word, words

Picture = NDArray[np.uint8]
T = TypeVar("T")

_DIRECTIONS = ("higher", "lower", "zero", "")


@moved.keywords()
@dataclass(frozen=True)
class Sample:
    """What a measure sees of one run.

    Args:
        x: float (1, 3, H, W), the result before clamping, nominally -1..1.
        picture: (H, W, 3), the result as it is saved; None for a closed-form flow.
        input: (h, w, 3), the low-resolution picture.
        reference: (H, W, 3), the true high-resolution picture.
        converged: float (1, 3, H, W), the converged ODE solution from the same noise; exact for a flow.
        flow: The closed-form flow that was sampled; a Gaussian is a mixture of one.

    Raises:
        PidSamplerError: The reference is not of the picture's size, or `converged` not of x's.
    """

    x: NDArray[Any]
    picture: Picture | None = None
    _: KW_ONLY
    input: Picture | None = None
    reference: Picture | None = None
    converged: NDArray[Any] | None = None
    flow: GaussianMixture | None = None

    def __post_init__(self) -> None:
        array("x", self.x)
        for name in ("picture", "input", "reference", "converged"):
            if (value := getattr(self, name)) is not None:
                array(name, value)
        if self.flow is not None:
            instance("flow", self.flow, kind=GaussianMixture, words="a GaussianMixture")
        for result, truth, name in ((self.picture, self.reference, "reference"), (self.x, self.converged, "converged")):
            if result is not None and truth is not None and result.shape != truth.shape:
                raise ConfigError(f"{name} has shape {truth.shape}, expected that of the result, {result.shape}")


@moved.keywords()
@dataclass(frozen=True)
class Measure:
    """A measure: call it with a Sample.

    Args:
        name: Name of the measure: the function's, with hyphens.
        unit: Unit, such as "dB"; "" for a plain number.
        better: "higher", "lower", "zero" (nearest to 0 is best) or "" (neither).
        source: Formula, paper or package, in one line.
        needs: Fields of Sample that must be there; where one is None, the measure does not apply.
        function: Function that computes it.
        imports: Modules that it imports and that may be missing, which a study looks for before it begins.
    """

    name: str
    _: KW_ONLY
    unit: str
    better: str
    source: str
    needs: tuple[str, ...]
    function: Callable[[Sample], float]
    imports: tuple[str, ...] = ()

    def applies(self, sample: Sample) -> bool:
        """Return whether the sample has all that the measure needs.

        Raises:
            PidSamplerError: The sample is no `Sample`.
        """
        instance("sample", sample, kind=Sample, words="a Sample")
        return all(getattr(sample, need) is not None for need in self.needs)

    def __call__(self, sample: Sample) -> float:
        """Return the measure of a sample, a finite number.

        Raises:
            PidSamplerError: The measure does not apply, or its value is no finite number.
        """
        if not self.applies(sample):
            missing = [need for need in self.needs if getattr(sample, need) is None]
            raise ConfigError(f"measure {self.name} needs {', '.join(missing)}, which this run has not")
        with np.errstate(over="ignore", invalid="ignore"):  # its value tells
            value = self.function(sample)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"measure {self.name} gave {value!r}, expected a finite number")
        return number


def measure(
    *, unit: str, better: str, source: str, needs: tuple[str, ...], imports: tuple[str, ...] = ()
) -> Callable[[Callable[[Sample], float]], Measure]:
    """Make a `Measure` of the function that it decorates.

    Args:
        unit: Unit, such as "dB"; "" for a plain number.
        better: "higher", "lower", "zero" (nearest to 0 is best) or "" (neither).
        source: Formula, paper or package, in one line.
        needs: Fields of `Sample` that must be there.
        imports: Modules that it imports and that may be missing.

    Returns:
        A decorator of a function of a `Sample`.

    Raises:
        PidSamplerError: `better` is none of its words, or `needs` names what a Sample has not.
    """
    word("unit", unit)
    word("source", source)
    needs, imports = words("needs", needs), words("imports", imports)
    if word("better", better) not in _DIRECTIONS:
        raise ConfigError(f"better={better!r} is none of {', '.join(map(repr, _DIRECTIONS))}")
    for need in needs:
        if need not in (known := [field.name for field in fields(Sample)]):
            raise unknown_name("field of Sample", need, known=known)

    def decorate(function: Callable[[Sample], float]) -> Measure:
        name = function.__name__.replace("_", "-")
        return Measure(name, unit=unit, better=better, source=source, needs=needs, function=function, imports=imports)

    return decorate


def given(value: T | None) -> T:
    """Return a field of a Sample that the measure's `needs` names, and so is there."""
    assert value is not None
    return value
