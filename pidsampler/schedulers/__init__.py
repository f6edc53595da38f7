"""How to step. A scheduler is anything with a `table()` that returns a StepTable.

One that should be found by name is a class that takes `timesteps` first and has a `SchedulerInfo` as `info`. Its line
among these imports registers it, or another package's entry point in the group "pidsampler.schedulers".

    @attrs.frozen
    class Mine(TimesScheduler):
        info = SchedulerInfo("mine", 1, model_calls_per_step=1, stochastic=False, source="a paper")
        gamma: float = field(number, 0, 1, default=0.5)  # checked when it is made, see `pidsampler.values`

        def table(self) -> StepTable:
            return StepTable(row(t, t_next, update=...) for t, t_next in self.steps)

`eta` is how much fresh noise a method draws: 0 is its ODE, and 1 the method as it was published. Its scale is the
method's own: in FlowSDE and FlowAncestral a share, 0..1; in the solvers of an SDE that equation's strength, from 0.
A list of one for each step takes its place; in a spec, eta=1/0.5/0.
"""

from .ancestral import DPM2Ancestral as DPM2Ancestral
from .ancestral import DPMSolverPP2SAncestral as DPMSolverPP2SAncestral
from .ancestral import RESAncestral as RESAncestral
from .base import SchedulerInfo as SchedulerInfo
from .base import TimesScheduler as TimesScheduler
from .cfg_pp import RESCFGPP as RESCFGPP
from .cfg_pp import DPMSolverPP2MCFGPP as DPMSolverPP2MCFGPP
from .cfg_pp import DPMSolverPP2SAncestralCFGPP as DPMSolverPP2SAncestralCFGPP
from .cfg_pp import EulerAncestralCFGPP as EulerAncestralCFGPP
from .cfg_pp import EulerCFGPP as EulerCFGPP
from .cfg_pp import GradientEstimationCFGPP as GradientEstimationCFGPP
from .cfg_pp import RESAncestralCFGPP as RESAncestralCFGPP
from .edm import EDMEuler as EDMEuler
from .edm import EDMHeun as EDMHeun
from .exponential import ETDRK2 as ETDRK2
from .exponential import ETDRK3 as ETDRK3
from .exponential import ETDRK4 as ETDRK4
from .exponential import RES2S as RES2S
from .exponential import RES3S as RES3S
from .exponential import RES5S as RES5S
from .exponential import RES6S as RES6S
from .exponential import ExponentialRungeKutta as ExponentialRungeKutta
from .exponential import ExponentialTableau as ExponentialTableau
from .exponential import Krogstad as Krogstad
from .flow import FlowAncestral as FlowAncestral
from .flow import FlowODE as FlowODE
from .flow import FlowSDE as FlowSDE
from .inversion import inverted as inverted
from .multistep import DEIS as DEIS
from .multistep import ERSDE as ERSDE
from .multistep import RES as RES
from .multistep import AdamsBashforth as AdamsBashforth
from .multistep import DPMSolverPP2M as DPMSolverPP2M
from .multistep import DPMSolverPP2MSDE as DPMSolverPP2MSDE
from .multistep import DPMSolverPP3M as DPMSolverPP3M
from .multistep import DPMSolverPP3MSDE as DPMSolverPP3MSDE
from .multistep import GradientEstimation as GradientEstimation
from .predictor_corrector import SASolver as SASolver
from .predictor_corrector import SASolverPECE as SASolverPECE
from .predictor_corrector import UniPC as UniPC
from .restart import Restart as Restart
from .runge_kutta import RK4 as RK4
from .runge_kutta import RK38 as RK38
from .runge_kutta import SSPRK3 as SSPRK3
from .runge_kutta import SSPRK4 as SSPRK4
from .runge_kutta import SSPRK43 as SSPRK43
from .runge_kutta import BogackiShampine as BogackiShampine
from .runge_kutta import ButcherTableau as ButcherTableau
from .runge_kutta import DormandPrince as DormandPrince
from .runge_kutta import GaussLegendre2 as GaussLegendre2
from .runge_kutta import Heun as Heun
from .runge_kutta import Kutta3 as Kutta3
from .runge_kutta import Midpoint as Midpoint
from .runge_kutta import RadauIIA2 as RadauIIA2
from .runge_kutta import Ralston as Ralston
from .runge_kutta import Ralston4 as Ralston4
from .runge_kutta import RungeKutta as RungeKutta
from .runge_kutta import Tsit5 as Tsit5
from .singlestep import SEEDS2 as SEEDS2
from .singlestep import SEEDS3 as SEEDS3
from .singlestep import DPMSolver2 as DPMSolver2
from .singlestep import DPMSolver3 as DPMSolver3
from .singlestep import DPMSolverPP2S as DPMSolverPP2S
from .singlestep import DPMSolverPPSDE as DPMSolverPPSDE
from .stork import STORK as STORK
from .wrappers import dcw as dcw
from .wrappers import decoupled as decoupled
from .wrappers import detail as detail
from .wrappers import epsilon_scaling as epsilon_scaling
from .wrappers import lying as lying
from .wrappers import s_noise as s_noise
from .wrappers import time_shift as time_shift
