"""What was learnt, how good it is, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..search.compare import Rival, comparison
from ..study.statistics import Runs, difference, interval
from ..table import StepTable
from .known import BEST, Known
from .matrix import Tried, matrix_lines
from .solved import SURE
from .solver import LinearSolver


@attrs.frozen(kw_only=True, eq=False)
class Fit:
    """What was learnt.

    Args:
        solver: Times and weights.
        errors: Held-out runs, (image, seed) -> what is measured of the result: its RMS distance to the ODE's solution,
            or to the target's.
        known: What it was compared with on the same runs, of as many calls.
        fitted: The same mean of the runs that it was fitted to.
        reference_error: RMS change of the held-out runs' solutions of the ODE as their steps were doubled last, which
            is more than they are off; 0 where they are exact, or are not the target.
        amplification: RMS change of the results of all runs over that of white noise on every x0; named methods have
            about 2.
        bfloat16: The held-out mean if the network's outputs are rounded to bfloat16.
        measure: What is measured, in words.
        sign: Sign of the measure: -1 where higher is better.
        consistency: Where the target is the ODE's solution, and inputs are pictures: how well held-out results are
            their inputs, in dB, of the "solution", of what was "found", and of the model's "own" sampler.
        provenance: Where it comes from: the model, the pictures, the settings, the versions.
        matrix: What the table is worth on other things than what was held out, see `matrix`.
    """

    solver: LinearSolver
    errors: Runs
    known: Known
    fitted: float
    reference_error: float
    amplification: float
    bfloat16: float
    measure: str
    sign: float
    consistency: Mapping[str, Runs] | None
    provenance: dict[str, Any]
    matrix: Sequence[Tried] = ()

    @property
    def table(self) -> StepTable:
        """The sampler, with its history."""
        return StepTable(self.solver.table(), history=self.history)

    @property
    def baselines(self) -> list[Rival]:
        """The best of the known schedulers over the known lists, the best first; see `Known.best`."""
        return self.known.best

    @property
    def error(self) -> float:
        """Mean of what is measured of the held-out runs."""
        return interval(self.errors).mean

    @property
    def history(self) -> dict[str, Any]:
        """All that is known of it, as plain JSON data: `provenance`, and what was measured on the held-out runs."""
        errors = interval(self.errors)
        by_image: dict[str, dict[str, float]] = {}
        for (image, seed), error in self.errors.items():
            by_image.setdefault(image, {})[str(seed)] = error
        held_out = [{**one, "errors": by_image[one["name"]]} for one in self.provenance["held_out"]]
        return {
            **self.provenance,
            "fitted_to": [without_folder(one) for one in self.provenance["fitted_to"]],
            "held_out": [without_folder(one) for one in held_out],
            "measure": self.measure,
            "error": {"mean": errors.mean, "low": errors.low, "high": errors.high},
            "error_fitted_to": self.fitted,
            "error_bfloat16": self.bfloat16,
            "error_of_reference": self.reference_error,
            "amplification": self.amplification,
            **({"consistency": self._consistencies} if self.consistency else {}),
            "known_samplers": self.known.count,
            "lists_left_out": self.known.left_out,
            "best_known": [_described(rival) for rival in self.baselines],
            "best_searched": None
            if self.known.searched is None
            else {**_described(self.known.searched), "times": self.known.searched.times.tolist()},
            **({"matrix": [attrs.asdict(row) for row in self.matrix]} if self.matrix else {}),
        }

    @property
    def report(self) -> list[str]:
        """The comparison and the guards, as lines of text."""
        searched = [] if self.known.searched is None else [self.known.searched]
        compared = sorted([*self.baselines, *searched], key=lambda rival: self.sign * rival.mean)
        lines = comparison(self.errors, compared, measure=self.measure)
        lines.append(
            f"{self.known.count} known samplers were tried on the first held-out image, the best {BEST} on all."
        )
        by_distance = self.measure.startswith("RMS distance")
        for rival in (*self.baselines[:1], *searched):
            said = {
                "better": f"{self.error / rival.mean:.3g} of the distance of {rival.name}"
                if by_distance
                else f"better than {rival.name}",
                "worse": f"worse than {rival.name}: use that",
                "within noise": f"not shown to be better than {rival.name}: the difference is within noise",
            }
            lines.append(f"What was learnt is {said[rival.verdict]}.")
        cut = [one for name in ("fitted_to", "held_out") for one in self.provenance[name] if "crop" in one]
        if cut:
            places = "; ".join("{} at {}, {}".format(without_folder(one)["name"], *one["crop"]) for one in cut)
            lines.append(f"Squares of {cut[0]['crop'][2]} pixels with the most detail: {places}.")
        asked, ridge = self.provenance["settings"]["ridge"], self.provenance["ridge"]
        if ridge > asked:
            lines.append(f"The ridge was raised from {asked:g} to {ridge:g}: errors were made too large.")
        elif ridge < asked:
            lines.append(f"A ridge of {ridge:g} was better than the one of {asked:g} asked for.")
        if self.provenance.get("steady"):
            lines.append("Times and weights were moved on, as they made errors too large at first.")
        lines.append(f"With the network's outputs in bfloat16: {self.bfloat16:.5g}.")
        lines.append(f"Errors of the network are made {self.amplification:.3g} times larger; by named methods 2 times.")
        lines += self._beside
        if self.reference_error:
            known = f"Doubling the steps of the solutions compared with changed them by {self.reference_error:.2g}"
            enough = self.reference_error * SURE <= self.error
            lines.append(
                f"{known}." if enough else f"{known}: more than a tenth of the distance, which is not known well."
            )
        if self.matrix:
            lines += ["", *matrix_lines(self.matrix)]
        return lines

    @property
    def _consistencies(self) -> dict[str, float]:
        return {name: interval(runs).mean for name, runs in (self.consistency or {}).items()}

    @property
    def _beside(self) -> list[str]:
        """What the target is worth as a picture."""
        if self.consistency is None:
            return []
        means = self._consistencies
        lines = [
            f"Consistency with the input: {means['solution']:.4g} dB of the ODE's solution, {means['found']:.4g} of "
            f"what was learnt, {means['own']:.4g} of the model's own sampler over its own list."
        ]
        change = difference(self.consistency["solution"], self.consistency["own"])
        if change is not None and change.high < 0.0:
            lines.append(
                "The solution is no better picture than the model's own sampler makes, as of a student: consider a "
                "measure as the target, such as target='psnr'."
            )
        return lines


def _described(rival: Rival) -> dict[str, Any]:
    return {
        "sampler": rival.name,
        "mean": rival.mean,
        "found_less_it": [rival.difference.low, rival.difference.mean, rival.difference.high],
        "found_is": rival.verdict,
    }


def without_folder(image: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of an image, as `described` has it, with the name of its file alone."""
    return {**image, "name": Path(image["name"]).name.encode(errors="backslashreplace").decode()}
