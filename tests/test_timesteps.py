import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidsampler import PidSamplerError, timesteps

valid_lists = (
    st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=20, unique=True)
    .map(lambda times: [*sorted(times, reverse=True), 0.0])
)  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (4, [0.999, 0.866, 0.634, 0.342, 0.0]),
        (3, [0.999, 0.866, 0.342, 0.0]),
        (2, [0.999, 0.634, 0.0]),
        (1, [0.999, 0.0]),
    ],
)
def test_pid_is_the_published_list_and_its_rule(steps, expected):
    assert timesteps.pid(steps).tolist() == expected


def test_pid_defaults_to_four_steps():
    times = timesteps.pid()
    assert times.dtype == np.float64
    assert times.tolist() == [0.999, 0.866, 0.634, 0.342, 0.0]


@pytest.mark.parametrize("steps", [-1, 0, 5, 100])
def test_pid_refuses_what_the_rule_cannot_give(steps):
    with pytest.raises(PidSamplerError, match=rf"steps={steps} .*explicit list"):
        timesteps.pid(steps)


def test_uniform():
    assert timesteps.uniform(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(PidSamplerError, match="steps=0 must be at least 1"):
        timesteps.uniform(0)


@given(valid_lists)
def test_custom_keeps_every_bit(times):
    kept = timesteps.custom(times)
    assert kept.dtype == np.float64
    assert [t.hex() for t in kept.tolist()] == [t.hex() for t in times]


def test_custom_returns_a_copy():
    mine = np.array([0.9, 0.5, 0.0])
    timesteps.custom(mine)[0] = 0.1
    assert mine[0] == 0.9


def test_partial_may_end_above_zero():
    assert timesteps.custom([0.9, 0.5], partial=True).tolist() == [0.9, 0.5]
    assert timesteps.custom([0.9, 0.0], partial=True).tolist() == [0.9, 0.0]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.5, 0.7, 0.0], r"0\.7 at position 1 ascends from 0\.5"),
        ([0.5, 0.5, 0.0], r"0\.5 at position 1 repeats"),
        ([1.5, 0.5, 0.0], r"1\.5 at position 0 is outside 0\.\.1"),
        ([0.5, -0.25, 0.0], r"-0\.25 at position 1 is outside"),
        ([math.nan, 0.0], "nan at position 0 is outside"),
        ([math.inf, 0.0], "inf at position 0 is outside"),
        ([0.9, 0.25], r"end in 0\.25, expected 0.*partial=True"),
        ([0.0], "at least two times"),
        ([], "at least two times"),
        (0.5, "flat list"),
        ([[0.9, 0.0]], "flat list"),
        (["a", "b"], "list of numbers"),
        (None, "flat list"),
    ],
)
def test_custom_names_the_offending_value(times, message):
    with pytest.raises(PidSamplerError, match=message):
        timesteps.custom(times)


@given(valid_lists, st.data())
def test_subset_takes_ends_and_members(times, data):
    steps = data.draw(st.integers(1, len(times) - 1))
    chosen = timesteps.subset(times, steps).tolist()
    assert len(chosen) == steps + 1
    assert (chosen[0], chosen[-1]) == (times[0], times[-1])
    assert timesteps.custom(chosen).tolist() == chosen  # so none repeats
    assert set(chosen) <= set(times)


def test_named():
    assert timesteps.named("pid").tolist() == timesteps.pid().tolist()
    assert timesteps.named("uniform", 3).tolist() == timesteps.uniform(3).tolist()
    with pytest.raises(PidSamplerError, match="did you mean 'uniform'"):
        timesteps.named("unifrom", 3)
    with pytest.raises(PidSamplerError, match="needs a number of steps, such as uniform:8"):
        timesteps.named("uniform")
