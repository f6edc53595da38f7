"""What timing a sampler gives: times, shares and ratios, in columns and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .ratios import NOISY, Ratio
from .timing import COPIED, Sample, Times


@dataclass(frozen=True, kw_only=True)
class StepTiming:
    """A sampler's row, its run, or its run by a model, timed.

    Args:
        sampler: The sampler's name: its spec, or that of its class or function.
        part: Part that is timed, such as "row 3 of 8", "run of 8 rows" or "run with tiny".
        about: What was timed, by the names of `rows.COLUMNS`.
        samples: Milliseconds of one launch of the row, or of one run, and on a GPU those of the host, round by round.
        copy: Milliseconds of a plain copy, taken in turn with it; None of a run by a model.
        share: Share of the copy's speed, with its 95 % interval; None of a run by a model.
        outside: What of a run by a model is not the network's: noise and rows, as a share.
        against: Name of the sampler that it is compared with.
        ratio: How many times as long as that one's it takes, with its 95 % interval.
    """

    sampler: str
    part: str
    about: Mapping[str, Any] = field(repr=False)
    samples: tuple[Sample, ...] = field(repr=False)
    copy: Times | None = None
    share: Ratio | None = None
    outside: Ratio | None = None
    against: str | None = None
    ratio: Ratio | None = None

    @property
    def times(self) -> Times:
        """Median and interquartile range of the samples."""
        return Times.of(self.samples)

    @property
    def kind(self) -> str:
        """Which of two samplers' parts are compared: "row", "run of" or "run with"."""
        return "row" if self.part.startswith("row") else "run of" if self.outside is None else "run with"

    @property
    def is_noisy(self) -> bool:
        """Whether its share of a copy, or its ratio, cannot be told."""
        unsure = self.ratio is not None and self.ratio.verdict == NOISY
        return unsure or (self.share is not None and not self.share.is_share)

    def columns(self) -> dict[str, Any]:
        """Return a row of `rows.COLUMNS`; the share of a copy is None where the machine is too noisy to tell it."""
        row = {**self.about, **vars(self.times)}
        if self.copy is not None and self.share is not None:
            row["gb_s"] = row["bytes"] / self.times.ms / 1e6
            row["copy_gb_s"] = COPIED * 3 * row["side"] ** 2 / self.copy.ms / 1e6
            row["share"] = self.share.middle if self.share.is_share else None
        return row

    def to_dict(self) -> dict[str, Any]:
        """Return everything in one flat dict, for a table: `columns`, and each ratio with the ends of its interval."""
        row = {"sampler": self.sampler, "part": self.part, **self.columns(), "against": self.against}
        for name in ("share", "outside", "ratio"):
            ratio: Ratio | None = getattr(self, name)
            row.setdefault(name, None if ratio is None else ratio.middle)
            row[f"{name}_low"], row[f"{name}_high"] = (None, None) if ratio is None else (ratio.low, ratio.high)
        return row

    @property
    def compared(self) -> str:
        """The comparison in words, such as "0.93 [0.91, 0.95] times as long as heun: faster", or "" without one."""
        return "" if self.ratio is None else f"{self.ratio} times as long as {self.against}: {self.ratio.verdict}"

    @property
    def shares(self) -> str:
        """The share of a copy, or what of a run by a model is not the network's, in words."""
        if self.outside is not None:
            return f"{_percent(self.outside)} outside the network"
        if self.share is None:
            return ""
        return f"{_percent(self.share)} of a copy" if self.share.is_share else f"share of a copy: {NOISY}"

    def __str__(self) -> str:
        said = (
            f"{self.sampler}, {self.part}: {self.times.ms:.4g} ms (IQR {self.times.iqr_ms:.2g}, {self.times.n} samples)"
        )
        return "; ".join(filter(None, [said, self.shares, self.compared]))


def _percent(ratio: Ratio) -> str:
    return f"{ratio.middle:.0%} [{ratio.low:.0%}, {ratio.high:.0%}]"
