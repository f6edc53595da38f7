"""Targets other than the ODE's solution, rows that draw noise, come in pairs or are biased."""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidsampler import PidSamplerError, get_scheduler, sample
from pidsampler.denoiser import GaussianMixture
from pidsampler.errors import PidSamplerWarning
from pidsampler.learn import Learning, LinearSolver, fit
from pidsampler.learn.flights import Course, Flight, Trajectory, rms
from pidsampler.learn.forms import as_solver, starts
from pidsampler.learn.joint import Ends, Point
from pidsampler.learn.solved import Followed, judged
from pidsampler.learn.targets import target_of
from pidsampler.learn.weights import least_squares
from pidsampler.search.journal import Journal
from pidsampler.search.problem import Problem

FLOW = GaussianMixture([-0.6, 0.2, 0.9], [0.12, 0.2, 0.1], [2, 1, 1.5])
PROBLEM = Problem.of_flow(FLOW, height=8, width=8)
TIMES = [1.0, 0.75, 0.5, 0.3, 0.1, 0.0]


def flight(*seeds, problem=PROBLEM):
    return Flight(problem, problem.subjects[0], seeds=seeds)


# Rows.


@pytest.mark.parametrize(("biased", "paired"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_weights_and_biases_are_those_of_a_stacked_least_squares(ridge, biased, paired):
    times = [*TIMES[:-1], 0.05, 0.0] if paired else TIMES
    flights = [flight(0, 1), flight(2)]
    pairs = [(one, Trajectory(one, one.follower(32))) for one in flights]
    found, _ = least_squares(pairs, times, history=2, ridge=ridge, biased=biased, paired=paired)
    states, predictions = [np.concatenate([one.noise for one in flights])], []
    for i, (t, t_next) in enumerate(itertools.pairwise(times)):
        FLOW.predict(states[i], t, velocity := np.empty_like(states[i]))
        predictions.append(p := states[i] - t * velocity)
        base = i - i % 2 if paired else i
        x, a = states[base], t_next / times[base]
        groups = [[(predictions[i - 1 - k] - p).ravel() for k in range(min(i, 2))], [x.ravel(), p.ravel()] * biased]
        plain = (a * x + (1 - a) * p).ravel()
        right = np.concatenate([path.at(t_next) for _, path in pairs]).ravel() - plain
        matrix = np.stack([c for group in groups for c in group] or [np.zeros(x.size)], axis=1)
        damping = [np.sqrt(ridge * np.mean([c @ c for c in group])) for group in groups for _ in group]
        rows = np.concatenate([matrix, np.diag(damping or [1.0])])
        expected = np.linalg.lstsq(rows, np.append(right, np.zeros(matrix.shape[1])), rcond=None)[0]
        fitted = [*found.weights[i], *(found.biases[i] if biased else ())]
        np.testing.assert_allclose(fitted, expected[: len(fitted)], atol=1e-9)
        states.append((plain + matrix @ expected).reshape(x.shape))


def test_a_two_call_method_is_recovered_by_pairs():
    """The midpoint's rule over three steps down to a noise level; its inner times are given."""
    table = get_scheduler("midpoint", [1.0, 0.6, 0.3, 0.1]).table()
    here, points = flight(0, 1), {}
    end = here.by(table, lambda run, m: points.update({run.row.t: run.x.copy()}))
    path = type("Path", (), {"at": staticmethod({**points, 0.1: end}.__getitem__)})
    found, ends = least_squares([(here, path)], list(table.times), history=1, ridge=0.0, paired=True)
    assert rms(ends[0] - end) < 1e-9
    unseen = flight(7)
    assert rms(Course(unseen, found).end - unseen.by(table)) < 1e-9
    assert rms(unseen.by(found.table()) - unseen.by(table)) < 1e-9


SHARES, NUMBERS = st.sampled_from([0.0, 0.2, 0.6, 0.95, 1.0]), st.floats(-2, 2)


@settings(max_examples=20)
@given(st.lists(SHARES, min_size=4, max_size=4), st.lists(NUMBERS, min_size=6, max_size=6), st.booleans())
def test_marginals_hold_for_any_etas_and_the_table_does_what_the_course_does(etas, numbers, paired):
    rows = [numbers[:0], numbers[:1], numbers[1:3], numbers[3:]]
    solver = LinearSolver([0.9, 0.6, 0.3, 0.1, 0.0], rows, etas=etas, paired=paired)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PidSamplerWarning)
        table = solver.table()  # checks each row's marginals
    assert table.bias == ()
    assert {draw for row in table for draw in row.draws} == {i + 1 for i, eta in enumerate(etas[:3]) if eta}
    here = flight(3, 4)
    np.testing.assert_allclose(here.by(table), Course(here, solver).end, rtol=1e-4, atol=1e-4)  # noise is of float32


@pytest.mark.parametrize("paired", [False, True])
def test_the_law_after_rows_with_noise_is_the_marginal(paired):
    """Of a constant 0.5, x at 0.2 is N(0.4, 0.2^2): the mean of 49152 elements is within 5 of its deviations."""
    problem = Problem.of_flow(GaussianMixture([0.5], [1e-9], [1]), height=128, width=128)
    solver = LinearSolver([1.0, 0.7, 0.4, 0.3, 0.2], [[], [0.5], [-1], [2, 1]], etas=[0.3, 1, 0.6, 0.8], paired=paired)
    x = flight(0, problem=problem).by(solver.table())
    assert x.mean() == pytest.approx(0.4, abs=5 * 0.2 / np.sqrt(x.size))
    assert x.std() == pytest.approx(0.2, abs=5 * 0.2 / np.sqrt(2 * x.size))


@settings(max_examples=20)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=3))
def test_a_biased_solver_declares_it(biases):
    solver = LinearSolver([0.9, 0.6, 0.3, 0.0], [[], [0.5], [0.2, -0.3]], biases=biases)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PidSamplerWarning)
        table = solver.table()
    assert [row.biased for row in table] == [bias != (0.0, 0.0) for bias in biases]
    here = flight(3)
    np.testing.assert_allclose(here.by(table), Course(here, solver).end, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [{"paired": True}, {"biases": [[0.0, 0.0], [0.1, -0.1], [0, 0.1], [0.1, 0]]}])
def test_the_slope_of_pairs_and_biases_is_that_of_the_cost(options):
    solver = LinearSolver([1.0, 0.7, 0.5, 0.2, 0.0], [[], [0.3], [0.2, -0.4], [-0.1, 0.5]], **options)
    here = Followed(flight(0, 1))
    point = Point(Ends(flights=[here.flight], targets=[here.end], change=1e-6), solver, penalty=1e-3, below=None)
    _, slope = point.normal_equations()
    steps = 1e-5 * np.eye(len(slope))
    plain = [(point.moved(step).cost - point.moved(-step).cost) / 4e-5 for step in steps]  # of half the cost
    np.testing.assert_allclose(slope, plain, rtol=1e-3, atol=1e-6)


def test_two_calls_a_step_and_biases_are_learnt():
    """Both come near to the solution; what is biased says so, and may come nearer to what it is fitted to."""
    found = {}
    for name, options in {"plain": {}, "paired": {"paired": True}, "biased": {"biased": True}}.items():
        found[name] = Learning(calls=4, timesteps=[1, 0.6, 0.3, 0.1, 0], seeds=2, ridge=0, **options).run(PROBLEM)
        assert found[name].error < 0.8 * found[name].baselines[0].mean
    assert found["biased"].table.bias
    assert not found["plain"].table.bias
    assert not found["paired"].table.bias
    assert found["paired"].table.slots > found["plain"].table.slots - 1
    assert found["biased"].history["settings"]["biased"]
    moved = Learning(calls=4, seeds=2, evaluations=5, paired=True).run(PROBLEM)
    assert moved.error < 0.5 * moved.baselines[0].mean


# Other samplers as the target.


@pytest.mark.parametrize(("name", "history"), [("dpmpp-2m", 1), ("dpmpp-3m", 2)])
def test_a_known_multistep_method_is_recovered_where_it_is_the_target(name, history):
    target = get_scheduler(name, TIMES)
    found = fit(FLOW, calls=5, shape=(3, 8, 8), timesteps=TIMES, target=target, history=history, ridge=0, seeds=2)
    assert max(found.fitted, found.error) < 1e-6
    assert found.reference_error == 0.0
    x = flight(9).noise
    assert rms(sample(FLOW, found.table, x=x, dtype=float) - sample(FLOW, target, x=x, dtype=float)) < 1e-6


def test_a_run_of_many_steps_is_the_target():
    found = Learning(calls=3, target="heun@uniform:12", evaluations=4, seeds=2).run(PROBLEM)
    assert found.measure == found.history["measure"] == "RMS distance to heun@uniform:12"
    assert found.history["settings"]["target"] == "heun@uniform:12"
    here = flight(2, 3)
    off = here.by(found.table) - here.by(get_scheduler("heun@uniform:12"))
    assert found.error == pytest.approx(np.mean([rms(one) for one in off]))
    assert found.error < 0.5 * found.baselines[0].mean


def test_states_of_a_target_are_those_of_its_steps():
    """A stage's state is no state of the way, and a corrected one counts."""
    here = flight(0)
    heun, midpoint = (get_scheduler(f"{name}@uniform:2") for name in ("heun", "midpoint"))
    first = here.by(get_scheduler(heun.table().with_rows(heun.table().rows[:2])))
    path = Trajectory(here, heun)
    np.testing.assert_allclose(path.at(0.5), first)
    np.testing.assert_allclose(path.at(0.0), here.by(heun))
    stage = here.by(midpoint.table().with_rows(midpoint.table().rows[:1]))
    assert rms(Trajectory(here, midpoint).at(0.75) - stage) > 1e-4
    np.testing.assert_allclose(Trajectory(here, midpoint).at(1.0), here.noise)


# Measures as the target.


def test_a_measure_is_better_than_where_it_began():
    told = []
    learning = Learning(calls=3, target="wasserstein-1", evaluations=60, seeds=2)
    found = learning.run(PROBLEM, lambda what, about: told.append((what, about)))
    target = target_of("wasserstein-1")
    began = starts(PROBLEM, 3, history=3, biased=False)[found.history["times_moved_from"]].table()

    def mean(table, *seeds):
        return np.mean([*judged([target.reference(here := flight(*seeds), Journal())], [here.by(table)]).values()])

    assert found.error == pytest.approx(mean(found.table, 2, 3))
    assert found.fitted == pytest.approx(mean(found.table, 0, 1))
    assert found.fitted < 0.7 * mean(began, 0, 1)
    assert found.error < 0.9 * mean(began, 2, 3)
    assert found.history["measure"] == "wasserstein-1, lower is better"
    assert "wasserstein-1, lower is better" in found.report[0]
    assert found.table.bias == ()
    assert any(what.startswith("searching: wasserstein-1 0.") for what, _ in told)
    assert len(told) < 1.5 * told[0][1]


def test_nothing_is_lost_where_higher_is_better(tmp_path):
    """The same measure with its sign turned finds the same, and its rivals draw noise too."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from pidsampler.study.measures import get_measure, measure\n"
        "@measure(unit='', better='higher', source='-', needs=('flow',))\n"
        "def near(sample):\n    return -get_measure('wasserstein-1')(sample)\n"
    )
    one, other = (
        Learning(calls=2, target=target, evaluations=8, seeds=2, timesteps=[1, 0.4, 0]).run(PROBLEM)
        for target in ("wasserstein-1", f"{file}:near")
    )
    assert one.solver == other.solver
    assert one.error == pytest.approx(-other.error)
    assert [rival.name for rival in one.baselines] == [rival.name for rival in other.baselines]
    assert [rival.verdict for rival in one.baselines] == [rival.verdict for rival in other.baselines]
    assert other.measure == "near, higher is better"
    assert one.known.count > Learning(calls=2).extent(PROBLEM).known


@pytest.mark.parametrize(
    "spec", ["flow-sde(eta=0.5)@pid", "flow-ode@uniform:3", "dpmpp-3m@uniform:4", "dpmpp-2m-sde@karras:4"]
)
def test_known_samplers_are_linear_solvers(spec):
    table = get_scheduler(spec).table()
    made = as_solver(table, history=3).table()
    for row, known in zip(made, table, strict=True):
        for name in ("t", "t_next", "a", "b", "noise"):
            np.testing.assert_allclose(getattr(row, name), getattr(known, name), atol=1e-12)
        np.testing.assert_allclose(sorted(w for _, w in row.h), sorted(w for _, w in known.h), atol=1e-12)
    x = flight(0, 1)
    np.testing.assert_allclose(x.by(made), x.by(table), atol=1e-12)


@pytest.mark.parametrize("spec", ["heun@uniform:2", "midpoint@uniform:2", "restart@karras:6", "unipc@uniform:4"])
def test_others_are_not(spec):
    assert as_solver(get_scheduler(spec).table(), history=3) is None


def test_a_sampler_that_looks_back_further_is_not():
    table = get_scheduler("dpmpp-3m@uniform:5").table()
    assert as_solver(table, history=2) is not None
    assert as_solver(table, history=1) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Learning(calls=2, target="pnsr"), "unknown target 'pnsr': did you mean 'psnr'"),
        (lambda: Learning(calls=2, target="ode-distance"), "pass target='ode'"),
        (lambda: Learning(calls=2, target="sharpness"), "neither good nor bad"),
        (lambda: Learning(calls=2, target="flow-sde@uniform:8"), "draws noise, which a sampler fitted"),
        (lambda: Learning(calls=2, target=get_scheduler("heun", [1, 0.5])), "ends at the noise level 0.5"),
        (lambda: Learning(calls=2, target="heun@nolist:8"), "nolist"),
        (lambda: Learning(calls=2, target="psnr", ridge=0.5), "ridge=0.5 is of a fit to runs"),
        (lambda: Learning(calls=2, target="psnr", joint=0), "joint=0 is of a fit to runs"),
        (lambda: Learning(calls=2, target="psnr", paired=True), "paired=True is of a fit to runs"),
        (lambda: Learning(calls=3, paired=True), "calls=3 cannot come in pairs"),
        (lambda: Learning(calls=2, target="psnr").run(PROBLEM), "'psnr' needs a picture, which law has not"),
        (lambda: Learning(calls=2, target="psnr").extent(PROBLEM), "'psnr' needs a picture"),
        (lambda: fit(FLOW, calls=2, shape=(3, 4, 4), depth=3), "fit has no option 'depth'"),
        (lambda: LinearSolver([1, 0.5, 0], [[], []], etas=[0.5]), "1 etas for 2 steps"),
        (lambda: LinearSolver([1, 0.5, 0], [[], []], etas=[0.5, 2]), "etas=2"),
        (lambda: LinearSolver([1, 0.5, 0], [[], []], biases=[[0, 0]]), "1 biases for 2 steps"),
        (lambda: LinearSolver([1, 0], [[]], biases=[[0]]), "other than two numbers"),
        (lambda: LinearSolver([1, 0], [[]], paired=True), "1 rows cannot come in pairs"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(PidSamplerError, match=message):
        call()
