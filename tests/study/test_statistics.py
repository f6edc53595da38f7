import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pidsampler import PidSamplerError
from pidsampler.study.statistics import corrected, describe, difference, interval, order


def grid(values):
    """Runs of an array (images, seeds)."""
    return {(f"image {i}", seed): float(value) for (i, seed), value in np.ndenumerate(np.atleast_2d(values))}


def images(values):
    """Runs with one seed of each image."""
    return grid(np.reshape(values, (-1, 1)))


values = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
shapes = st.tuples(st.integers(1, 10), st.integers(1, 5))
grids = shapes.filter(lambda shape: shape != (1, 1)).flatmap(
    lambda shape: st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)).map(
        lambda flat: grid(np.reshape(flat, shape))
    )
)

# Below each, in percent, is what was measured on 2000 samples less 2.5: three deviations of a share of 600.
DRAWS = {
    "normal": (lambda random, shape: random.normal(size=shape), 0.0),
    "exponential": (lambda random, shape: random.exponential(size=shape), 1.0),
}


@pytest.mark.parametrize(
    ("law", "shape", "least"),
    [
        ("normal", (4, 1), 91.5),
        ("normal", (8, 1), 92.5),
        ("normal", (32, 1), 92.5),
        ("normal", (4, 8), 92.5),
        ("normal", (4, 2), 94.5),
        ("exponential", (4, 1), 85.0),
        ("exponential", (8, 1), 87.0),
        ("exponential", (32, 1), 89.5),
        ("exponential", (4, 8), 90.0),
    ],
)
def test_intervals_cover_the_mean(law, shape, least):
    draw, mean = DRAWS[law]
    random = np.random.default_rng(0)
    apart = 10.0 * np.arange(shape[0])[:, None] if shape[1] > 1 else 0.0  # what images differ by is no noise of theirs
    found = [interval(grid(draw(random, shape) + apart)) for _ in range(600)]
    covered = 100.0 * np.mean([one.low <= mean + np.mean(apart) <= one.high for one in found])
    assert least <= covered <= 99.5


def test_an_interval_of_normal_values_is_nearly_students():
    sample = np.random.default_rng(1).normal(size=40)
    found = interval(images(sample))
    low, high = stats.t.interval(0.95, 39, sample.mean(), stats.sem(sample))
    assert found.mean == pytest.approx(sample.mean(), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))
    assert found.n == 40


def test_the_mean_is_that_of_the_images_means():
    runs = {("a", 0): 1.0, ("a", 1): 3.0, ("b", 0): 10.0, ("b", 1): 10.0, ("b", 2): 13.0}
    assert interval(runs).mean == pytest.approx((2.0 + 11.0) / 2)
    assert interval(runs).n == 5


def test_few_images_are_strata_and_many_are_the_sample():
    seeds = np.random.default_rng(0).normal(size=(8, 16))
    apart = 100.0 * np.arange(8)[:, None]
    seven, eight = interval(grid((seeds + apart)[:7])), interval(grid(seeds + apart))
    assert seven.high - seven.low < 1.0  # the noise of the seeds alone
    assert eight.high - eight.low > 200.0  # the images' too
    one_seed = interval(grid((seeds + apart)[:7, :1]))
    assert one_seed.high - one_seed.low > 200.0


def test_describe_says_what_an_interval_is_over():
    assert "over the 8 seeds of each of these 4 images: they say nothing of other images" in describe(
        grid(np.ones((4, 8)))
    )
    assert "over the 3 seeds of this one image" in describe(grid(np.ones((1, 3))))
    assert "over the 8 images" in describe(grid(np.ones((8, 3))))
    assert "over the 2 images" in describe(grid(np.ones((2, 1))))
    assert "a single run" in describe({("a", 0): 1.0})
    uneven = {("a", 0): 1.0, ("a", 1): 1.0, ("b", 0): 1.0, ("b", 1): 1.0, ("b", 2): 1.0}
    assert "over the 2 to 3 seeds" in describe(uneven)


def test_one_value_has_no_interval():
    found = interval({("a", 0): 2.5})
    assert (found.mean, found.n) == (2.5, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (9, 2), (3, 3)])
def test_equal_values_have_an_interval_without_width(shape):
    found = interval(grid(np.full(shape, 0.1)))
    assert (found.mean, found.low, found.high) == (0.1, 0.1, 0.1)


@given(grids)
def test_an_interval_holds_its_mean_and_lies_near_the_values(runs):
    found = interval(runs)
    assert found.low <= found.mean <= found.high
    assert min(runs.values()) - 1e-9 <= found.mean <= max(runs.values()) + 1e-9


@given(grids, st.randoms(use_true_random=False))
def test_the_order_of_the_runs_does_not_matter(runs, random):
    shuffled = list(runs.items())
    random.shuffle(shuffled)
    assert interval(dict(shuffled)) == interval(runs)
    assert describe(dict(shuffled)) == describe(runs)


@given(grids, st.floats(-1e3, 1e3), st.floats(0.01, 100.0))
def test_an_interval_shifts_and_scales_with_the_values(runs, shift, scale):
    found, moved = interval(runs), interval({key: shift + scale * value for key, value in runs.items()})
    expected = [shift + scale * end for end in (found.mean, found.low, found.high)]
    # The means are exact to rounding; an end is a pick among resamples, of which two may be equal but for rounding.
    assert [moved.mean, moved.low, moved.high] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(grids)
def test_no_difference_to_itself(runs):
    if len(runs) < 2:
        assert difference(runs, runs) is None
    else:
        found = difference(runs, runs)
        assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_paired_difference_by_a_known_answer():
    """Darwin's plants, by which Fisher explained the paired test: t = 2.148 with 14 degrees of freedom, p = 0.0497."""
    differences = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
    found = difference(images(differences), images(np.zeros(15)))
    assert found.mean == pytest.approx(20.933, abs=1e-3)
    assert found.p == pytest.approx(0.0497, abs=1e-4)
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue, rel=1e-12)
    assert found.n == 15


@pytest.mark.parametrize("count", [2, 8, 32])
def test_the_paired_test_is_scipys_over_images_or_the_seeds_of_one(count):
    random = np.random.default_rng(count)
    runs, base = random.normal(size=(2, count))
    expected = stats.ttest_rel(runs, base).pvalue
    assert difference(images(runs), images(base)).p == pytest.approx(expected, rel=1e-10)
    assert difference(grid(runs), grid(base)).p == pytest.approx(expected, rel=1e-10)


def test_over_the_seeds_of_two_images_the_test_is_welchs():
    """The mean of two images' means is 0 where those of one and of minus the other are equal."""
    random = np.random.default_rng(0)
    first, second = random.normal(0.5, 1.0, size=5), random.normal(0.1, 3.0, size=9)
    runs = {("a", i): float(x) for i, x in enumerate(first)} | {("b", i): float(x) for i, x in enumerate(second)}
    found = difference(runs, dict.fromkeys(runs, 0.0))
    assert found.p == pytest.approx(stats.ttest_ind(first, -second, equal_var=False).pvalue, rel=1e-10)


def test_pairs_remove_what_images_differ_by():
    random = np.random.default_rng(0)
    hard = random.normal(0.0, 10.0, size=(10, 1))
    base = hard + random.normal(0.0, 0.1, size=(10, 4))
    better = base + 0.3 + random.normal(0.0, 0.1, size=(10, 4))
    found, alone = difference(grid(better), grid(base)), interval(grid(better))
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.2 < 5.0 < alone.high - alone.low
    assert found.p < 1e-4
    assert stats.ttest_ind(better.mean(axis=1), base.mean(axis=1)).pvalue > 0.5


def test_eight_images_can_pass_a_correction_for_forty_comparisons():
    random = np.random.default_rng(0)
    found = difference(images(random.normal(3.0, 1.0, size=8)), images(np.zeros(8)))
    assert 39 * found.p < 0.05 < 39 * 2.0**-7  # the right side is the least that Wilcoxon's test can give


@pytest.mark.parametrize("law", ["normal", "laplace", "lognormal"])
def test_false_positives_are_as_rare_as_stated(law):
    random = np.random.default_rng(0)
    pairs = getattr(random, law)(size=(2, 800, 4, 2))
    found = [difference(grid(a), grid(b)).p for a, b in zip(*pairs, strict=True)]
    assert np.mean(np.array(found) < 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 800)


def test_a_difference_is_over_the_runs_that_both_have():
    runs = {("a", 0): 1.0, ("a", 1): 3.0, ("a", 2): 100.0}
    base = {("a", 0): 0.0, ("a", 1): 1.0, ("b", 2): -100.0}
    assert difference(runs, base).mean == 1.5
    assert difference(runs, base).n == 2
    assert difference(runs, {("a", 0): 0.0}) is None
    assert difference(runs, {("b", 0): 0.0}) is None
    assert difference({}, {}) is None


def test_a_constant_difference_is_certain_and_ties_are_no_trouble():
    calls = difference(images(np.full(4, 8.0)), images(np.full(4, 4.0)))
    assert (calls.mean, calls.low, calls.high, calls.p) == (4.0, 4.0, 4.0, 0.0)
    rare = np.zeros(32)
    rare[:2] = 1.0
    found = difference(images(rare), images(np.zeros(32)))
    assert math.isfinite(found.high)
    assert found.p > 0.05


def test_holm_by_a_textbook_example():
    """Holm's procedure on 0.01, 0.04, 0.03, 0.005: times 4, 3, 2, 1 in ascending order, never less than before."""
    assert corrected([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert corrected([]) == []
    assert corrected([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0.0, 1.0), max_size=50), st.randoms(use_true_random=False))
def test_holm_keeps_the_order_and_lies_between_nothing_and_bonferroni(p, random):
    found = corrected(p)
    for before, after in zip(p, found, strict=True):
        assert before <= after <= min(1.0, len(p) * before)
    ranked = [after for _, after in sorted(zip(p, found, strict=True))]
    assert ranked == sorted(found)
    places = list(range(len(p)))
    random.shuffle(places)
    assert corrected([p[i] for i in places]) == [found[i] for i in places]


STEPS = (2, 4, 8, 16, 32, 64, 128)


def power_law(p, floor=0.0, early=0.0, noise=0.0, shape=(4, 8)):
    """Errors of (1 + early/n) * n^-p + floor, each run with a factor of its own and noise."""
    random = np.random.default_rng(0)
    factor = random.uniform(0.5, 2.0, size=shape)
    return [
        grid(factor * (1.0 + early / n) * float(n) ** -p * np.exp(noise * random.normal(size=shape)) + floor)
        for n in STEPS
    ]


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_order_of_a_power_law_is_exact_and_certain(p):
    found = order(STEPS, power_law(p))
    assert (found.fit, found.low, found.high) == pytest.approx((p, p, p), abs=1e-9)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 4.0])
def test_order_is_found_between_the_first_steps_and_the_floor(p):
    found = order(STEPS, power_law(p, floor=2.0 ** (-6 * p), early=1.0))
    assert found.fit == pytest.approx(p, abs=0.25)
    assert order(STEPS, power_law(p, floor=2.0 ** (-6 * p))).fit == pytest.approx(p, abs=0.25)
    assert order(STEPS, power_law(p, early=3.0)).fit == pytest.approx(p, abs=0.05)


def test_an_orders_interval_covers_it_and_is_that_of_resampled_fits():
    errors = power_law(2.0, noise=0.2)
    found = order(STEPS, errors)
    assert found.low < 2.0 < found.high
    assert found.high - found.low < 0.3
    random = np.random.default_rng(0)
    last = np.array([[errors[k][f"image {i}", s] for i in range(4) for s in range(8)] for k in (4, 5, 6)])
    assert found.fit == pytest.approx(math.log2(last[0].mean() / last[2].mean()) / 2.0)
    picks = np.concatenate([8 * i + random.integers(0, 8, size=(4000, 8)) for i in range(4)], axis=1)
    means = last[:, picks].mean(axis=2)
    low, high = np.quantile(np.log2(means[0] / means[2]) / 2.0, [0.025, 0.975])
    assert high - low < found.high - found.low < 1.3 * (high - low)


def test_order_does_not_depend_on_the_order_of_anything():
    errors = power_law(2.0, floor=1e-4, noise=0.1)
    mixed = [dict(reversed(list(runs.items()))) for runs in reversed(errors)]
    assert order(STEPS[::-1], mixed) == order(STEPS, errors)


def test_order_scales_with_neither_the_error_nor_the_steps():
    errors = power_law(2.0, floor=1e-4)
    larger = [{key: 1e6 * value for key, value in runs.items()} for runs in errors]
    assert order([3 * n for n in STEPS], larger).fit == pytest.approx(order(STEPS, errors).fit)


def test_no_order_where_there_is_no_convergence():
    assert order(STEPS, [grid(np.ones((2, 2)))] * 7) is None
    assert order(STEPS, power_law(-1.0)) is None
    assert order(STEPS, [grid(np.zeros((2, 2)))] * 7) is None
    assert order((2, 4), power_law(2.0)[:2]) is None
    assert order((), ()) is None
    assert order((1, 2, 4), [{}, {}, {}]) is None


def test_order_of_a_single_run_has_no_interval():
    found = order(STEPS, power_law(2.0, shape=(1, 1)))
    assert found.fit == pytest.approx(2.0)
    assert math.isnan(found.low)


def test_order_is_over_the_runs_that_all_step_counts_have():
    errors = power_law(2.0)
    errors[3] = errors[3] | {("other", 0): 1e9}
    del errors[6]["image 0", 0]
    assert order(STEPS, errors).fit == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval({}), "there is no run"),
        (lambda: describe({}), "there is no run"),
        (lambda: interval({("cat", 3): math.nan}), "the value nan of image 'cat', seed 3 must be finite"),
        (lambda: interval({("cat", 3): 1.0, ("cat", 4): -math.inf}), "the value -inf of image 'cat', seed 4"),
        (lambda: difference(grid([1.0, math.nan]), grid([1.0, 2.0])), "the value nan"),
        (lambda: corrected([0.5, 1.5]), r"p=1\.5 must be a finite number in \[0, 1\]"),
        (lambda: corrected([math.nan]), "p=nan must be a finite number"),
        (lambda: order((2, 2), [grid(1.0)] * 2), r"steps=\[2, 2\] must be different counts"),
        (lambda: order((0, 2), [grid(1.0)] * 2), r"steps=\[0, 2\] must be"),
        (lambda: order((1, 2, 3), [grid(1.0)]), "with errors for each"),
        (lambda: order((1, 2), [grid(1.0), grid(-1.0)]), r"the error -1\.0 of image 'image 0', seed 0 must be finite"),
        (lambda: order((1, 2), [grid(1.0), grid(math.nan)]), "the error nan"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(PidSamplerError, match=message):
        call()


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(PidSamplerError, match=r"scipy is not installed: pip install 'pidsampler\[study\]'"):
        interval({("a", 0): 1.0, ("a", 1): 2.0})
