"""The flow's own one-stage samplers: Euler's ODE step, PiD's re-noising step, and everything between."""

from __future__ import annotations

import math

from ..errors import PidSamplerError
from ..table import Row, StepTable
from ..timesteps import TimesLike
from .base import SchedulerInfo, TimesScheduler, euler, row


class FlowSDE(TimesScheduler):
    """Predict x0, then go to t' with noise that is partly the one implied by x and partly fresh.

        x' = (1 - t')*x0 + t'*(sqrt(1 - eta^2)*eps_hat + eta*N),    eps_hat = (x - (1 - t)*x0) / t

    so that the marginal at t' stays exact for every eta. The last row, t' = 0, returns x0.

    Args:
        timesteps: A valid list of times, see `timesteps.custom`. One that ends above 0 stops there.
        eta: Share of fresh noise as a standard deviation, in [0, 1]. 1 is PiD's own sampler
            x' = (1 - t')*x0 + t'*N; 0 is the Euler ODE of `FlowODE`.

    Raises:
        PidSamplerError: The list is not valid, or eta is outside 0..1.

    Source: PiD (arXiv 2605.23902), the "sde" sampler, for eta = 1; the split into implied and fresh noise is
    DDIM's (arXiv 2010.02502, equation 12) in flow time.
    """

    info = SchedulerInfo("flow-sde", 1, 1, True, "PiD, arXiv 2605.23902", ("lcm", "FlowMatchLCMScheduler"))

    def __init__(self, timesteps: TimesLike, eta: float = 1.0) -> None:
        super().__init__(timesteps)
        if not 0.0 <= eta <= 1.0:
            raise PidSamplerError(f"eta={eta!r} is outside 0..1: 0 is the ODE, 1 is full re-noising")
        self.eta = float(eta)

    def table(self) -> StepTable:
        """Return one row per step; row i draws its fresh noise as draw i + 1."""
        keep = math.sqrt((1.0 - self.eta) * (1.0 + self.eta))
        rows = []
        for i, (t, t_next) in enumerate(self.steps):
            a = keep * (t_next / t)
            # (1 - t') - a*(1 - t), ordered so that eta = 0 and eta = 1 are exact: 1 - t'/t and 1 - t'.
            b = (1.0 - a) - (1.0 - keep) * t_next
            rows.append(Row(t, t_next, a=a, b=b, noise={i + 1: self.eta * t_next}))
        return StepTable(rows)


class FlowODE(TimesScheduler):
    """Euler's step along the velocity: x' = x + (t' - t)*v = (t'/t)*x + (1 - t'/t)*x0. No noise.

    Args:
        timesteps: A valid list of times, see `timesteps.custom`. One that ends above 0 stops there.

    Raises:
        PidSamplerError: The list is not valid.

    Source: Flow matching (arXiv 2210.02747); PiD's "ode" sampler.
    """

    info = SchedulerInfo(
        "flow-ode", 1, 1, False, "Flow matching, arXiv 2210.02747", ("euler", "FlowMatchEulerDiscreteScheduler")
    )

    def table(self) -> StepTable:
        """Return one row per step: the rows of FlowSDE with eta = 0."""
        return StepTable(row(t, t_next, euler(t, t_next)) for t, t_next in self.steps)
