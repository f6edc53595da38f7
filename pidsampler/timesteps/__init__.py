"""Where to evaluate the network: descending lists of times t in [0, 1] that end in 0.

t is the noise level of the flow: x_t = (1 - t)*x0 + t*eps. A list of n + 1 times makes n steps. Every function
here returns a new float64 array; `custom` checks a list of the user's own and changes no bit of it.

Arguments that recur: `times` is a list that `custom` accepts; `steps` is at least 1 and at most a million; `t_max` and
`t_min` are the first and the last time before 0, 0 < t_min < t_max <= 1; `shift`, above 0, is the model's own (see
`shift`). An argument outside its range raises PidSamplerError.
"""

from .continuous import bong_tangent as bong_tangent
from .continuous import cosine as cosine
from .continuous import exponential as exponential
from .continuous import flux as flux
from .continuous import flux2 as flux2
from .continuous import flux2_mu as flux2_mu
from .continuous import flux_mu as flux_mu
from .continuous import karras as karras
from .continuous import kl_optimal as kl_optimal
from .continuous import linear_quadratic as linear_quadratic
from .continuous import log_snr as log_snr
from .continuous import logit_normal as logit_normal
from .continuous import pid as pid
from .continuous import pid_one_step as pid_one_step
from .continuous import pid_shift as pid_shift
from .continuous import polyexponential as polyexponential
from .continuous import shifted as shifted
from .continuous import teacher as teacher
from .core import MOST_STEPS as MOST_STEPS
from .core import Times as Times
from .core import TimesLike as TimesLike
from .core import begin as begin
from .core import custom as custom
from .core import resample as resample
from .core import shift as shift
from .core import subset as subset
from .core import uniform as uniform
from .published import ays as ays
from .published import gits as gits
from .trained import beta as beta
from .trained import beta57 as beta57
from .trained import ddim_uniform as ddim_uniform
from .trained import discrete as discrete
from .trained import lcm as lcm
from .trained import normal as normal
from .trained import sgm_uniform as sgm_uniform
from .trained import simple as simple
from .trained import smoothstep as smoothstep
