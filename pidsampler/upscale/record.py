"""Record: what is needed to make a result again, as plain JSON data."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..io import captions
from ..onnx import Model
from ..onnx.contract import Contract
from ..onnx.hub import hub_origin
from ..schedulers.making import FileSampler
from ..table import Scheduler, StepTable
from ..values import word
from ..version import __version__
from .guidance import HasNullCaption, negative_for
from .learnt import learnt_for
from .options import Options
from .resolve import Resolved
from .sizes import output_size
from .source import Source

# Entries that a result made in the same way has too; others say where it was made, and what came of it.
SAME = (
    *("model", "table", "noise", "seed", "degrade_sigma", "caption", "guidance", "negative", "start"),
    *("finish", "noise_frame", "input"),
)


class Files(HasNullCaption, Protocol):
    """A model, or the files of one."""

    @property
    def path(self) -> Path:
        """The folder."""
        ...

    @property
    def contract(self) -> Contract:
        """What the folder's graphs and manifest say."""
        ...

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that makes the model."""
        ...


def make_record(source: Source, options: Options, *, resolved: Resolved, model: Model, device: str) -> dict[str, Any]:
    """Return the record of a result, but for what shows in computing it.

    Args:
        source: What was read.
        options: As asked for.
        resolved: The sampler of the options, see `resolve`.
        model: Model, for its contract and its files' hashes.
        device: "cpu" or "cuda".

    Raises:
        PidSamplerError: The source or the size asked for does not suit the model.
    """
    height, width = output_size(source, model, size=options.finish.size)
    noise = options.noise
    return {
        **sampler_record(options, resolved=resolved, model=model),
        "noise": noise if isinstance(noise, str) else getattr(noise, "__qualname__", repr(noise)),
        "seed": options.seed,
        "degrade_sigma": options.degrade_sigma,
        "finish": options.finish.described(source, model.contract.drifts),
        "start": options.start,
        "input": source.described,
        "output": {"width": width, "height": height},
        "device": device,
        "versions": versions(model.runtime_version),
    }


def sampler_record(options: Options, *, resolved: Resolved, model: Files) -> dict[str, Any]:
    """Return what a record says of the model and the sampler, whatever the picture.

    Args:
        options: As asked for.
        resolved: The sampler of the options, see `resolve`.
        model: Model, or the files of one.
    """
    sampler = resolved.sampler
    guides = resolved.guidance is not None or resolved.table.asks_both
    negative = negative_for(options, model) if guides else None
    return {
        "model": _model(model),
        "scheduler": "StepTable" if isinstance(sampler, StepTable) else repr(sampler),
        # The list as it was given; a table of several evaluations a step holds more times.
        "timesteps": [float(t) for t in getattr(sampler, "timesteps", resolved.table.times)],
        "table": resolved.table.to_dict(),
        **_files(sampler),
        **_table_of(resolved, model),
        **_caption(options.caption, model),
        "guidance": resolved.guidance,
        "negative": captions.described(negative),
        "noise_frame": model.contract.noise_frame,
    }


def versions(onnxruntime: str) -> dict[str, str]:
    """Return the versions that results may depend on, by package."""
    return {
        "pidsampler": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": _version("pillow"),
        "onnxruntime": word("onnxruntime", onnxruntime),
    }


@cache
def _version(package: str) -> str:
    """Version of an installed package; read once, since its file is long."""
    from importlib.metadata import version  # a tenth of the time of importing all of this package

    return version(package)


def _model(model: Files) -> dict[str, Any]:
    contract = model.contract
    said = {"name": contract.name, "licence": contract.license, **hub_origin(model.path), "sha256": model.hashes}
    more = {name: getattr(contract, name) for name in ("origin", "position_limit", "stored_caption")}
    return said | {name: value for name, value in more.items() if value is not None}


def _caption(given: Any | None, model: Files) -> dict[str, Any]:
    """Which embedding a network that takes one was given, and where it is from."""
    caption = model.null_caption if given is None else given
    source = "given" if given is not None else "zeros" if caption is None else "null caption"
    return {
        "caption": captions.described(caption),
        "caption_source": None if model.contract.caption is None else source,
    }


def _files(sampler: Scheduler) -> dict[str, str]:
    """The hashes of the files that a sampler and its times were in."""
    names = {"scheduler_sha256": "sha256", "timesteps_sha256": "timesteps_sha256"}
    found = {name: getattr(sampler, attribute, None) for name, attribute in names.items()}
    return {name: digest for name, digest in found.items() if isinstance(digest, str)}


def _table_of(resolved: Resolved, model: Files) -> dict[str, Any]:
    """Which of the model's own tables it is, if any; for which model it was learnt, and whether it is this one."""
    sampler, said = resolved.sampler, dict[str, Any]()
    if isinstance(sampler, FileSampler):
        said = {"own_table": sampler.own} if sampler.own else {}
    learnt = learnt_for(resolved.table, model.hashes)
    return said if learnt is None else {**said, "learnt_for": learnt}
