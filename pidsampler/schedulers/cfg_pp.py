"""CFG++: each step is the unconditional network's, plus a share of the guidance x0_c - x0_u of its beginning.

A step asks the unconditional network, keeps x and saves its x0_u; then it asks the conditional one for x0_c. The guided
image is x0_g = x0_u + scale*(x0_c - x0_u), and the noise is not guided. So Euler's step is

    x' = (1 - t')*x0_g + t'*eps_u,    eps_u = (x - (1 - t)*x0_u)/t

The step to 0 gives x0_g. Each step guides anew, so more steps guide more. There is a limit only where both networks
agree: the orders are those of a flow that is its own unconditional one.

Source: CFG++ (arXiv 2406.08070), algorithm 2, and ComfyUI's sample_*_cfg_pp for flows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs

from ..table import Combination, Row, StepTable, combined
from ..values import field, number
from .ancestral import DPMSolverPP2SAncestral, RESAncestral, exploding_step
from .base import (
    X0,
    Eta,
    SchedulerInfo,
    TimesScheduler,
    ancestral_step,
    eta_field,
    euler,
    one_eta,
    refusing_close_times,
    row,
)
from .multistep import DPMSolverPP2M, GradientEstimation


@attrs.frozen(slots=False)
class _CFGPP(TimesScheduler):
    """The rows of `_unconditional` with weight*scale*(x0_c - x0_u) added in each step."""

    scale: float = field(number, default=1.0, kw_only=True)

    @refusing_close_times
    def table(self) -> StepTable:
        """Return the rows of each step: the unconditional network's, the conditional one's, and those of stages."""
        plain = self._unconditional()
        left, kept = iter(plain), plain.slots
        return StepTable(made for n in range(len(self.steps)) for made in self._guided(n, left, kept))

    def _guided(self, n: int, left: Iterator[Row], kept: int) -> list[Row]:
        t, t_next = self.steps[n]
        first = next(left)
        stages = [attrs.evolve(next(left), net=1) for _ in range(self._stages - 1) if t_next > 0.0]
        weight = self.scale * (self._weight(n) if t_next > 0.0 else 1.0)
        guidance = Combination(b=weight, h={kept: -weight})

        def of_kept(c: Combination, *, guided: bool) -> Combination:
            mixed = [(1.0, Combination(a=c.a, h=c.h, noise=c.noise)), (c.b, Combination(h={kept: 1.0}))]
            return combined([*mixed, (1.0, guidance)] if guided else mixed)

        # The result of a step with stages is what its first row saves for the last one to add to.
        saves = {slot: of_kept(c, guided=bool(stages)) for slot, c in first.saves}
        mixed = row(t, first.t_next, update=of_kept(first, guided=not stages), saves=saves)
        asked = Row(t, t, a=1.0, saves={kept: X0}, net=1)
        return [asked, attrs.evolve(mixed, biased=first.biased), *stages]

    _stages = 1  # of a step of the unconditional method

    def _unconditional(self) -> StepTable:
        raise NotImplementedError

    def _weight(self, n: int) -> float:
        """The weight of x0_g - x0_u in step n, which does not go to 0."""
        raise NotImplementedError


class EulerCFGPP(_CFGPP):
    """Euler's step with CFG++: x' = (1 - t')*x0_g + t'*eps_u.

    Args:
        timesteps: A valid list of times.
        scale: Guidance scale, as of `denoiser.Guided`: 0 is the unconditional alone, the paper's range is 0..1.

    Source: CFG++ (arXiv 2406.08070), algorithm 2; ComfyUI, sample_euler_cfg_pp.
    """

    info = SchedulerInfo(
        "euler-cfg-pp",
        1,
        model_calls_per_step=2,
        stochastic=False,
        source="CFG++, arXiv 2406.08070",
    )

    def _unconditional(self) -> StepTable:
        return StepTable(row(t, t_next, update=self._step(n)) for n, (t, t_next) in enumerate(self.steps))

    def _step(self, n: int) -> Combination:
        return euler(*self.steps[n])

    def _weight(self, n: int) -> float:
        return 1.0 - self.steps[n][1]


@attrs.frozen(slots=False)
class EulerAncestralCFGPP(EulerCFGPP):
    """Ancestral Euler steps with CFG++; the marginal at t' stays exact.

    Args:
        timesteps: A valid list of times.
        eta: Share of the most noise, 0..1, or a list of one for each step. At 1 the share s'/s of the implied noise is
            kept, s = t/(1 - t).
        scale: As in `EulerCFGPP`.

    Source: ComfyUI, sample_euler_ancestral_cfg_pp.
    """

    info = SchedulerInfo(
        "euler-ancestral-cfg-pp",
        1,
        model_calls_per_step=2,
        stochastic=True,
        source="ComfyUI, euler_ancestral_cfg_pp",
    )

    eta: Eta = eta_field(1.0)

    def _step(self, n: int) -> Combination:
        t, t_next = self.steps[n]
        ratio = (t_next / t) * ((1.0 - t) / (1.0 - t_next))
        variance = one_eta(self.at_step(n).eta) ** 2 * (1.0 - ratio) * (1.0 + ratio)
        return ancestral_step(t, t_next, split=(math.sqrt(1.0 - variance), math.sqrt(variance)), draw=n + 1)


class DPMSolverPP2MCFGPP(_CFGPP):
    """DPM-Solver++(2M) in -log t with CFG++.

    The guidance x0_g - x0_u weighs 1 and more, where the flow's Euler step would take 1 - t': that is ComfyUI's.

    Args:
        timesteps: A valid list of times.
        scale: As in `EulerCFGPP`.

    Source: ComfyUI, sample_dpmpp_2m_cfg_pp.
    """

    info = SchedulerInfo(
        "dpmpp-2m-cfg-pp",
        2,
        model_calls_per_step=2,
        stochastic=False,
        source="ComfyUI, dpmpp_2m_cfg_pp",
    )

    def _unconditional(self) -> StepTable:
        return DPMSolverPP2M(self.timesteps, variable="log-sigma").table()

    def _weight(self, n: int) -> float:
        """1, and the weight of what x0 changed by since the step before."""
        t, t_next = self.steps[n]
        if n == 0 or t_next == 0.0:
            return 1.0
        return 1.0 + (1.0 - t_next / t) * 0.5 * math.log(t / t_next) / math.log(self.steps[n - 1][0] / t)


@attrs.frozen(slots=False)
class DPMSolverPP2SAncestralCFGPP(_CFGPP):
    """Ancestral DPM-Solver++(2S) with CFG++: both stages are the unconditional network's, and the first is guided.

    Args:
        timesteps: A valid list of times.
        eta: As in `DPMSolverPP2SAncestral`.
        scale: As in `EulerCFGPP`.

    Source: ComfyUI, sample_dpmpp_2s_ancestral_RF_cfg_pp.
    """

    info = SchedulerInfo(
        "dpmpp-2s-ancestral-cfg-pp",
        2,
        model_calls_per_step=3,
        stochastic=True,
        source="ComfyUI, dpmpp_2s_ancestral_RF_cfg_pp",
    )
    _stages = 2

    eta: Eta = eta_field(1.0)

    def _unconditional(self) -> StepTable:
        return DPMSolverPP2SAncestral(self.timesteps, self.eta).table()

    def _weight(self, n: int) -> float:
        return 1.0 - self.steps[n][1]


class RESCFGPP(_CFGPP):
    """RES multistep in -log t with CFG++.

    The guidance x0_g - x0_u weighs 1 in the first step and the last, and t'/t in others: that is ComfyUI's.

    Args:
        timesteps: A valid list of times.
        scale: As in `EulerCFGPP`.

    Source: ComfyUI, sample_res_multistep_cfg_pp.
    """

    info = SchedulerInfo(
        "res-multistep-cfg-pp",
        2,
        model_calls_per_step=2,
        stochastic=False,
        source="ComfyUI, res_multistep_cfg_pp",
    )

    def _plain(self) -> RESAncestral:
        return RESAncestral(self.timesteps, 0.0)

    def _unconditional(self) -> StepTable:
        return self._plain().table()

    def _weight(self, n: int) -> float:
        if n == 0:
            return 1.0
        t, t_next = self.steps[n]
        return exploding_step(t, t_next, eta=one_eta(self._plain().at_step(n).eta))[0] / t


@attrs.frozen(slots=False)
class RESAncestralCFGPP(RESCFGPP):
    """Ancestral RES multistep with CFG++; for eta above 0 its rows are biased, as those of `RESAncestral`.

    Args:
        timesteps: A valid list of times.
        eta: As in `RESAncestral`.
        scale: As in `EulerCFGPP`.

    Source: ComfyUI, sample_res_multistep_ancestral_cfg_pp.
    """

    info = SchedulerInfo(
        "res-multistep-ancestral-cfg-pp",
        0,
        model_calls_per_step=2,
        stochastic=True,
        source="ComfyUI, res_multistep_ancestral_cfg_pp",
    )

    eta: Eta = eta_field(1.0)

    def _plain(self) -> RESAncestral:
        return RESAncestral(self.timesteps, self.eta)


@attrs.frozen(slots=False)
class GradientEstimationCFGPP(_CFGPP):
    """Gradient estimation with CFG++, on the unconditional velocity; the guidance x0_g - x0_u weighs 1.

    Args:
        timesteps: A valid list of times.
        gamma: As in `GradientEstimation`.
        scale: As in `EulerCFGPP`.

    Source: ComfyUI, sample_gradient_estimation_cfg_pp.
    """

    info = SchedulerInfo(
        "gradient-estimation-cfg-pp",
        1,
        model_calls_per_step=2,
        stochastic=False,
        source="ComfyUI, gradient_estimation_cfg_pp",
    )

    gamma: float = field(number, default=2.0)

    def _unconditional(self) -> StepTable:
        return GradientEstimation(self.timesteps, self.gamma).table()

    def _weight(self, n: int) -> float:
        return 1.0
