"""Tables of two methods written out by hand, row by row, independent of the package's schedulers."""

from itertools import pairwise

from pidsampler import Combination, Row, StepTable


def heun(times):
    """Heun's method on the velocity: an anchor and a slope in one saved tensor, two evaluations a step."""
    rows = []
    for t, s in pairwise(times):
        if s == 0:
            rows.append(Row(t, s, b=1))
            continue
        half = (s - t) / 2
        # x + half*v1, with v1 = (x - x0)/t, is kept; the second row adds half*v2, v2 = (x - x0)/s.
        kept = Combination(a=1 + half / t, b=-half / t)
        rows.append(Row(t, s, a=s / t, b=1 - s / t, saves={0: kept}))
        rows.append(Row(s, s, a=half / s, b=-half / s, h={0: 1}))
    return StepTable(rows)


def adams_bashforth_2(times):
    """AB2 on the velocity with variable steps; the earlier velocity is saved."""
    rows, before = [], None
    for t, s in pairwise(times):
        velocity = Combination(a=1 / t, b=-1 / t)
        if s == 0:
            rows.append(Row(t, s, b=1))
        elif before is None:
            rows.append(Row(t, s, a=s / t, b=1 - s / t, saves={0: velocity}))
        else:
            step, ratio = s - t, (s - t) / (t - before)
            now, old = step * (1 + ratio / 2), -step * ratio / 2
            rows.append(Row(t, s, a=1 + now / t, b=-now / t, h={0: old}, saves={0: velocity}))
        before = t
    return StepTable(rows)
