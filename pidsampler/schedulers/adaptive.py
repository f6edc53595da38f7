"""A reference solution: the ODE's, by steps of a pair of orders 5 and 4 that choose their own lengths.

The trial steps run through the same rows as any table, and those accepted are kept as one. Where the velocity is
smooth down to t = 0 the last step, x0 itself, is taken as soon as its error is below the tolerance. A trained network's
velocity is not: near t = 0 it was not trained to tell so little noise from the picture, so that each further step
changes the result. There `t_last` says where its x0 ends the solution, which is then that of this end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from ..denoiser import Denoiser, as_denoiser
from ..errors import ConfigError, ModelError
from ..sampler import Run, start
from ..table import PREDICTIONS, Row, StepTable
from ..values import field, host_array, instance, number, whole, word
from ..values import shape as sizes
from .exact import log_snr, time_of
from .runge_kutta import DormandPrince

Array = NDArray[np.float64]

# Weights of the pair's difference; the seventh evaluation is the next step's first. Hairer et al. I, table II.5.2.
_DIFFERENCE = tuple(
    fifth - fourth
    for fifth, fourth in zip(
        (*DormandPrince.tableau.b, 0.0),
        (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40),
        strict=True,
    )
)
_CONTROL = (1 / 20, 1 / 10, 1 / 20)  # exponents of the latest three errors: (1/4, 1/2, 1/4) by the order
_SAFETY, _NEAR, _FAR = 0.9, 0.2, 5.0  # of the length that the errors ask for, and how far it may change at once
_FIRST = 0.25  # length of the first trial step in log-SNR
_NEAREST_1 = 0.9999  # log-SNR is infinite at 1: the first step from there is measured from here
_COARSER, _FINER = 1e3, 10.0  # errors of steps in the first solution, and how much smaller in each further one
_LOWEST = 1e-9  # time that a smooth velocity needs no step below
# Where the last step begins at most: in the first solution, and in each further one as a share of that before.
_LAST, _CLOSER = 0.1, 0.5
_COARSEST, _FINEST = 1e-3, 1e-15  # bounds of them
_MOST, _AT_ONCE = 20_000, 4  # evaluations in the first solution, and how many times more the next may take


@attrs.frozen
class Reference:
    """A solution of the ODE, and the table that makes it.

    Args:
        table: The accepted steps, six rows each, and the last row to 0. `sample` gives x from it again, bit for bit.
        x: (B, ...) float64, at the table's last noise level.
        error: Largest difference from the solution whose steps were allowed ten times the error; that of x itself is
            smaller where solutions converge.
        calls: How many evaluations all solutions took, rejected steps among them.
    """

    table: StepTable = field(instance, kind=StepTable, words="a StepTable")
    x: Array = field(host_array)
    error: float = field(number, low=0, kw_only=True)
    calls: int = field(whole, low=0, kw_only=True)


def solve(
    denoiser: Denoiser | Callable[[Any, float], Any],
    *,
    tolerance: float = 1e-6,
    x: Any = None,
    shape: Sequence[int] | None = None,
    seed: int | Sequence[int] = 0,
    t_start: float = 1.0,
    t_end: float = 0.0,
    t_last: float | None = None,
    prediction: str = "velocity",
) -> Reference:
    """Solve the ODE on the CPU in float64 until two solutions agree.

    Each solution allows its steps a tenth of the error of the one before; the finer of the first two that agree is
    returned. Steps are chosen in log-SNR by a PID controller.

    Args:
        denoiser: A Denoiser or callable net(x, t) -> m, the same for the same input to the last bit.
        tolerance: Largest difference of two solutions, absolute, in x's unit.
        x: (B, ...) array to start from, at noise level t_start.
        shape: (B, ...), to start from noise, draw 0 of `seed`, where x is not given.
        seed: Seed of each image, or a single one s for s, s+1, ...; of that noise alone.
        t_start: Noise level to start at, in (0, 1].
        t_end: Noise level to stop at, below t_start.
        t_last: Lowest time that the network is asked at, where t_end is 0: its x0 there is the result. None goes as low
            as the tolerance needs, which suits a velocity that is smooth down to 0.
        prediction: What the network returns: "velocity", "x0" or "eps".

    Raises:
        PidSamplerError: An argument is not as described, the network's output is not finite, its velocity is not smooth
            down to 0 and there is no t_last, or the tolerance is not reached, by rounding or jumps.

    Source: Dormand and Prince 1980; Soderlind, "Digital filters in adaptive time-stepping" (2003), H312PID; Hairer,
        Norsett, Wanner I, section II.4.
    """
    tolerance = number("tolerance", tolerance, low=0, above=True)
    t_start = number("t_start", t_start, low=0, high=1, above=True)
    t_end = number("t_end", t_end, low=0, high=t_start, below=True)
    if t_last is not None:
        t_last = number("t_last", t_last, low=0, high=t_start, above=True, below=True)
        if t_end > 0.0:
            raise ConfigError(f"t_last={t_last!r} is for a solution that ends at 0, but t_end={t_end!r}: leave one out")
    word("prediction", prediction, choices=PREDICTIONS)
    solver = _Solver(as_denoiser(denoiser), prediction, stop=t_last or t_end, to_zero=t_end == 0.0)
    begin = _begin(x, shape, seed, t_start)
    allowed, gap = min(_COARSEST, _COARSER * tolerance), math.inf
    try:
        if allowed < _FINEST:
            raise _GivenUpError("would be of rounding alone")
        before, rows = solver.solution(begin, t_start, allowed=allowed, calls=_MOST)
    except _GivenUpError as error:
        raise ConfigError(f"tolerance={tolerance!r}: the first solution {error}: pass a larger tolerance") from error
    most = solver.calls
    while gap > tolerance:
        allowed, done = allowed / _FINER, solver.calls
        try:
            if allowed < _FINEST:
                raise _GivenUpError("would be of rounding alone")
            found, rows = solver.solution(begin, t_start, allowed=allowed, calls=_AT_ONCE * most + 300)
        except _GivenUpError as error:
            larger = f"tolerance={2 * gap:.1g} or more" if math.isfinite(gap) else "a larger tolerance"
            raise ConfigError(
                f"tolerance={tolerance!r} is not reached, by rounding or jumps of the network: the closest solutions "
                f"are {gap:.2g} apart, and a finer one {error}: pass {larger}"
            ) from error
        gap, most = float(np.abs(found - before).max(initial=0.0)), max(most, solver.calls - done)
        before = found
    return Reference(StepTable(rows), before, error=gap, calls=solver.calls)


def _begin(x: Any, shape: Sequence[int] | None, seed: int | Sequence[int], t_start: float) -> Array:
    """The state at t_start, as `sample` makes it."""
    if (x is None) == (shape is None):
        raise ConfigError("the solution needs where to start: pass either x or shape")
    if shape is not None:
        made = np.empty(sizes("shape", shape))
        start(DormandPrince([t_start, 0.0]), made, seed=seed, inplace=True).initial_noise()
        return made
    return np.array(host_array("x", x), np.float64)


class _GivenUpError(ConfigError):
    """A solution that takes too many evaluations."""


class _Solver:
    """Solutions of one network: trial steps, and how many evaluations they took."""

    def __init__(self, network: Denoiser, prediction: str, *, stop: float, to_zero: bool) -> None:
        self.calls = 0
        self._network, self._prediction = network, prediction
        self._stop, self._to_zero = stop, to_zero
        # The velocity may turn below where it looks straight. So no last step is long, and two never begin at one time.
        self._last = _LAST

    def solution(self, x: Array, t: float, *, allowed: float, calls: int) -> tuple[Array, list[Row]]:
        """Return the solution whose steps each make at most the allowed error, and its rows.

        Raises:
            _GivenUpError: The solution takes more evaluations than `calls`.
        """
        rows: list[Row] = []
        length, errors, lowest = _FIRST, [1.0, 1.0], self._stop
        m: Any = None
        limit = self.calls + calls
        while True:
            t_next = max(lowest, time_of(log_snr(min(t, _NEAREST_1)) + length))
            run, velocities, m, m_next = self._trial(x, t, t_next, m)
            off = (t_next - t) * sum(w * v for w, v in zip(_DIFFERENCE, velocities, strict=True))
            error = max(float(np.abs(off).max(initial=0.0)) / allowed, 1e-10)
            if not math.isfinite(error):
                raise ModelError(
                    f"the network's output between t={t!r} and {t_next!r} is not finite: check the network there"
                )
            if error > 1.0:
                length *= max(_NEAR, _SAFETY * error ** (-1 / 5))
            else:
                latest = (error, *errors)
                factor = _SAFETY * math.prod(e**-power for e, power in zip(latest, _CONTROL, strict=True))
                length *= min(max(_NEAR, factor), _FAR)
                rows += run.table.rows[:6]
                x, m, errors = run.x, m_next, [error, errors[0]]
                bend = float(np.abs(velocities[-1] - velocities[0]).max(initial=0.0)) / (t - t_next)
                t = t_next
                # From there the last step's error is allowed.
                enough = min(math.sqrt(2.0 * allowed / bend) if bend else t, self._last)
                if t == self._stop or (self._stop == 0.0 and t <= enough):
                    if not self._to_zero:
                        return x, rows
                    self._last = max(_CLOSER * t, _LOWEST)
                    run.step(m)
                    return x, [*rows, run.table.rows[6]]
                if t < _LOWEST:
                    raise ConfigError(
                        f"the velocity is not smooth near t = 0 (it changes by {bend:.1g} a unit of t): pass t_last, "
                        "the lowest time that the network should be asked at, such as 0.01"
                    )
                lowest = self._stop or _SAFETY * enough
            if self.calls > limit:
                raise _GivenUpError(f"takes more than {calls} evaluations, at t={t:.4g}")

    def _trial(self, x: Array, t: float, t_next: float, m: Any) -> tuple[Run, list[Array], Any, Any]:
        """Do one step of six rows, whose first evaluation is m if it is known, and evaluate where it ends."""
        run = start(DormandPrince([t, t_next, 0.0]).table().predicting(self._prediction), x)
        outputs: list[Any] = [] if m is None else [m]
        velocities = []
        for k, row in enumerate(run.table):
            if k == len(outputs):
                outputs.append(run.evaluate(self._network).copy())
                self.calls += 1
            velocities.append((run.x - run.predict_x0(outputs[k])) / row.t)
            if row.t_next:
                run.step(outputs[k])
        return run, velocities, outputs[0], outputs[-1]
