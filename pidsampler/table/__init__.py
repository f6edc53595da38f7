"""StepTable: a sampler as data, one row of coefficients per network evaluation.

A row at noise level t turns x, the network's output m, the saved tensors S and noise N into the next x:

    x0 = clip(p*x + q*m)                                  m at the time `at`; velocity: p = 1, q = -t
    x  = a*x + b*x0 + sum_k h[k]*S[k] + sum_j c[j]*N(draw[j])

and may save such combinations of the old x, x0, the old S and noise for later rows. That is all any scheduler
does, so a scheduler is a function that returns a StepTable, and it never touches a tensor.
"""

from .check import Bias
from .rows import PREDICTIONS, Combination, Row, Terms, TermsLike, check_prediction, combined, x0_weights
from .step_table import Scheduler, StepTable, as_table

__all__ = [
    "PREDICTIONS",
    "Bias",
    "Combination",
    "Row",
    "Scheduler",
    "StepTable",
    "Terms",
    "TermsLike",
    "as_table",
    "check_prediction",
    "combined",
    "x0_weights",
]
