"""Make the rows of the leaderboard: python examples/leaderboard/leaderboard.py --train DIR --dev DIR

    pip install '.[cpu,study,lpips]'

Samplers are chosen, searched for or fitted on crops of the photographs in the first folder, and tried on crops of those
in the second: of each the square with most detail. Each row is stored in results.json as soon as it is there, and a row
that is stored is not made again. `page.py` makes docs/leaderboard.md of it.
"""

import argparse
import json
import os
import subprocess
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pidsampler import get_scheduler, timesteps
from pidsampler.denoiser import network_of
from pidsampler.errors import PidSamplerError, PidSamplerWarning
from pidsampler.io.tables import write_table
from pidsampler.learn import Learning
from pidsampler.learn.flights import Flight
from pidsampler.learn.known import known_samplers
from pidsampler.noise import normal
from pidsampler.schedulers.registry import as_scheduler, without_list
from pidsampler.search import Search
from pidsampler.search.problem import Problem, cheapest
from pidsampler.study.measures import get_measure, measure
from pidsampler.study.pictures import as_rgb
from pidsampler.study.statistics import interval

HERE = Path(__file__).parent
MODELS, CALLS = ("tiny-teacher", "tiny"), (2, 3, 4, 6, 8)
TRAINED_BY = {
    "tiny-teacher": "ode-distance",
    "tiny": "lpips",
}  # what is chosen and searched by; tiny's ODE means nothing
UNFITTED = ("ODE", "named", "AYS")  # rows that fit nothing
AUTHOR = "the pidsampler authors"
SEED, SIGMA, FINE = 0, 1e-3, 128  # of the noise; of noise on x0; steps of the ODE's solution
SIDE = 1024  # of a photograph, whose shorter side is reduced to it
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@measure(
    unit="",
    better="",
    source="mean squared differences of neighbors over the original's (energy of gradient, Subbarao et al. 1993)",
    needs=("picture", "reference"),
)
def gradient(sample):
    """Gradient energy of the result over that of the photograph: below 1 it is smoother."""
    return energy(sample.picture).mean() / energy(sample.reference).mean()


def energy(picture):
    """Return the squared differences of each pixel to the next ones across and down."""
    values = np.asarray(picture, np.float32)
    return np.square(np.diff(values, axis=1)[:-1]) + np.square(np.diff(values, axis=0)[:, :-1])


def detailed(photo, side):
    """Return the square with most gradient energy, of those half a side apart, and that energy."""
    photo, scale = photo.convert("RGB"), SIDE / min(photo.size)
    if scale < 1.0:
        photo = photo.resize([round(n * scale) for n in photo.size], Image.Resampling.LANCZOS)
    pixels, step = np.asarray(photo), side // 2
    found = [
        (float(energy(pixels[y : y + side, x : x + side]).mean()), y, x)
        for y in range(0, pixels.shape[0] - side + 1, step)
        for x in range(0, pixels.shape[1] - side + 1, step)
    ]
    most, y, x = max(found)
    return most, Image.fromarray(pixels[y : y + side, x : x + side])


def crops(folder, into, *, side, most=None):
    """Write a crop of each photograph, or of those with most detail only; return the files."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    into.mkdir(parents=True, exist_ok=True)
    if not (files := sorted(into.glob("*.png"))):
        found = []
        for path in paths:
            with Image.open(path) as photo:
                found.append((*detailed(photo, side), path.stem))
        for _, crop, name in sorted(found, key=lambda one: -one[0])[:most]:
            crop.save(into / f"{name}.png")
        files = sorted(into.glob("*.png"))
    return files


class Disturbed:
    """A network with white noise on its x0, which is x - t*velocity."""

    def __init__(self, denoiser):
        self._network, self._calls = network_of(denoiser, 0), 0

    def __getattr__(self, name):
        return getattr(self._network, name)

    def predict(self, x, t, out):
        """Write the velocity and the noise into `out`."""
        self._network.predict(x, t, out)
        self._calls += 1
        out -= (SIGMA / t * normal(SEED + 1, self._calls, out.shape)).astype(out.dtype)


class Board:
    """Photographs' crops and a model, the ODE's solutions, and the measures of samplers there."""

    def __init__(self, model, train, dev, folder):
        self.model, self.by = model, TRAINED_BY.get(model, "ode-distance")
        self.train = Problem.of_model(model, train, device="cpu", reduce=True)
        self.dev = Problem.of_model(model, dev, device="cpu", reduce=True)
        self.has_ode = self.by == "ode-distance"
        self._folder, self._ends = folder, {}

    def end(self, problem, subject):
        """Return where the subject's ODE ends, and how much doubling the steps changed that; None without an ODE."""
        if not self.has_ode:
            return None, 0.0
        if subject.name not in self._ends:
            file = self._folder / f"{self.model}-{Path(subject.name).parent.name}-{Path(subject.name).stem}.npz"
            if not file.exists():
                flight = Flight(problem, subject, seeds=[SEED])
                half, end = flight.solve(FINE // 2), flight.solve(FINE)
                np.savez(file, end=end, change=np.sqrt(np.mean(np.square(end - half))))
            with np.load(file) as stored:
                self._ends[subject.name] = stored["end"], float(stored["change"])
        return self._ends[subject.name]

    def seen(self, problem, subject, table):
        """Return what a sampler makes of a subject, and the measures of that."""
        end, _ = self.end(problem, subject)
        sample = problem.sampled(subject, SEED, table=table, converged=end)
        return self.measured(subject, sample)

    def measured(self, subject, sample):
        """Return the measures of a sample by name."""
        found = {name: get_measure(name)(sample) for name in ("psnr", "lpips")}
        found["gradient"] = gradient(sample)
        if (end := sample.converged) is not None:
            found["ode-distance"] = get_measure("ode-distance")(sample)
            found["ode-psnr"] = get_measure("psnr")(replace(sample, reference=as_rgb(subject.picture(end))))
        return found

    def amplification(self, table):
        """Return the RMS change of the result over that of white noise on each x0, of the first development crop."""
        subject = self.dev.subjects[0]
        other = replace(subject, name=f"{subject.name}, disturbed", denoiser=Disturbed(subject.denoiser))
        plain, noisy = (self.dev.sampled(one, SEED, table=table).x for one in (subject, other))
        return float(np.sqrt(np.mean(np.square(noisy - plain)))) / SIGMA


def best(candidates, values, name, count):
    """Return the samplers whose means of a measure are best, of those that have it."""
    sign = -1.0 if name == "psnr" else 1.0
    means = {key: sign * np.mean([run[name] for run in runs]) for key, runs in values.items() if runs}
    return {key: candidates[key] for key in sorted(means, key=means.__getitem__)[:count]}


def named(board, calls, *_):
    """The known samplers: all on one training crop, the best 24 on four, the best 4 of those as candidates.

    Those that draw noise take part where there is no ODE.
    """
    known = {name: table for name, (_, table) in known_samplers(board.train, calls, noisy=not board.has_ode).items()}
    values = {name: [] for name in known}
    orders = {"named": board.by, "named, by PSNR": "psnr"}
    chosen = dict.fromkeys(orders, known)
    for count, subjects in ((24, board.train.subjects[:1]), (4, board.train.subjects[1:4])):
        for name in set().union(*chosen.values()):
            try:
                values[name] += [board.seen(board.train, subject, known[name]) for subject in subjects]
            except PidSamplerError:  # it diverges
                values[name] = []
        for entry, by in orders.items():
            chosen[entry] = best(known, {name: values[name] for name in chosen[entry]}, by, count)
    return chosen


def searched(board, calls, rows, _):
    """The best list for the best named sampler, by `search`."""
    (row,) = (row for row in rows if (row["model"], row["calls"], row["entry"]) == (board.model, calls, "named"))
    sampler = without_list(row["sampler"])
    found = Search(sampler, calls, measure=board.by, seeds=1).run(board.train)
    return {"searched": {f"{sampler} over the times found": get_scheduler(sampler, found.times).table()}}


def published(board, calls, *_):
    """DPM-Solver++(2M) over the published lists of "Align your steps", brought to the model's first time."""
    lists = {f"ays({model})": timesteps.ays(calls, model) for model in ("sd1", "sdxl", "svd")}
    first = board.train.first
    return {"AYS": {f"dpmpp-2m@{n}": get_scheduler("dpmpp-2m", t * (first / t[0])).table() for n, t in lists.items()}}


def gits(board, calls, *_):
    """The way through the ODE's points whose Euler steps are off least, as GITS, under two multistep methods."""
    solutions = [board.train.solve(subject, SEED) for subject in board.train.subjects[:6]]
    errors = np.mean([solution.step_errors for solution in solutions], axis=0)
    times = solutions[0].times[cheapest(errors**0.5, calls)]
    return {"GITS": {name: get_scheduler(name, times).table() for name in ("dpmpp-2m", "adams-bashforth")}}


def learnt(board, calls, _, clock, *, entry, **options):
    """A fit of `learn` as it comes but for the options; its seconds are without the judging."""
    learning = Learning(calls=calls, seeds=1, evaluations=60, **options)
    found = learning.run(board.train, lambda what, about: clock.stop() if what == "judging" else None)
    return {entry: {f"@tables/{board.model}-{entry.split(', ')[-1].replace(' ', '-')}-{calls}.json": found.table}}


class Clock:
    """Seconds of processor time from the beginning to the first stop, or to now."""

    def __init__(self):
        self._began, self._stopped = time.process_time(), None

    def stop(self):
        """Stop it, once."""
        self._stopped = self._stopped or time.process_time()

    @property
    def seconds(self):
        """What has passed."""
        return (self._stopped or time.process_time()) - self._began


def makers(board, calls):
    """Return what makes the rows of a model and a number of calls, by the first row's name."""

    def tried(make, rows, clock):
        candidates = make(board, calls, rows, clock)
        clock.stop()
        return {entry: row_of(board, entry, tables) for entry, tables in candidates.items()}

    found = {"named": named, "searched": searched, "AYS": published}
    found["learnt, LPIPS"] = partial(learnt, entry="learnt, LPIPS", target="lpips")
    if board.has_ode:
        found |= {"GITS": gits, "learnt": partial(learnt, entry="learnt")}
        if calls > 4:  # up to there all history is what 3 weigh
            found["learnt, all history"] = partial(learnt, entry="learnt, all history", history=calls)
    return {entry: partial(tried, make) for entry, make in found.items()}


def solved(board, *_):
    """The ODE's solution itself; its distance is the change by the last doubling of its steps."""
    runs = []
    for subject in board.dev.subjects:
        end, change = board.end(board.dev, subject)
        sample = replace(subject.seen, x=end, picture=as_rgb(subject.picture(end)))
        runs.append({**board.measured(subject, sample), "ode-distance": change})
    measures = measured(board, runs)
    return {"ODE": {"sampler": f"dpmpp-3m in {FINE} steps", "times": [], "amplification": None, "measures": measures}}


def added(board, entry, tables, *_):
    """A sampler of somebody's own."""
    return {entry: row_of(board, entry, tables)}


def row_of(board, entry, candidates):
    """Try candidates on the development crops; return what is known of the best there."""
    tried = {}
    for name, table in candidates.items():
        try:
            tried[name] = [board.seen(board.dev, subject, table) for subject in board.dev.subjects]
        except PidSamplerError as error:  # it diverges
            print(f"{name}: {error}", flush=True)
    ((name, table),) = best(candidates, tried, "psnr" if entry.endswith("PSNR") else board.by, 1).items()
    if table.history:
        (HERE / "tables").mkdir(exist_ok=True)
        write_table(HERE / name[1:], table, overwrite=True)
    measures = measured(board, tried[name])
    return {"sampler": name, "times": [*table.times], "amplification": board.amplification(table), "measures": measures}


def measured(board, runs):
    """Return each measure's mean over the development crops, its 95 % interval, and its values."""
    names = [Path(subject.name).stem for subject in board.dev.subjects]
    found = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        mean = interval({(crop, SEED): value for crop, value in zip(names, values, strict=True)})
        found[name] = {"mean": mean.mean, "low": mean.low, "high": mean.high, "values": values}
    return found


def commit():
    """Return the commit of this checkout, with + where files are changed."""
    git = partial(subprocess.run, cwd=HERE, capture_output=True, text=True, check=False)
    head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
    return head + "+" * bool(git(["git", "diff", "--stat", "HEAD", "--", "../../pidsampler"]).stdout)


def stored(path):
    """Return the rows of a file, none where there is no file."""
    return json.loads(path.read_text()) if path.exists() else []


def store(path, rows):
    """Write rows to a file, whole or not at all."""

    def number(value):
        return float(f"{value:.6g}") if isinstance(value, float) else value

    def short(value):
        if isinstance(value, dict):
            return {key: short(each) for key, each in value.items()}
        return [number(each) for each in value] if isinstance(value, list) else number(value)

    other = path.with_name(f"{path.name}.new")
    other.write_text("[\n" + ",\n".join(json.dumps(short(each)) for each in rows) + "\n]\n")
    os.replace(other, path)


def made(arguments, board, calls, what):
    """Make and store the rows of makers that are not stored: entry -> function of the rows and a clock."""
    for first, make in what.items():
        rows = stored(arguments.results)
        there = {(row["model"], row["calls"], row["entry"]) for row in rows}
        if (board.model, calls, first) in there or (arguments.entry and first not in arguments.entry):
            continue
        clock = Clock()
        found = make(rows, clock)
        seconds = arguments.seconds if arguments.add else None if first in UNFITTED else clock.seconds
        for entry, known in found.items():
            head = {"model": board.model, "calls": calls, "entry": entry, "seconds": seconds}
            row = {**head, **known, "author": arguments.author, "commit": commit()}
            rows = [*rows, row]
            print(f"{board.model}, {calls} calls, {entry}: {row['sampler']}", flush=True)
        store(arguments.results, rows)


def main(argv=None):
    """Make all rows that are not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="photographs to fit to")
    parser.add_argument("--dev", type=Path, required=True, help="photographs to try on")
    parser.add_argument("--work", type=Path, default=Path("leaderboard-work"), help="for crops and the ODE's solutions")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    parser.add_argument("--model", nargs="+", default=MODELS)
    parser.add_argument("--calls", nargs="+", type=int, default=CALLS)
    parser.add_argument("--entry", nargs="+", help="these rows only, such as named or learnt")
    parser.add_argument("--add", metavar="SPEC", help="try a sampler of your own, such as @table.json, as --entry NAME")
    parser.add_argument("--seconds", type=float, help="seconds that it took to fit, of processor time")
    parser.add_argument("--author", default=AUTHOR)
    parser.add_argument("--side", type=int, default=256, help="of a development crop; those to fit to have half")
    parser.add_argument("--crops", type=int, default=12, help="how many to fit to; every second one is held out")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore", PidSamplerWarning)  # named samplers may make errors larger: their rows say so
    if arguments.add and len(arguments.entry or ()) != 1:
        parser.error("--add needs one --entry, the row's name")
    train = crops(arguments.train, arguments.work / "train", side=arguments.side // 2, most=arguments.crops)
    dev = crops(arguments.dev, arguments.work / "dev", side=arguments.side)
    for model in arguments.model:
        board = Board(model, train, dev, arguments.work)
        if arguments.add:
            (entry,), spec = arguments.entry, arguments.add
            table = as_scheduler(spec, own=board.dev.own).table()
            made(arguments, board, len(table), {entry: partial(added, board, entry, {spec: table})})
            continue
        if board.has_ode:
            made(arguments, board, FINE, {"ODE": partial(solved, board)})
        for calls in arguments.calls:
            made(arguments, board, calls, makers(board, calls))


if __name__ == "__main__":
    main()
