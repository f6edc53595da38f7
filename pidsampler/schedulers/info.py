"""What a scheduler says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SchedulerInfo:
    """The facts about a method that users choose by.

    Args:
        name: Short name, as in a spec string.
        accuracy_order: Global order of convergence: the error falls as steps**-accuracy_order.
        model_calls_per_step: Network evaluations for each step of the timestep list.
        stochastic: Whether any setting of it draws fresh noise.
        source: Paper or project that the formula comes from.
    """

    name: str
    accuracy_order: int
    model_calls_per_step: int
    stochastic: bool
    source: str
