"""Tables of two methods written out by hand, and what a table does to a Gaussian, exactly."""

from itertools import pairwise

import numpy as np

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


def on_gaussian(table, mean, std):
    """Return the number and {draw: weight} that a table makes of the flow of N(mean, std^2) with its exact denoiser.

    That denoiser's x0 is affine in x, so every tensor is a number plus a weighted sum of draws: exact, without a
    sample. It starts on the marginal of the table's first time, whose noise is draw 0.
    """
    drawn = {draw for row in table.rows for c in (row, *dict(row.saves).values()) for draw, _ in c.noise}
    index = {draw: k for k, draw in enumerate(sorted(drawn | {0}), 1)}  # 0 is the number's
    t = table.times[0]
    x, saved = np.zeros(len(index) + 1), {}
    x[:2] = (1 - t) * mean, np.hypot((1 - t) * std, t)
    for row in table.rows:
        g = (1 - row.t) * std**2 / ((1 - row.t) ** 2 * std**2 + row.t**2)
        x0 = g * x
        x0[0] += mean - g * (1 - row.t) * mean

        def combined(c, x=x, x0=x0, saved=saved):
            total = c.a * x + c.b * x0 + sum(w * saved[k] for k, w in c.h)
            for draw, w in c.noise:
                total[index[draw]] += w
            return total

        x, saved = combined(row), {**saved, **{slot: combined(c) for slot, c in row.saves}}
    return float(x[0]), {draw: float(x[k]) for draw, k in index.items()}
