"""The first paragraph of a report, word for word."""

import pytest

from pidsampler.study.report.words import finding
from pidsampler.study.statistics import difference, interval

PSNR = {"name": "psnr", "unit": "dB", "better": "higher", "digits": 2}
FLIP = {"name": "flip", "unit": "", "better": "lower", "digits": 2}
CALLS = {"name": "calls", "unit": "", "better": "lower", "digits": 0}


def by_image(values):
    """One run of each image."""
    return {(str(k), 0): x for k, x in enumerate(values)}


def study(measure, runs, *, preset=0, calls=(), baseline=None, noise=False):
    """Data and results of cells A, B, ... with these values of one measure, by image."""
    results = {chr(65 + i): {measure["name"]: by_image(xs)} for i, xs in enumerate(runs)}
    base = list(results.values())[preset][measure["name"]]
    cells = []
    for i, (label, found) in enumerate(results.items()):
        own = found[measure["name"]]
        pair = None if i == preset else difference(own, base)
        gap = None if pair is None else {k: getattr(pair, k) for k in ("mean", "low", "high", "p")} | {"noise": noise}
        values = {measure["name"]: {"mean": interval(own).mean, "difference": gap}}
        values |= {"calls": {"mean": calls[i]}} if calls else {}
        cells.append({"id": label, "label": label, "preset": i == preset, "results": values})
    if held := baseline and {"id": "bicubic", "results": {measure["name"]: {"mean": interval(baseline).mean}}}:
        results["bicubic"] = {measure["name"]: baseline}
    return {"measures": [CALLS, measure], "cells": cells, "baseline": held}, results


BASE = [20.0, 21.0, 22.0, 23.0]
BETTER = [x + 1.0 + 0.01 * k for k, x in enumerate(BASE)]
NEARLY = [x + (0.1 if k % 2 else -0.1) for k, x in enumerate(BETTER)]


def test_the_best_its_gain_and_what_is_within_noise():
    data, results = study(PSNR, [BASE, BETTER, NEARLY], calls=(4, 8, 2))
    pair = difference(results["B"]["psnr"], results["A"]["psnr"])
    assert (f"{pair.low:.2f}", f"{pair.high:.2f}") == ("1.00", "1.03")
    assert finding(data, results) == (
        'Of 3 cells "B" has the highest psnr: 22.52 dB. '
        "That is 1.02 dB better than the preset, with a 95 % interval from 1.00 dB to 1.03 dB. "
        'Within noise of it is "C". '
        'Of these, "C" takes the fewest model calls: 2 rather than 8. '
        "It was picked after the runs, so expect a little less from new ones."
    )


def test_less_may_be_better_and_a_gain_within_noise():
    data, results = study(
        FLIP, [BASE, [x - 0.5 + 0.01 * k for k, x in enumerate(BASE)]], noise=True, baseline=by_image([2.9, 3.0, 3.1])
    )
    assert finding(data, results) == (
        'Of 2 cells "B" has the lowest flip: 21.02. '
        "That is 0.48 better than the preset, with a 95 % interval from 0.47 to 0.50: within noise. "
        "No other cell is within noise of it. "
        "The input enlarged by bicubic, which is no sampler, has 3.00: better than every cell."
    )


def test_the_preset_may_be_the_best():
    data, results = study(PSNR, [BETTER, BASE], baseline=by_image([1.9, 2.0, 2.1]))
    assert finding(data, results) == (
        'Of 2 cells the preset ("A") has the highest psnr: 22.52 dB. No other cell is within noise of it. '
        "The input enlarged by bicubic, which is no sampler, has 2.00 dB."
    )


def test_bicubic_is_better_only_where_that_is_no_noise():
    data, results = study(PSNR, [BASE, BETTER], baseline=by_image([x + 0.1 for x in NEARLY]))
    assert finding(data, results).endswith(
        "The input enlarged by bicubic, which is no sampler, has 22.62 dB: within noise of the best cell."
    )


def test_single_runs_tell_nothing_of_noise():
    data, results = study(PSNR, [[20.0], [21.0]])
    assert finding(data, results) == (
        'Of 2 cells "B" has the highest psnr: 21.00 dB. Each cell is a single run, so nothing can be said about noise.'
    )


@pytest.mark.parametrize("measure", [PSNR | {"better": "zero"}, PSNR | {"better": ""}])
def test_without_a_direction_there_is_no_best(measure):
    assert finding(*study(measure, [BASE, BETTER])) == ""


def test_many_are_not_all_named():
    data, results = study(PSNR, [BETTER, *[NEARLY] * 6])
    assert 'Within noise of it are "B", "C", "D", "E" and 2 more.' in finding(data, results)
