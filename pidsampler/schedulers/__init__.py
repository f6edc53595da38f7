"""How to step. A scheduler is anything with a `table()` that returns a StepTable.

One that should be found by name is a class that takes `timesteps` first and has a `SchedulerInfo` as `info`. Its line
among these imports registers it, or another package's entry point in the group "pidsampler.schedulers".
"""

from .base import SchedulerInfo as SchedulerInfo
from .base import TimesScheduler as TimesScheduler
from .flow import FlowAncestral as FlowAncestral
from .flow import FlowODE as FlowODE
from .flow import FlowSDE as FlowSDE
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
from .predictor_corrector import UniPC as UniPC
from .restart import Restart as Restart
from .runge_kutta import RK4 as RK4
from .runge_kutta import SSPRK3 as SSPRK3
from .runge_kutta import ButcherTableau as ButcherTableau
from .runge_kutta import Heun as Heun
from .runge_kutta import Kutta3 as Kutta3
from .runge_kutta import Midpoint as Midpoint
from .runge_kutta import Ralston as Ralston
from .runge_kutta import RungeKutta as RungeKutta
from .singlestep import SEEDS2 as SEEDS2
from .singlestep import SEEDS3 as SEEDS3
from .singlestep import DPMSolver2 as DPMSolver2
from .singlestep import DPMSolver3 as DPMSolver3
from .singlestep import DPMSolverPP2S as DPMSolverPP2S
from .singlestep import DPMSolverPPSDE as DPMSolverPPSDE
