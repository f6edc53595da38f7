import argparse
import itertools
import math
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import write_model
from PIL import Image

from pidsampler import FlowODE, PidSamplerError, get_scheduler, noise, sample, timesteps
from pidsampler.cli import search as command
from pidsampler.cli.main import main
from pidsampler.denoiser import GaussianMixture
from pidsampler.errors import FileError
from pidsampler.io.times import read_list, write_list
from pidsampler.schedulers.registry import get_timesteps
from pidsampler.search import Search, from_gaps, refine
from pidsampler.search.problem import FINE, Problem, cheapest, step_errors
from pidsampler.study.measures.law import solution
from pidsampler.study.statistics import difference

valid_lists = (
    st.lists(st.floats(0, 1, exclude_min=True), min_size=1, max_size=20, unique=True)
    .map(lambda times: [*sorted(times, reverse=True), 0.0])
)  # fmt: skip


@pytest.fixture(scope="module", name="mixture")
def _mixture(load_script):
    script = load_script("examples/compare_schedulers.py")
    return GaussianMixture(script.MEANS, script.STDS, script.WEIGHTS)


@pytest.fixture(name="small")
def _small(mixture):
    """A flow that is searched in a fraction of a second."""
    return Problem.of_flow(mixture, height=8, width=8)


@pytest.fixture(scope="module", name="large")
def _large(mixture):
    """The same flow of more pixels; its exact solutions are found once."""
    return Problem.of_flow(mixture, height=16, width=16)


@pytest.fixture(name="picture")
def _picture(repository):
    with Image.open(repository / "examples" / "road.jpg") as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(name="files")
def _files(picture, tmp_path):
    """Two small pictures."""
    paths = [tmp_path / "left.png", tmp_path / "right.png"]
    for path, x in zip(paths, (0, 200), strict=True):
        Image.fromarray(picture[100:124, x : x + 24]).save(path)
    return paths


def distances(flow, scheduler, times, seeds, shape=(1, 3, 16, 16)):
    """Of the result from the exact solution, by the public functions alone: (image, seed) -> root mean square."""
    table = get_scheduler(scheduler, timesteps=times).table()
    found = {}
    for seed in seeds:
        x = noise.normal(seed, 0, shape[1:])[None].astype(np.float64)
        result = sample(flow, table, x=x, dtype=np.float64)
        found["law", seed] = float(np.sqrt(np.mean((result - solution(flow, x, t=1.0)) ** 2)))
    return found


@pytest.mark.parametrize(("scheduler", "calls"), [("flow-ode", 4), ("flow-ode", 7), ("dpmpp-2m", 5), ("dpmpp-2m", 8)])
def test_beats_the_known_lists_on_fresh_samples(mixture, large, scheduler, calls):
    found = Search(scheduler, calls).run(large)
    assert len(get_scheduler(scheduler, timesteps=found.times).table()) == calls
    fresh = range(1000, 1008)
    mine = distances(mixture, scheduler, found.times, fresh)
    for name in ("uniform", "karras", "log_snr"):
        gain = difference(mine, distances(mixture, scheduler, get_timesteps(name, calls), fresh))
        assert gain.high < 0.0, (name, gain)
    assert {rival.verdict for rival in found.rivals} == {"better"}
    assert found.costs["found"] <= min(found.costs.values())


@pytest.mark.parametrize(
    ("scheduler", "calls", "measure"),
    [("dpmpp-2m", 3, "ode-distance"), ("flow-sde", 3, "wasserstein-1"), ("heun", 5, "std-error")],
)
def test_is_never_worse_than_the_best_start_on_what_it_searched(small, scheduler, calls, measure):
    begun = Search(scheduler, calls, measure=measure, evaluations=0).run(small)
    best = min(begun.costs, key=begun.costs.get)
    assert begun.costs["found"] == begun.costs[best]
    found = Search(scheduler, calls, measure=measure, evaluations=12).run(small)
    assert found.costs["found"] <= begun.costs["found"]
    assert {**found.costs, "found": 0.0} == {**begun.costs, "found": 0.0}
    assert found.start in found.costs


def test_two_searches_give_the_same(mixture):
    one, two = (
        Search("dpmpp-2m", 5, evaluations=20).run(Problem.of_flow(mixture, height=8, width=8)) for _ in range(2)
    )
    assert [t.hex() for t in one.times.tolist()] == [t.hex() for t in two.times.tolist()]
    assert (one.start, one.costs, one.made, one.table) == (two.start, two.costs, two.made, two.table)


@pytest.mark.parametrize(
    ("scheduler", "calls", "steps"),
    [("heun", 4, 2), ("heun", 5, 3), ("rk4", 12, 3), ("dpm-solver-3", 1, 1), ("restart", 6, 5), ("unipc", 4, 4)],
)
def test_takes_as_many_steps_as_the_calls_allow(small, scheduler, calls, steps):
    found = Search(scheduler, calls, measure="wasserstein-1", seeds=2, evaluations=3).run(small)
    assert len(found.times) == steps + 1
    assert len(get_scheduler(scheduler, timesteps=found.times).table()) <= calls
    assert len(get_scheduler(scheduler, timesteps=timesteps.uniform(steps + 1)).table()) > calls


def test_a_single_step_leaves_nothing_to_move(small):
    found = Search("flow-ode", 1).run(small)
    assert found.times.tolist() in ([1.0, 0.0], [0.999, 0.0])


def test_direction_of_a_measure(small, tmp_path):
    """A measure that is to be high, minus another that is to be low, gives the same list with the same gains."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from pidsampler.study.measures import measure\n"
        "@measure(unit='', better='higher', source='minus the distance', needs=('converged',))\n"
        "def near(sample):\n"
        "    return -np.sqrt(np.mean((sample.x - sample.converged) ** 2))\n"
    )
    low = Search("dpmpp-2m", 4, evaluations=15).run(small)
    high = Search("dpmpp-2m", 4, measure=f"{file}:near", evaluations=15).run(small)
    assert high.times.tolist() == low.times.tolist()
    assert [(r.name, r.verdict) for r in high.rivals] == [(r.name, r.verdict) for r in low.rivals]
    for one, other in zip(high.rivals, low.rivals, strict=True):
        assert one.difference.mean == pytest.approx(-other.difference.mean)
        assert (one.verdict == "better") == (one.difference.low > 0.0)


def test_where_zero_is_best_the_size_counts(small):
    """Means of these results are on both sides of the law's, so the lowest signed error would be no gain."""
    found = Search("flow-sde", 2, measure="mean-error", evaluations=0).run(small)
    assert min(found.costs.values()) >= 0.0
    assert all(rival.mean >= 0.0 for rival in found.rivals)
    assert any("|mean-error|" in line for line in found.table)


def test_progress_and_cancelling(small):
    counted, told = [], []
    search = Search("flow-ode", 4, seeds=2, evaluations=5)
    found = search.run(small, counted.append, on_best=told.append)
    (most,) = set(counted)
    assert 4 * FINE < len(counted) <= most == search.most_calls(small)
    assert told == sorted(told, reverse=True)
    assert told[-1] == found.costs["found"]
    assert search.seconds(small) > 0

    class StopError(Exception):
        pass

    def stop(most):
        raise StopError

    with pytest.raises(StopError):
        search.run(small, stop)


def test_pictures_are_held_out_and_with_one_its_seeds(files):
    both = Search("flow-ode", 2, evaluations=1, seeds=2).run(Problem.of_model("gaussian", files, device="cpu"))
    assert any(line.startswith(f"searched on: {files[0]}; seeds 0 to 1") for line in both.made)
    assert f"held out: {files[1]}; seeds 2 to 3" in both.made
    one = Search("flow-ode", 2, evaluations=1, seeds=2).run(Problem.of_model("gaussian", files[:1], device="cpu"))
    assert f"held out: {files[0]}; seeds 2 to 3" in one.made
    assert {rival.difference.n for rival in (*both.rivals, *one.rivals)} == {2}


def test_a_run_is_what_sample_gives(mixture):
    """Also when its first call was remembered, from another list or from another image."""
    problem = Problem.of_flow(mixture, height=8, width=8)
    (subject,) = problem.subjects
    for seed, times in itertools.product((3, 4, 3), ([1.0, 0.5, 0.0], [0.9, 0.5, 0.0], [1.0, 0.25, 0.0])):
        table = get_scheduler("flow-sde", timesteps=times).table()
        x = problem.sampled(subject, seed, table=table).x
        assert np.array_equal(x, sample(mixture, table, shape=(1, 3, 8, 8), seed=seed, dtype=np.float64))


def test_the_solution_of_a_flow_is_exact(mixture):
    problem = Problem.of_flow(mixture, height=8, width=8)
    (subject,) = problem.subjects
    solved = problem.solve(subject, 5)
    x = sample(mixture, get_scheduler("rk4@exponential(t_min=1e-6):400"), shape=(1, 3, 8, 8), seed=5, dtype=np.float64)
    assert solved.x == pytest.approx(x, abs=1e-6)
    assert solved.times.tolist() == timesteps.uniform(FINE).tolist()
    # The trajectory's own Euler step over its whole length, taken by the sampler.
    straight = sample(mixture, FlowODE([1.0, 0.0]), shape=(1, 3, 8, 8), seed=5, dtype=np.float64)
    assert solved.step_errors[0, -1] == pytest.approx(np.mean((straight - x) ** 2), rel=0.02)


@pytest.mark.parametrize("prediction", ["velocity", "x0"])
def test_networks_of_other_predictions(tmp_path, files, prediction):
    """The model's x0 is the same at every t, so its ODE is straight and every list gives the same."""
    manifest = {"prediction": prediction, "timesteps": [0.9, 0.5, 0.0]}
    folder = write_model(tmp_path / "model", manifest, prediction=prediction)
    problem = Problem.of_model(folder, files[:1], device="cpu")
    assert problem.first == 0.9
    (subject,) = problem.subjects
    solved = problem.solve(subject, 0)
    assert solved.times[0] == 0.9
    assert np.nanmax(np.where(np.isinf(solved.step_errors), np.nan, solved.step_errors)) < 1e-9
    found = Search("dpmpp-2m", 2, evaluations=2).run(problem)
    assert found.costs["found"] < 1e-5
    assert "own" in found.costs


def test_step_errors_of_a_parabola():
    """On x = t^2 Euler's step from s to t misses by (t - s)^2."""
    times = timesteps.karras(6)
    points = np.stack([times**2, 2.0 * times**2], axis=1)
    errors = step_errors(times, points, velocities=np.stack([2.0 * times[:-1], 4.0 * times[:-1]], axis=1))
    for i, j in itertools.product(range(7), repeat=2):
        expected = 2.5 * (times[i] - times[j]) ** 4 if i < j else math.inf
        assert errors[i, j] == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(st.integers(2, 7), st.data())
def test_the_cheapest_way_against_all_ways(n, data):
    steps = data.draw(st.integers(1, n - 1))
    costs = data.draw(arrays(np.float64, (n, n), elements=st.floats(0, 1)))
    costs[np.tril_indices(n)] = math.inf

    def total(way):
        return sum(costs[i, j] for i, j in itertools.pairwise(way))

    way = cheapest(costs, steps)
    assert (way[0], way[-1], len(way)) == (0, n - 1, steps + 1)
    ways = [(0, *between, n - 1) for between in itertools.combinations(range(1, n - 1), steps - 1)]
    assert total(way) == pytest.approx(min(map(total, ways)))


@given(st.floats(1e-3, 1), arrays(np.float64, st.integers(0, 30), elements=st.floats(-12, 12)))
def test_all_gaps_make_a_list(first, gaps):
    times = from_gaps(first, gaps)
    assert timesteps.custom(times).tolist() == times.tolist()
    assert (times[0], len(times)) == (first, len(gaps) + 2)
    sizes = -np.diff(times)
    assert np.log(sizes[:-1] / sizes[-1]) == pytest.approx(gaps, abs=2e-2 if len(gaps) else 0)


def test_refining_finds_the_least_near_by():
    target = np.array([0.9, 0.6, 0.25, 0.1, 0.0])
    tried = refine([0.9, 0.5, 0.4, 0.3, 0.0], lambda times: float(np.sum((times - target) ** 2)), evaluations=100)
    assert len(tried) <= 100
    assert all(times[0] == 0.9 and times[-1] == 0.0 for _, times in tried)
    cost, best = min(tried, key=lambda trial: trial[0])
    assert best == pytest.approx(target, abs=2e-3)
    assert cost == float(np.sum((best - target) ** 2))


def test_refining_may_move_the_first_time_too():
    target = np.array([0.7, 0.6, 0.25, 0.1, 0.0])
    tried = refine(
        [0.999, 0.5, 0.4, 0.3, 0.0], lambda times: float(np.sum((times - target) ** 2)), evaluations=120, below=0.999
    )
    assert all(times[0] < 0.999 and len(times) == 5 for _, times in tried)
    assert min(tried, key=lambda trial: trial[0])[1] == pytest.approx(target, abs=2e-3)
    assert refine([0.5, 0.0], lambda times: abs(times[0] - 0.4), evaluations=1, below=1.0)[0][1] == pytest.approx(
        [0.5, 0.0]
    )


def test_a_free_start_gains_more_where_the_solver_contracts(mixture):
    fixed, free = (
        Search("dpmpp-2m", 4, free_start=free_start).run(Problem.of_flow(mixture, height=16, width=16))
        for free_start in (False, True)
    )
    assert fixed.times[0] == 1.0
    assert 0.5 < free.times[0] < 0.95
    fresh = range(1000, 1008)
    gain = difference(*(distances(mixture, "dpmpp-2m", found.times, fresh) for found in (free, fixed)))
    assert gain.high < -0.03


@pytest.mark.parametrize("evaluations", [0, 1, 2, 7])
def test_refining_keeps_to_its_budget(evaluations):
    called = []
    tried = refine([1.0, 0.5, 0.4, 0.0], lambda times: called.append(times) or 1.0, evaluations=evaluations)
    assert len(tried) == len(called) == evaluations


def test_refining_goes_round_lists_that_fail():
    def cost(times):
        return math.inf if times[1] > 0.55 else abs(times[1] - 0.2)

    assert min(refine([1.0, 0.5, 0.0], cost, evaluations=40))[0] < 0.01
    assert refine([1.0, 0.0], cost, evaluations=40) == []


@given(valid_lists, st.lists(st.text(), max_size=3))
def test_a_file_keeps_every_bit(tmp_path_factory, times, comments):
    path = tmp_path_factory.mktemp("lists") / "list.txt"
    write_list(path, times, comments=comments)
    assert [t.hex() for t in read_list(path).tolist()] == [t.hex() for t in times]
    with pytest.raises(PidSamplerError, match="exists already"):
        write_list(path, [0.5, 0.0])
    write_list(path, [0.5, 0.0], overwrite=True)
    assert read_list(path).tolist() == [0.5, 0.0]


def test_a_file_by_hand(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# mine\r\n\r\n  0.9\r\n#\r\n5e-1 \r\n0\r\n")
    assert read_list(str(path)).tolist() == [0.9, 0.5, 0.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least two times"),
        (b"# nothing\n", "at least two times"),
        (b"0.9\n0.5\n", r"list\.txt: timesteps end in 0\.5, expected 0"),
        (b"0.9\nhalf\n0\n", r"list\.txt, line 2: 'half' is not a time"),
        (b"0.9, 0.5, 0\n", "line 1: '0.9, 0.5, 0' is not a time"),
        (b"0.5\n0.9\n0\n", "ascends"),
        (b"0.5\nnan\n0\n", "nan at position 1"),
        (b"0.9\n0.5\n0.\x00\n", "line 3"),
        (b"\xff\xfe0\x00", "is a text in UTF-16: save it in UTF-8"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(PidSamplerError, match=message):
        read_list(path)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(PidSamplerError, match=r"cannot read .*none\.txt: No such file"):
        read_list(tmp_path / "none.txt")
    with pytest.raises(PidSamplerError, match="cannot read"):
        read_list(tmp_path)
    with pytest.raises(PidSamplerError, match="cannot write"):
        write_list(tmp_path / "none" / "list.txt", [0.5, 0.0])
    with pytest.raises(PidSamplerError, match=r"end in 0\.5"):
        write_list(tmp_path / "list.txt", [0.9, 0.5])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Search("dpmpp-2m@karras:8", 4), "names a timestep list"),
        (lambda: Search("dpmpp-2", 4), "unknown scheduler 'dpmpp-2'"),
        (lambda: Search("flow-sde(eta=7)", 4, measure="mmd"), "eta=7"),
        (lambda: Search("restart", 2, measure="mmd"), "t_min"),
        (lambda: Search("restart(repeats=9)", 4, measure="mmd"), "takes more than 4 model calls"),
        (lambda: Search("flow-ode", 0), "calls=0 must be a whole number in 1..256"),
        (lambda: Search("flow-ode", 4, seeds=0), "seeds=0 must be a whole number in 1.."),
        (lambda: Search("flow-ode", 4, evaluations=-1), "evaluations=-1 must be a whole number in 0..1000000"),
        (lambda: Search("flow-ode", 4, measure="ode"), "unknown measure 'ode'"),
        (lambda: Search("flow-ode", 4, measure="sharpness"), "neither good nor bad"),
        (lambda: Search("flow-sde", 4), "flow-sde draws noise.*wasserstein-1"),
    ],
)  # fmt: skip
def test_searches_that_cannot_be(make, message):
    with pytest.raises(PidSamplerError, match=message):
        make()


def test_a_stochastic_scheduler_that_draws_nothing_has_an_ode(small):
    found = Search("flow-sde(eta=0)", 3, evaluations=5).run(small)
    assert found.times.tolist() == Search("flow-ode", 3, evaluations=5).run(small).times.tolist()


def test_problems_that_do_not_fit(small, files, tmp_path):
    with pytest.raises(PidSamplerError, match=r"psnr.* needs a picture, which law has not"):
        Search("flow-ode", 4, measure="psnr").run(small)
    with pytest.raises(PidSamplerError, match="1 held-out run gives no interval"):
        Search("flow-ode", 4, seeds=1).run(small)
    with pytest.raises(PidSamplerError, match="given twice"):
        Problem.of_model("gaussian", [*files, files[0]], device="cpu")
    (tmp_path / "copy.png").write_bytes(files[0].read_bytes())
    with pytest.raises(PidSamplerError, match=r"copy\.png is the same file as .*left\.png: give each picture once"):
        Problem.of_model("gaussian", [*files, tmp_path / "copy.png"], device="cpu")
    with pytest.raises(PidSamplerError, match="cannot read"):
        Problem.of_model("gaussian", [tmp_path / "none.png"], device="cpu")
    Image.fromarray(np.zeros((3, 9, 3), np.uint8)).save(tmp_path / "low.png")
    with pytest.raises(PidSamplerError, match="less than 4 pixels"):
        Problem.of_model("gaussian", [tmp_path / "low.png"], device="cpu", reduce=True)
    np.save(tmp_path / "latent.npy", np.zeros((4, 3, 3), np.float32))
    with pytest.raises(PidSamplerError, match="latent"):
        Problem.of_model("gaussian", [tmp_path / "latent.npy"], device="cpu", reduce=True)


def test_what_is_wrong_with_every_list_is_said(tmp_path, small):
    file = tmp_path / "mine.py"
    file.write_text(
        "from pidsampler.study.measures import measure\n"
        "@measure(unit='', better='lower', source='none', needs=())\n"
        "def broken(sample):\n"
        "    return float('nan')\n"
    )
    with pytest.raises(PidSamplerError, match="broken gave nan"):
        Search("flow-ode", 3, measure=f"{file}:broken", evaluations=3).run(small)


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(PidSamplerError, match=r"scipy is not installed: pip install 'pidsampler\[study\]'"):
        Search("flow-ode", 4)


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([*map(str, arguments), "--model", "gaussian", "--device", "cpu"]))


def test_the_command(files, tmp_path, capsys):
    output = tmp_path / "list.txt"
    options = ("--calls", 3, "--seeds", 2, "--evaluations", 4, "-o", output)
    assert run(*files, *options) == 0
    printed = capsys.readouterr().out.splitlines()
    times = read_list(output)
    assert ",".join(map(repr, times.tolist())) in printed
    assert len(times) == 4
    text = output.read_text()
    comments = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#")]
    assert "for dpmpp-2m in 3 model calls" in comments[0]
    assert "model: gaussian" in comments
    for start in ("sha256 of pid_upscaler.onnx: ", "measure: ode-distance, lower is better", "held out: "):
        assert any(line.startswith(start) for line in comments)
    assert any(line.split()[0] == "uniform" and ".." in line for line in comments)
    assert set(comments) & {*printed}  # the table is in both
    with pytest.raises(PidSamplerError, match="--overwrite"):
        run(*files, *options)
    assert run(*files, *options, "--overwrite", "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert output.read_text() == text


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_what_was_found_is_printed_though_it_cannot_be_written(files, tmp_path, capsys, monkeypatch, quiet):
    def fail(*arguments, **options):
        raise FileError("cannot write list.txt: No space left on device")

    monkeypatch.setattr(command, "write_list", fail)
    with pytest.raises(PidSamplerError, match="No space left"):
        run(*files, "--calls", 2, "--seeds", 2, "--evaluations", 1, "-o", tmp_path / "list.txt", *quiet)
    *_, times = capsys.readouterr().out.splitlines()
    assert len([float(t) for t in times.split(",")]) == 3


def test_the_command_by_a_reference(picture, tmp_path):
    """The picture is the reference, of a size that is no multiple of the model's scale."""
    path, output = tmp_path / "photo.png", tmp_path / "list.txt"
    Image.fromarray(picture[:66, :99]).save(path)
    arguments = ("--calls", 2, "--seeds", 2, "--evaluations", 2, "--measure", "psnr", "-o", output)
    assert run(path, *arguments) == 0
    assert "measure: psnr (dB), higher is better" in output.read_text()


def test_the_command_says_what_is_wrong_before_the_work(files, tmp_path):
    with pytest.raises(PidSamplerError, match="cannot write"):
        run(*files, "-o", tmp_path / "none" / "list.txt")
    with pytest.raises(PidSamplerError, match="--overwrite"):
        run(*files, "-o", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PidSamplerError, match="expected a file's name"):
        run(*files, "-o", tmp_path / "pipe", "--overwrite")


def test_a_dry_run_searches_nothing(files, tmp_path, capsys):
    command = ["search", *map(str, files), "--model", "gaussian", "--device", "cpu", "--evaluations", "1"]
    assert main([*command, "-o", str(tmp_path / "list.txt"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    most = Search("dpmpp-2m", 4, evaluations=1).most_calls(Problem.of_model("gaussian", files, device="cpu"))
    assert out.startswith(f"{most} model calls at most, ")
    assert not [*tmp_path.glob("list*")]
