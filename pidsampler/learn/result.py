"""What was learnt, how good it is, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from ..search.compare import Rival, comparison
from ..study.statistics import Runs, interval
from ..table import StepTable
from .known import BEST
from .solver import LinearSolver

SURE = 10.0  # times that the error of a reference is to be below what is reported


@attrs.frozen(kw_only=True, eq=False)
class Fit:
    """What was learnt.

    Args:
        solver: Times and weights.
        errors: Held-out runs, (image, seed) -> RMS distance of the result to the ODE's solution.
        baselines: The best of the known schedulers over the known lists with as many calls, on the same runs, the best
            first. Where there are several held-out images they are those that are best on the first one.
        known: How many known samplers there were.
        fitted: RMS distance of the runs that it was fitted to.
        reference_error: RMS change of the held-out runs' solutions as their steps were doubled last, which is more than
            they are off; 0 where they are exact.
        amplification: RMS change of the result over that of white noise on every x0; named methods have about 2.
        bfloat16: Mean held-out distance if the network's outputs are rounded to bfloat16.
        provenance: Where it comes from: the model, the pictures, the settings, the versions.
    """

    solver: LinearSolver
    errors: Runs
    baselines: list[Rival]
    known: int
    fitted: float
    reference_error: float
    amplification: float
    bfloat16: float
    provenance: dict[str, Any]

    @property
    def table(self) -> StepTable:
        """The sampler, with its history."""
        return StepTable(self.solver.table(), history=self.history)

    @property
    def error(self) -> float:
        """Mean held-out distance to the ODE's solution."""
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
            "fitted_to": [_without_folder(one) for one in self.provenance["fitted_to"]],
            "held_out": [_without_folder(one) for one in held_out],
            "measure": "RMS distance to the ODE's solution",
            "error": {"mean": errors.mean, "low": errors.low, "high": errors.high},
            "error_fitted_to": self.fitted,
            "error_bfloat16": self.bfloat16,
            "error_of_reference": self.reference_error,
            "amplification": self.amplification,
            "known_samplers": self.known,
            "best_known": [
                {
                    "sampler": rival.name,
                    "mean": rival.mean,
                    "found_less_it": [rival.difference.low, rival.difference.mean, rival.difference.high],
                    "found_is": rival.verdict,
                }
                for rival in self.baselines
            ],
        }

    @property
    def report(self) -> list[str]:
        """The comparison and the guards, as lines of text."""
        lines = comparison(self.errors, self.baselines, measure="RMS distance to the ODE's solution")
        lines.append(f"{self.known} known samplers were tried on the first held-out image, the best {BEST} on all.")
        if self.baselines:
            best = self.baselines[0]
            said = {
                "better": f"{self.error / best.mean:.3g} of the distance of {best.name}",
                "worse": f"worse than {best.name}: use that",
                "within noise": f"not shown to be better than {best.name}: the difference is within noise",
            }
            lines.append(f"What was learnt is {said[best.verdict]}.")
        cut = [one for name in ("fitted_to", "held_out") for one in self.provenance[name] if "crop" in one]
        if cut:
            places = "; ".join("{} at {}, {}".format(_without_folder(one)["name"], *one["crop"]) for one in cut)
            lines.append(f"Squares of {cut[0]['crop'][2]} pixels with the most detail: {places}.")
        lines.append(f"With the network's outputs in bfloat16: {self.bfloat16:.5g}.")
        lines.append(f"Errors of the network are made {self.amplification:.3g} times larger; by named methods 2 times.")
        if self.reference_error:
            known = f"Doubling the steps of the solutions compared with changed them by {self.reference_error:.2g}"
            enough = self.reference_error * SURE <= self.error
            lines.append(
                f"{known}." if enough else f"{known}: more than a tenth of the distance, which is not known well."
            )
        return lines


def _without_folder(image: dict[str, Any]) -> dict[str, Any]:
    return {**image, "name": Path(image["name"]).name.encode(errors="backslashreplace").decode()}
