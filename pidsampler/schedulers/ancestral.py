"""Ancestral methods of second order for flows: down below t' on the ODE, then fresh noise up to t'."""

from __future__ import annotations

import math

import attrs

from ..table import Combination, Row, StepTable, combined
from ..values import number
from .base import (
    X0,
    Eta,
    SchedulerInfo,
    Stage,
    TimesScheduler,
    eta_field,
    euler,
    one_eta,
    refusing_close_times,
    row,
    stage_rows,
    velocity,
    x0,
)
from .exact import log_snr, phi, time_of


@attrs.frozen(slots=False)
class _TwoStageAncestral(TimesScheduler):
    """Two stages down to t_d = t'*(1 + eta*(t'/t - 1)), then x' = r*x + sqrt(t'^2 - (r*t_d)^2)*N.

    With r = (1 - t')/(1 - t_d) the marginal at t' stays exact. Step n draws its noise as draw n + 1.
    """

    eta: Eta = eta_field(1.0)

    @refusing_close_times
    def table(self) -> StepTable:
        """Return two rows per step, and one for a step to 0."""
        rows: list[Row] = []
        for n, (t, t_next) in enumerate(self.steps):
            if t_next == 0.0:
                rows.append(row(t, t_next, update=X0))
                continue
            down = t_next * (1.0 + one_eta(self.at_step(n).eta) * (t_next / t - 1.0))
            scale = (1.0 - t_next) / (1.0 - down)
            fresh = math.sqrt((t_next - scale * down) * (t_next + scale * down))
            rows += self._step(t, t_next, down=down, scale=scale, noise={n + 1: fresh})
        return StepTable(rows)

    def _step(self, t: float, t_next: float, *, down: float, scale: float, noise: dict[int, float]) -> list[Row]:
        raise NotImplementedError


class DPM2Ancestral(_TwoStageAncestral):
    """Ancestral DPM-2 for flows: the midpoint rule in log t down to t_d, then fresh noise.

    Args:
        timesteps: A valid list of times.
        eta: Share of the most noise, 0..1, or a list of one for each step. The time stepped down to is
            t_d = t'*(1 + eta*(t'/t - 1)): t' for the ODE, t'^2/t at eta = 1.

    Source: ComfyUI, sample_dpm_2_ancestral_RF.
    """

    info = SchedulerInfo(
        "dpm-2-ancestral",
        2,
        model_calls_per_step=2,
        stochastic=True,
        source="ComfyUI, dpm_2_ancestral_RF",
    )

    def _step(self, t: float, t_next: float, *, down: float, scale: float, noise: dict[int, float]) -> list[Row]:
        middle = math.sqrt(t * down)
        stages = [
            Stage(middle, euler(t, middle), weights=(0.0,)),
            Stage(t_next, Combination(a=scale), weights=(0.0, scale * (down - t)), noise=noise),
        ]
        return stage_rows(t, stages, quantity=velocity)


class DPMSolverPP2SAncestral(_TwoStageAncestral):
    """Ancestral DPM-Solver++(2S) for flows: x0 from the middle in log-SNR down to t_d, then fresh noise.

    From t = 1, where log-SNR is infinite, the middle is at 0.9999.

    Args:
        timesteps: A valid list of times.
        eta: As in `DPM2Ancestral`.

    Source: ComfyUI, sample_dpmpp_2s_ancestral_RF.
    """

    info = SchedulerInfo(
        "dpmpp-2s-ancestral",
        2,
        model_calls_per_step=2,
        stochastic=True,
        source="ComfyUI, dpmpp_2s_ancestral_RF",
    )

    def _step(self, t: float, t_next: float, *, down: float, scale: float, noise: dict[int, float]) -> list[Row]:
        middle = 0.9999 if t == 1.0 else time_of(0.5 * (log_snr(t) + log_snr(down)))
        start = Combination(a=scale * (down / t))
        stages = [
            Stage(middle, euler(t, middle), weights=(0.0,)),
            Stage(t_next, start, weights=(0.0, scale * (1.0 - down / t)), noise=noise),
        ]
        return stage_rows(t, stages, quantity=x0)


@attrs.frozen(slots=False)
class RESAncestral(TimesScheduler):
    """RES multistep with the ancestral step of a variance-exploding model, as ComfyUI runs it on flows too.

    It goes down to t_d = sqrt(t'^2 - n^2) in -log t and adds n*N, n = eta*t'*sqrt(1 - (t'/t)^2). The image's share
    stays that of t_d, 1 - t_d. So for eta above 0 the rows are biased, and the law does not converge (accuracy_order
    0). With eta = 0 it is ComfyUI's res_multistep, of second order.

    Args:
        timesteps: A valid list of times.
        eta: Share of the most noise, 0..1, or a list of one for each step.

    Source: ComfyUI, sample_res_multistep_ancestral; the weights are those of RES (arXiv 2308.02157).
    """

    info = SchedulerInfo(
        "res-multistep-ancestral",
        0,
        model_calls_per_step=1,
        stochastic=True,
        source="ComfyUI, res_multistep_ancestral",
    )

    eta: Eta = eta_field(1.0)

    @refusing_close_times
    def table(self) -> StepTable:
        """Return one row per step; row n draws its noise as draw n + 1."""
        rows: list[Row] = []
        went = 0.0  # how far the step before went down, in -log t
        for n, (t, t_next) in enumerate(self.steps):
            if t_next == 0.0:
                rows.append(row(t, t_next, update=X0))
                continue
            down, fresh = exploding_step(t, t_next, eta=one_eta(self.at_step(n).eta))
            parts = [(1.0, euler(t, down)), (1.0, Combination(noise={n + 1: fresh}))]
            h = math.log(t / down)
            if n:
                w = self._change(h, went)
                parts += [(w, X0), (-w, Combination(h={0: 1.0}))]
            made = row(t, t_next, update=combined(parts), saves={0: X0})
            rows.append(attrs.evolve(made, biased=fresh > 0.0))
            went = h
        return StepTable(rows)

    def _change(self, h: float, went: float) -> float:
        """The weight of what x0 changed by in the step before."""
        return h * phi(2, -h) * h / went


def exploding_step(t: float, t_next: float, *, eta: float) -> tuple[float, float]:
    """Return the time that a variance-exploding ancestral step goes down to, and how much noise it then adds.

    Args:
        t: Time of the evaluation, in (0, 1].
        t_next: Noise level after the noise, up to t.
        eta: Share of the most noise, 0..1.

    Source: k-diffusion, get_ancestral_step.
    """
    t, eta = number("t", t, low=0, high=1, above=True), number("eta", eta, low=0, high=1)
    ratio = number("t_next", t_next, low=0, high=t) / t
    variance = eta**2 * (1.0 - ratio) * (1.0 + ratio)
    return t_next * math.sqrt(1.0 - variance), t_next * math.sqrt(variance)
