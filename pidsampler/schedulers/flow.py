"""The flow's own one-stage samplers: Euler's ODE step, PiD's re-noising step, and everything between."""

from __future__ import annotations

import math

import attrs

from .. import moved
from ..table import StepTable
from ..values import field, number
from .base import Eta, SchedulerInfo, TimesScheduler, ancestral_step, eta_field, euler, one_eta, row


class FlowODE(TimesScheduler):
    """Euler's step along the velocity: x' = x + (t' - t)*v = (t'/t)*x + (1 - t'/t)*x0. No noise.

    Source: Flow matching (arXiv 2210.02747); PiD's "ode" sampler.
    """

    info = SchedulerInfo(
        "flow-ode", 1, model_calls_per_step=1, stochastic=False, source="Flow matching, arXiv 2210.02747"
    )

    def table(self) -> StepTable:
        """Return one row per step: the rows of FlowSDE with eta = 0."""
        return StepTable(row(t, t_next, update=euler(t, t_next)) for t, t_next in self.steps)


@attrs.frozen(slots=False)
class _Renoising(TimesScheduler):
    """Euler's step with a part of the noise fresh; row i draws it as draw i + 1. The marginal at t' stays exact."""

    eta: Eta = eta_field(1.0)
    last_eta: float | None = field(number, low=0, high=1, default=None, optional=True, kw_only=True)

    def table(self) -> StepTable:
        """Return one row per step."""
        last = sum(t_next > 0.0 for _, t_next in self.steps)
        rows = []
        for draw, (t, t_next) in enumerate(self.steps, 1):
            eta = one_eta(self.at_step(draw - 1).eta) if draw != last or self.last_eta is None else self.last_eta
            step = ancestral_step(t, t_next, split=self._split(t, t_next, eta), draw=draw)
            rows.append(row(t, t_next, update=step))
        return StepTable(rows)

    def _split(self, t: float, t_next: float, eta: float) -> tuple[float, float]:
        """Return how much of the implied noise is kept, and how much is fresh; their squares sum to 1."""
        raise NotImplementedError


@moved.keywords()
@attrs.frozen(slots=False)
class FlowSDE(_Renoising):
    """Predict x0, then go to t' with noise that is partly the one implied by x and partly fresh.

        x' = (1 - t')*x0 + t'*(sqrt(1 - eta^2)*eps_hat + eta*N),    eps_hat = (x - (1 - t)*x0) / t

    The last row, t' = 0, returns x0. For eta above 0 the law does not converge as steps grow, however exact the network
    (accuracy_order 0): each step replaces the same share of the noise by that of an average x0. It is a sampler for few
    steps and distilled networks.

    Args:
        timesteps: A valid list of times, see `timesteps.custom`.
        eta: Share of fresh noise as a standard deviation, in 0..1, or a list of one for each step. 1 is PiD's own
            sampler x' = (1 - t')*x0 + t'*N, as LCM's and consistency models'; 0 is the Euler ODE of `FlowODE`; gamma
            of CTM (arXiv 2310.02279) between.
        last_eta: Share of fresh noise where noise is added last, which no later step smooths; None for eta.

    Source: PiD (arXiv 2605.23902), its "sde", for eta = 1; the split is DDIM's (arXiv 2010.02502, eq. 12) in flow time.
    """

    info = SchedulerInfo("flow-sde", 0, model_calls_per_step=1, stochastic=True, source="PiD, arXiv 2605.23902")

    def _split(self, t: float, t_next: float, eta: float) -> tuple[float, float]:
        return math.sqrt((1.0 - eta) * (1.0 + eta)), eta


@moved.keywords()
@attrs.frozen(slots=False)
class FlowAncestral(_Renoising):
    """Step down below t' on the ODE, then scale and add fresh noise up to t': euler_ancestral for flows.

    Args:
        timesteps: A valid list of times.
        eta: Share of the most noise, 0..1, or a list of one for each step. The time stepped down to is
            t'*(1 + eta*(t'/t - 1)): t' for the ODE, t'^2/t at eta = 1.
        last_eta: As in `FlowSDE`.

    Source: ComfyUI, sample_euler_ancestral_RF.
    """

    info = SchedulerInfo(
        "flow-ancestral", 1, model_calls_per_step=1, stochastic=True, source="ComfyUI, euler_ancestral_RF"
    )

    def _split(self, t: float, t_next: float, eta: float) -> tuple[float, float]:
        share = 1.0 + eta * (t_next / t - 1.0)  # of t', that is stepped down to
        keep = share * (1.0 - t_next) / (1.0 - share * t_next) if share < 1.0 else 1.0
        return keep, math.sqrt((1.0 - keep) * (1.0 + keep))
