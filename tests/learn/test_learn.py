import itertools
import os
import statistics
import warnings
from dataclasses import replace

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidsampler import PidSamplerError, StepTable, get_scheduler, sample, timesteps
from pidsampler.denoiser import Gaussian, GaussianMixture
from pidsampler.errors import PidSamplerWarning
from pidsampler.learn import Learning, LinearSolver, fit, matrix
from pidsampler.learn.flights import Course, Flight, Trajectory, rms
from pidsampler.learn.guards import amplification
from pidsampler.learn.joint import Ends, Point, refined
from pidsampler.learn.known import best_known, known_samplers
from pidsampler.learn.solved import Followed, Reference, sharpen
from pidsampler.learn.weights import least_squares
from pidsampler.search import Search
from pidsampler.search.journal import Journal
from pidsampler.search.problem import Problem, Subject
from pidsampler.study.measures import Sample

FLOW = GaussianMixture([-0.6, 0.2, 0.9], [0.12, 0.2, 0.1], [2, 1, 1.5])
PROBLEM = Problem.of_flow(FLOW, height=8, width=4)
TIMES = [1.0, 0.75, 0.5, 0.3, 0.1, 0.0]
SMALL = {"shape": (3, 8, 8), "evaluations": 4}
SOLVER = LinearSolver([*TIMES[:-2], 0.0], [[], [0.3], [0.2, -0.4], [-0.1, 0.5, 0.2]])


def flight(*seeds, problem=PROBLEM):
    return Flight(problem, problem.subjects[0], seeds=seeds)


def x0_of(x, t):
    """What the flow predicts, by the denoiser itself."""
    FLOW.predict(x, t, out := np.empty_like(x))
    return x - t * out


class Points:
    """A trajectory of which some points are known."""

    def __init__(self, times, points):
        self.known = dict(zip(times, points, strict=True))

    def at(self, t):
        return self.known[t]


@pytest.mark.parametrize("ridge", [0.0, 1e-2, 0.5])
def test_weights_are_those_of_a_stacked_least_squares(ridge):
    flights = [flight(0, 1), flight(2)]
    pairs = [(one, Trajectory(one, one.follower(32))) for one in flights]
    found, ends = least_squares(pairs, TIMES, history=2, ridge=ridge)
    x = np.concatenate([one.noise for one in flights])
    predictions = []
    for i, (t, t_next) in enumerate(itertools.pairwise(TIMES)):
        predictions.append(x0_of(x, t))
        a, target = t_next / t, np.concatenate([trajectory.at(t_next) for _, trajectory in pairs])
        plain, weights = a * x + (1 - a) * predictions[-1], np.zeros(0)
        if i:
            columns = [(predictions[-2 - k] - predictions[-1]).ravel() for k in range(min(i, 2))]
            matrix = np.stack(columns, axis=1)
            damping = np.sqrt(ridge * np.mean(np.sum(matrix**2, axis=0)))
            rows = np.concatenate([matrix, damping * np.eye(len(columns))])
            right = np.concatenate([(target - plain).ravel(), np.zeros(len(columns))])
            weights = np.linalg.lstsq(rows, right, rcond=None)[0]
            plain += (matrix @ weights).reshape(x.shape)
        x = plain
        np.testing.assert_allclose(found.weights[i], weights, atol=1e-9)
    for one, end in zip(flights, ends, strict=True):
        assert np.array_equal(Course(one, found).end, end)


@pytest.mark.parametrize(("name", "history"), [("dpmpp-2m", 1), ("dpmpp-3m", 2), ("adams-bashforth", 4)])
def test_a_known_multistep_method_is_recovered(name, history):
    table = get_scheduler(name, TIMES).table()
    here, points = flight(0, 1, 2), []
    points.append(here.by(table, lambda run, m: points.append(run.x.copy())))
    found, _ = least_squares([(here, Points(TIMES, points))], TIMES, history=history, ridge=0.0)
    unseen = flight(7)
    assert rms(Course(unseen, found).end - sample(FLOW, table, x=unseen.noise, dtype=float)) < 1e-6
    if name == "dpmpp-2m":  # -(1 - t'/t)/(2r) of its formula, in which the first and the last step are of first order
        steps = np.diff([np.log((1 - t) / t) for t in TIMES[1:-1]])
        r = [*(before / step for before, step in itertools.pairwise(steps))]
        weights = [-(1 - TIMES[i + 1] / TIMES[i]) / (2 * ratio) for i, ratio in zip((2, 3), r, strict=True)]
        np.testing.assert_allclose([found.weights[2][0], found.weights[3][0]], weights, atol=1e-6)


@settings(max_examples=20)
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_marginals_hold_for_any_weights_and_the_table_does_what_the_course_does(weights):
    rows = [weights[:0], weights[:1], weights[1:3], weights[3:]]
    solver = LinearSolver([0.9, 0.6, 0.3, 0.1, 0.0], rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PidSamplerWarning)
        table = solver.table()  # checks each row's marginals
    here = flight(3)
    found, course = sample(FLOW, table, x=here.noise, dtype=float), Course(here, solver).end
    np.testing.assert_allclose(found, course, rtol=1e-9, atol=1e-9)


def test_a_solver_refuses():
    with pytest.raises(PidSamplerError, match="1 rows of weights for 2 steps"):
        LinearSolver([1, 0.5, 0], [[]])
    with pytest.raises(PidSamplerError, match="row 1 has 2 weights, but 1 predictions before it"):
        LinearSolver([1, 0.5, 0], [[], [1, 2]])


@pytest.mark.parametrize(("below", "steady"), [(None, 0.0), (1.0, 0.0), (None, 1e-3)])
def test_the_slope_is_that_of_the_cost(below, steady):
    solver = LinearSolver([0.95, *SOLVER.times[1:]], SOLVER.weights) if below else SOLVER
    here = Followed(flight(0, 1))
    ends = Ends(flights=[here.flight], targets=[here.end], change=1e-6, steady=steady)
    point = Point(ends, solver, penalty=1e-3, below=below)
    normal, slope = point.normal_equations()
    steps = 1e-5 * np.eye(len(slope))
    plain = [(point.moved(step).cost - point.moved(-step).cost) / 4e-5 for step in steps]  # of half the cost
    np.testing.assert_allclose(slope, plain, rtol=1e-3, atol=1e-6)
    assert np.linalg.eigvalsh(normal).min() > 0


def test_refining_never_makes_it_worse():
    here = Followed(flight(0, 1))
    ends = Ends(flights=[here.flight], targets=[here.end], change=1e-6)
    told = []
    off, found = refined(ends, SOLVER, penalty=0.0, on_best=told.append)
    assert off == told[-1]
    assert told == sorted(told, reverse=True)
    assert rms(Course(here.flight, found).end - here.end) == pytest.approx(told[-1])
    assert told[-1] < 0.2 * rms(Course(here.flight, SOLVER).end - here.end)


def test_four_calls_are_far_better_than_any_named_method():
    learning = Learning(calls=4, evaluations=8, seeds=3)
    told = []
    found = learning.run(PROBLEM, lambda what, about: told.append((what, about)))
    assert found.error < 0.3 * found.baselines[0].mean
    assert [rival.verdict for rival in found.baselines] == ["better"] * 12
    assert found.amplification < 10
    assert found.reference_error == 0.0
    assert sorted(found.errors) == [("law", seed) for seed in (3, 4, 5)]
    assert found.error != found.bfloat16 == pytest.approx(found.error, rel=0.1)
    assert len(told) < 2 * told[0][1]
    here = flight(3, 4, 5)  # the table gives what the comparison says
    off = sample(FLOW, found.table, x=here.noise, dtype=float) - here.exact
    assert np.mean([rms(one) for one in off]) == pytest.approx(found.error)
    assert any("of the distance of" in line for line in found.report)
    read = StepTable.from_json(found.table.to_json())
    assert read == found.table
    assert read.history == found.history
    assert read.history["settings"]["calls"] == 4
    assert read.history["held_out"][0]["errors"] == {str(seed): found.errors["law", seed] for seed in (3, 4, 5)}


def test_two_fits_with_one_seed_are_equal_to_the_bit():
    one, other = (Learning(calls=2, evaluations=2, seeds=2).run(PROBLEM) for _ in range(2))
    assert one.table == other.table
    assert one.history == other.history


class KilledError(Exception):
    """What stands for the end of a process."""


def killed(learning, problem, path, *, after):
    """Whether learning was ended after so many calls, and the fit if not."""
    calls = itertools.count(1)

    def on_call(what, about):
        if next(calls) > after:
            raise KilledError

    try:
        return False, learning.run(problem, on_call, journal=Journal(path))
    except KilledError:
        return True, None


def test_killed_and_begun_again_it_ends_the_same_to_the_bit(tmp_path):
    """Of a network whose solution is followed, so that ends are kept too; with a line that was half written."""
    net, path = GaussianMixture([-0.6, 0.2], [0.3, 0.2], [2, 1]), tmp_path / "journal"
    subject = Subject(name="net", denoiser=net, shape=(1, 3, 4, 4), seen=Sample(np.empty(0)))
    problem = Problem(name="net", subjects=[subject], first=0.999, dtype=np.float64)
    learning = Learning(calls=3, evaluations=4, seeds=2)
    calls = []
    plain = learning.run(problem, lambda what, about: calls.append(what))
    assert {what.partition(":")[0].partition(" ")[0] for what in calls} >= {"solving", "moving", "times", "comparing"}
    times = 0
    for after in itertools.count(100, 120):
        ended, found = killed(learning, problem, path, after=after)
        times += ended
        if not ended:
            break
        with path.open("ab") as file:
            file.write(b'["half writ')
    assert times >= 3
    assert found.table == plain.table
    assert found.history == plain.history
    left = []
    again = learning.run(problem, lambda what, about: left.append(about), journal=Journal(path))
    assert again.history == plain.history
    assert len(left) < 0.5 * len(calls)
    assert left[0] < len(calls)


def test_a_journal_of_others(tmp_path):
    path = tmp_path / "journal"
    learning = Learning(calls=2, evaluations=0, seeds=2)
    learning.run(PROBLEM, journal=Journal(path))
    other = Journal(path)
    found = attrs.evolve(learning, ridge=0.5).run(PROBLEM, journal=other)
    assert other.replaced
    assert found.table == attrs.evolve(learning, ridge=0.5).run(PROBLEM).table
    path.write_text("my diary")
    with pytest.raises(PidSamplerError, match="is no journal of this program: remove it"):
        learning.run(PROBLEM, journal=Journal(path))
    assert path.read_text() == "my diary"
    held = Journal(tmp_path / "held")
    held.begin({})
    with pytest.raises(PidSamplerError, match="is being worked on by another process"):
        learning.run(PROBLEM, journal=Journal(tmp_path / "held"))
    held.remove()
    assert not held.path.exists()


def test_an_edited_measure_begins_anew(tmp_path):
    """The numbers of the file before are not mixed with those of the new one."""
    file = tmp_path / "mine.py"
    source = (
        "import numpy as np\nfrom pidsampler.study.measures import measure\n"
        "@measure(unit='', better='lower', source='a mean', needs=())\n"
        "def near(sample):\n    return float(np.mean(sample.x ** {}))\n"
    )
    file.write_text(source.format(2))
    learning, search = (
        Learning(calls=2, evaluations=0, seeds=2, target=f"{file}:near"),
        Search("flow-ode", 2, measure=f"{file}:near", evaluations=0, seeds=2),
    )
    for work in (learning, search):
        path = tmp_path / type(work).__name__
        work.run(PROBLEM, journal=Journal(path))
        again = Journal(path)
        work.run(PROBLEM, journal=again)
        assert (again.replaced, again.skipped > 0) == (False, True)
    file.write_text(source.format(4))
    os.utime(file, ns=(0, 1))
    changed = Search("flow-ode", 2, measure=f"{file}:near", evaluations=0, seeds=2)
    for work in (learning, changed):
        again = Journal(tmp_path / type(work).__name__)
        work.run(PROBLEM, journal=again)
        assert again.replaced


def test_a_journal_stops_before_it_is_too_large_to_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr("pidsampler.search.journal._MOST_BYTES", 200)
    for _ in range(2):
        journal = Journal(tmp_path / "journal")
        journal.begin({})
        for k in range(20):
            assert journal.kept(f"{k}", lambda k=k: [float(k)], count=1) == [k]
        journal.close()
        assert journal.path.stat().st_size <= 200


NARROW = GaussianMixture([-0.5, 0.5], [0.1, 0.1], [1, 1])  # a large first step makes errors large


def test_too_large_errors_raise_the_ridge_over_a_list():
    problem = Problem.of_flow(NARROW, height=8, width=8)
    learning = Learning(calls=4, timesteps=[1, 0.6, 0.3, 0.1, 0], seeds=2, most_amplified=2.5)
    free = attrs.evolve(learning, most_amplified=10).run(problem)
    assert free.amplification > 2.5
    found = learning.run(problem)
    assert found.amplification <= 2.5
    assert found.history["ridge"] > found.history["settings"]["ridge"] == 0.01
    assert any(line.startswith("The ridge was raised from 0.01 to ") for line in found.report)
    with pytest.raises(PidSamplerError, match="times larger, more than most_amplified=1: pass a larger ridge"):
        attrs.evolve(learning, ridge=0, most_amplified=1).run(problem)


def test_too_large_errors_are_counted_where_times_and_weights_move_together():
    problem = Problem.of_flow(NARROW, height=8, width=8)
    free = Learning(calls=4, evaluations=30, seeds=4, joint=4, most_amplified=1000).run(problem)
    assert free.amplification > 3
    assert not free.history["steady"]
    learning = Learning(calls=4, evaluations=30, seeds=4, joint=4, most_amplified=3)
    found = learning.run(problem)
    assert found.amplification <= 3
    assert found.history["ridge"] == 0.01
    assert found.history["steady"] > 0
    assert found.error < found.baselines[0].mean
    assert "Times and weights were moved on, as they made errors too large at first." in found.report
    by_ridge = attrs.evolve(learning, joint=0).run(problem)
    assert found.error < by_ridge.error


def test_a_smaller_ridge_is_not_called_raised():
    found = fit(NARROW, calls=3, shape=(3, 4, 4), evaluations=10, ridge=100.0)
    assert found.history["ridge"] < 100
    assert not any("raised" in line for line in found.report)
    assert any(line.startswith(f"A ridge of {found.history['ridge']:g} was better ") for line in found.report)


def test_a_searched_list_is_compared_with():
    found = Learning(calls=3, evaluations=16, seeds=2).run(PROBLEM)
    searched, best = found.known.searched, found.baselines[0]
    method, _, spec = best.name.partition("@")
    assert searched.name == f"{method}@searched:{spec[-1]}"
    assert searched.mean < best.mean
    off = distances_by(method, searched.times, seeds=(2, 3))
    assert np.mean(off) == pytest.approx(searched.mean)
    assert found.history["best_searched"]["times"] == searched.times.tolist()
    assert found.history["lists_left_out"]["polyexponential"] == "it is the same as exponential"
    assert sum("of the distance of" in line for line in found.report) == 2


def test_a_matrix_of_tables_and_problems():
    other = Problem.of_flow(GaussianMixture([-0.3, 0.4], [0.5, 0.35], [1, 2]), height=4, width=4)
    tables = {"mine": SOLVER.table(), "euler": "flow-ode@uniform:2"}
    told = []
    rows = matrix(tables, {"this": PROBLEM, "other": other}, seeds=2, on_call=told.append)
    assert set(told) == {"this", "other"}
    assert [(row.table, row.on) for row in rows] == [(a, b) for a in tables for b in ("this", "other")]
    for row in rows:
        assert row.share == row.distance / row.best_distance
        assert row.low <= row.distance - row.best_distance <= row.high
        assert row.reference_error == 0.0
    assert rows[2].distance == pytest.approx(np.mean(distances_by("flow-ode", [1, 0.5, 0], seeds=(2**20, 2**20 + 1))))
    assert rows[2].share > 1
    with pytest.raises(PidSamplerError, match="draws noise or asks two networks"):
        matrix({"sde": "flow-sde@uniform:2"}, {"this": PROBLEM})
    with pytest.raises(PidSamplerError, match="a single run"):
        matrix(tables, {"this": PROBLEM}, seeds=1)


def distances_by(name, times, *, seeds):
    """Of a sampler's results from the exact solution, each seed on its own."""
    here = flight(*seeds)
    off = sample(FLOW, get_scheduler(name, times), x=here.noise, dtype=float) - here.exact
    return [rms(one) for one in off]


def test_any_callable_and_all_options():
    def net(x, t):  # as a module of float32 is called
        FLOW.predict(x.astype(np.float32), t, out := np.empty(x.shape, np.float32))
        return out

    options = {"seeds": 2, "evaluations": 4, "history": 1, "joint": 1, "most_amplified": 20, "free_start": False}
    found = fit(net, calls=3, shape=(3, 4, 4), **options)
    exact = fit(FLOW, calls=3, shape=(3, 4, 4), **options)
    assert found.table.times[0] == 0.999
    assert found.error == pytest.approx(exact.error, rel=0.2)
    assert found.error < 0.6 * found.baselines[0].mean


def test_all_history_is_as_many_predictions_as_there_are():
    assert Learning(calls=5, history="all") == Learning(calls=5, history=5)
    found = fit(
        FLOW, calls=3, shape=(3, 4, 4), seeds=2, timesteps=TIMES[2:], history="all", target="dpmpp-2m@uniform:9"
    )
    assert [len(row) for row in found.solver.weights] == [0, 1, 2]
    assert found.history["settings"]["history"] == 3


def test_a_list_to_keep_is_kept_to_the_bit():
    times = timesteps.uniform(2).tolist()
    found = fit(FLOW, calls=2, shape=(3, 4, 4), timesteps=times, seeds=2)
    assert found.table.times == tuple(times)
    assert found.history["times_moved_from"] is None


def test_a_first_time_that_may_move():
    found = Learning(calls=2, evaluations=6, seeds=2).run(PROBLEM)
    kept = Learning(calls=2, evaluations=6, seeds=2, free_start=False).run(PROBLEM)
    assert found.table.times[0] < 1.0 == kept.table.times[0]
    assert found.fitted < kept.fitted


def test_no_better_than_noise_is_said_so():
    """One call from a given time has nothing to learn: it is the step of every named method."""
    found = fit(FLOW, calls=1, shape=(3, 4, 4), seeds=2, free_start=False)
    assert {rival.verdict for rival in found.baselines} == {"within noise"}
    assert any("not shown to be better than" in line and "within noise" in line for line in found.report)


def test_a_reference_is_sharpened_to_what_is_wanted():
    calls = []
    subject = Subject(name="net", denoiser=Gaussian(0.2, 0.3), shape=(1, 3, 4, 4), seen=Sample(np.empty(0)))
    problem = Problem(name="net", subjects=[subject], first=0.999, dtype=np.float64)
    one = Flight(problem, subject, seeds=[0], on_call=lambda: calls.append(1))
    reference = Reference(one)
    assert len(calls) == 64 + 32 - 1  # the first call of both is the same
    before = reference.error
    reference.sharpen(before)
    assert len(calls) == 95
    reference.sharpen(before / 20)
    assert reference.error <= before / 20
    assert len(calls) > 95 + 64
    fine = one.by(get_scheduler("dpmpp-3m", np.append(np.geomspace(0.999, 0.999 / 64, 400), 0.0)))
    assert rms(reference.end - fine) <= reference.error
    calls.clear()
    reference.sharpen(0.0)  # ends all the same
    assert len(calls) < 128 + 256 + 512


def test_a_reference_is_sharpened_until_its_error_is_a_tenth_of_what_is_left():
    """Half the error makes the distance smaller as well, so that once is not enough."""

    class One:
        error = 1.0

        def sharpen(self, wanted):
            self.error = self.error if self.error <= wanted else self.error / 2

    one = One()
    sharpen([one], lambda: 0.5 + 8 * one.error)
    assert one.error == 0.25


def test_known_samplers_take_no_more_calls_and_are_all_different():
    known = known_samplers(PROBLEM, 3)
    tables = [table for _, table in known.values()]
    assert len(set(tables)) == len(tables) > 50
    assert max(len(table) for table in tables) == 3
    assert {table.times[0] for table in tables} == {1.0}
    assert any(name.startswith("heun@") and name.endswith(":2") for name in known)


def test_the_best_known_samplers_differ():
    """At two calls several methods are Euler's over each list, but for rounding."""
    reference = Reference(flight(0, 1))
    errors = {("law", 0): 1.0, ("law", 1): 1.0}
    means = sorted(rival.mean for rival in best_known(errors, [reference], known=known_samplers(PROBLEM, 2)))
    assert len(means) == 12
    assert all(b > a * (1 + 1e-6) for a, b in itertools.pairwise(means))


def test_amplification_of_a_sum_of_predictions():
    """Two calls at x' = P1 + w*(P0 - P1) of a flow that always predicts a constant: noise of w and 1 - w."""
    constant = GaussianMixture([0.5], [1e-6], [1])
    problem = Problem.of_flow(constant, height=64, width=64)
    here = flight(0, problem=problem)
    for w in (0.0, 0.5, -3.0):
        solver = LinearSolver([1.0, 0.5, 0.0], [[], [w]])
        found = amplification([here], solver)
        assert found == pytest.approx(np.hypot(w, 1 - w), rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Learning(calls=2, timesteps=[1, 0.5, 0.2, 0]), "timesteps has 3 steps, but calls=2: pass calls=3"),
        (lambda: Learning(calls=2, timesteps=[1, 0.5, 0], joint=3), "joint=3 moves times, but timesteps keeps them"),
        (
            lambda: Learning(calls=2, timesteps=[1, 0.5, 0], free_start=True),
            "free_start=True moves times, but timesteps keeps",
        ),
        (lambda: Learning(calls=2, history="most"), "history='most' must be a whole number in 0..64"),
        (lambda: fit(GaussianMixture([0.3], [1e-9], [1]), calls=2, **SMALL), "more than most_amplified=10: pass"),
        (
            lambda: Learning(calls=2, seeds=1024).extent(
                replace(PROBLEM, subjects=[replace(PROBLEM.subjects[0], name=name) for name in "abcd"])
            ),
            "the history of 4096 runs does not fit into a table: pass fewer",
        ),
        (lambda: Learning(calls=65), "calls=65 must be a whole number in 1..64"),
        (lambda: Learning(calls=2, seeds=1).run(PROBLEM), "1 held-out run gives no interval"),
        (
            lambda: Learning(calls=2, most_amplified=1, evaluations=0, joint=0, free_start=False).run(PROBLEM),
            "more than most_amplified=1: pass",
        ),
        (lambda: fit(FLOW, calls=2, shape=(4, 4)), "is not that of an image"),
        (lambda: fit((FLOW, FLOW), calls=2, shape=(3, 4, 4)), "pass the two as one, such as Guided"),
        (lambda: fit(FLOW, calls=2, shape=(3, 4, 4), steps=3), "steps"),
        (lambda: fit(lambda x, t: x * np.nan, calls=2, shape=(3, 4, 4)), "returned NaN or infinity"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(PidSamplerError, match=message):
        call()


def test_a_fit_does_not_end_beside_the_best_solver():
    """All lists lead to half of the distance of the best named sampler here: that is left at random."""
    flow = GaussianMixture([-1.99, -1.7, -0.43, -0.15], [0.061, 0.054, 0.324, 0.08], [2.49, 1.02, 2.46, 1.49])
    found = fit(flow, calls=4, shape=(3, 8, 8), seeds=4, evaluations=10)
    assert found.error <= 0.35 * found.known.best[0].mean
    assert found.amplification <= 10


def test_modes_that_a_later_begin_tells_apart():
    """Where a third of the noise is nearest to each of three narrow modes, no call has to find out which."""
    flow = GaussianMixture([-1.2, 0, 1.2], [0.02, 0.02, 0.02], [1, 1, 1])
    found = fit(flow, calls=4, shape=(3, 8, 8), seeds=4, evaluations=5)
    assert found.error <= 0.1 * found.known.best[0].mean
    assert found.solver.times[0] == pytest.approx(1 - statistics.NormalDist().inv_cdf(2 / 3) / 0.6, abs=0.01)
    early = fit(flow, calls=4, shape=(3, 8, 8), seeds=4, evaluations=5, free_start=False)
    assert early.error > 2 * found.error
