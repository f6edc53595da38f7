"""The flow's own one-stage samplers: Euler's ODE step, PiD's re-noising step, and everything between."""

from __future__ import annotations

import math

from ..errors import PidSamplerError
from ..table import StepTable
from ..timesteps import TimesLike
from .base import SchedulerInfo, TimesScheduler, euler, renoised, row


class FlowSDE(TimesScheduler):
    """Predict x0, then go to t' with noise that is partly the one implied by x and partly fresh.

        x' = (1 - t')*x0 + t'*(sqrt(1 - eta^2)*eps_hat + eta*N),    eps_hat = (x - (1 - t)*x0) / t

    so that the marginal at t' stays exact for every eta if x0 is. The last row, t' = 0, returns x0. For eta above 0
    the law does not converge as steps grow, however exact the network (accuracy_order 0): each step replaces the same
    share of the noise by that of an average x0. It is a sampler for few steps and distilled networks.

    Args:
        timesteps: A valid list of times, see `timesteps.custom`. One that ends above 0 stops there.
        eta: Share of fresh noise as a standard deviation, in [0, 1]. 1 is PiD's own sampler
            x' = (1 - t')*x0 + t'*N; 0 is the Euler ODE of `FlowODE`.

    Raises:
        PidSamplerError: The list is not valid, or eta is outside 0..1.

    Source: PiD (arXiv 2605.23902), the "sde" sampler, for eta = 1; the split into implied and fresh noise is
    DDIM's (arXiv 2010.02502, equation 12) in flow time.
    """

    info = SchedulerInfo("flow-sde", 0, 1, True, "PiD, arXiv 2605.23902", ("lcm", "FlowMatchLCMScheduler"))

    def __init__(self, timesteps: TimesLike, eta: float = 1.0) -> None:
        super().__init__(timesteps)
        if not 0.0 <= eta <= 1.0:
            raise PidSamplerError(f"eta={eta!r} is outside 0..1: 0 is the ODE, 1 is full re-noising")
        self.eta = float(eta)

    def table(self) -> StepTable:
        """Return one row per step; row i draws its fresh noise as draw i + 1."""
        shares = math.sqrt((1.0 - self.eta) * (1.0 + self.eta)), self.eta
        steps = enumerate(self.steps, 1)
        return StepTable(row(t, t_next, renoised(t, t_next, shares, draw)) for draw, (t, t_next) in steps)


class FlowAncestral(TimesScheduler):
    """Step down below t' on the ODE, then scale and add fresh noise up to t': euler_ancestral for flows.

    The time stepped down to is t'*(1 + eta*(t'/t - 1)). The marginal at t' stays exact.

    Args:
        timesteps: A valid list of times.
        eta: 0 is the ODE; 1 steps down to t'^2/t. In [0, 1].

    Raises:
        PidSamplerError: The list is not valid, or eta is outside 0..1.

    Source: ComfyUI, sample_euler_ancestral_RF.
    """

    info = SchedulerInfo("flow-ancestral", 1, 1, True, "ComfyUI, euler_ancestral_RF", ("euler_ancestral",))

    def __init__(self, timesteps: TimesLike, eta: float = 1.0) -> None:
        super().__init__(timesteps)
        if not 0.0 <= eta <= 1.0:
            raise PidSamplerError(f"eta={eta!r} is outside 0..1: 0 is the ODE")
        self.eta = float(eta)

    def table(self) -> StepTable:
        """Return one row per step; row i draws its fresh noise as draw i + 1."""
        rows = []
        for draw, (t, t_next) in enumerate(self.steps, 1):
            share = 1.0 + self.eta * (t_next / t - 1.0)  # of t', that is stepped down to
            keep = share * (1.0 - t_next) / (1.0 - share * t_next) if share < 1.0 else 1.0
            fresh = math.sqrt((1.0 - keep) * (1.0 + keep))
            rows.append(row(t, t_next, renoised(t, t_next, (keep, fresh), draw)))
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
