"""Which published checkpoint a file is: what its name, its folders, its metadata and its tensors' shapes tell.

Networks of equal shapes decode different latents, or are sampled otherwise, and nothing fails when one is taken for
another. So names count as evidence: NVIDIA's folders (`PiD_res2k_sr4x_official_flux_distill_4step`), Comfy-Org's files
(`pid_1.5_flux1_1024_to_4096_4step_bf16`, a teacher's without `_4step`) and SceneWorks' (`pid_flux2_2kto4k`, of June
2026; `image_jobs/pid.rs`). InvokeAI's users have the first two (its `starter_models`, and its tests of `pid_decoder`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs

from .. import values
from ..errors import ConfigError, unknown_name
from . import published as catalogue
from .published import Published
from .tensors import Stored

_LONGEST = 255  # characters of a name that are looked at
_HEADER_BYTES = 100_000_000
_METADATA = ("modelspec.title", "modelspec.architecture", "title", "name", "source", "backbone", "type")
_CHANNELS, _PIXELS = "lq_proj.latent_proj.0.weight", "pit_lq_gate.log_alpha"  # where the architectures differ

_BACKBONES = {  # as names of files and folders say them, in small letters
    name: re.compile(f"(?<![a-z0-9])(?:{pattern})")
    for name, pattern in {
        "flux": r"flux(?![^a-z0-9]?(?:2(?![0-9k])|klein))|z[^a-z0-9]?image",
        "flux2": r"flux[^a-z0-9]?2(?![0-9k])|(?:flux[^a-z0-9]?)?klein",
        "sd3": r"sd[^a-z0-9]?3|stable[^a-z0-9]?diffusion[^a-z0-9]?3",
        "sdxl": r"sd[^a-z0-9]?xl|stable[^a-z0-9]?diffusion[^a-z0-9]?xl",
        "qwenimage": r"qwen[^a-z0-9]?image",
        "dinov2": r"dino",
        "siglip": r"siglip",
    }.items()
}

_PID = re.compile(r"(?<![a-z])(?:pid|pixeldit)(?![a-z])")
_RANGE = re.compile(r"(?<![0-9])(?:2k[^a-z0-9]?to[^a-z0-9]?4k|1024[^a-z0-9]to[^a-z0-9]4096)(?![0-9a-z])")
_SINGLE = re.compile(r"(?<![0-9a-z])(?:(?:res)?2k(?![0-9a-z]|[^a-z0-9]to)|512[^a-z0-9]to[^a-z0-9]2048(?![0-9]))")
_NEWER = re.compile(r"(?<![0-9a-z])(?:v?1(?:pt|\.)5|v1[_-]?5)(?![0-9a-z])")
_TEACHER = re.compile(r"undistilled|teacher")
_STUDENT = re.compile(r"(?<!un)distill|student|(?<![0-9])4[^a-z0-9]?step")
_COMFY_TEACHER = re.compile(r"pid_1\.5_[a-z0-9]+_1024_to_4096(?!_4step)")
_JUNE = re.compile(r"(?<![0-9])2606(?![0-9])|^pid_flux2_2kto4k(?!_v1pt5)")  # of 2026; the second is SceneWorks' name
_SCALE = re.compile(r"(?<![0-9a-z])sr([48])x")

Candidates = tuple[Published, ...]


@attrs.frozen(kw_only=True)
class Identity:
    """A checkpoint that was recognised.

    Args:
        published: The published checkpoint that the file is taken for.
        others: Those that the file's names, metadata and shapes leave possible besides; what decided were the options.
    """

    published: Published = values.field(values.instance, kind=Published, words="a published checkpoint")
    others: Candidates = values.field(values.items, words="published checkpoints", default=())

    @property
    def assumption(self) -> str | None:
        """What was assumed because nothing in the file tells, as a part of a sentence; None where the file tells."""
        if not self.others:
            return None
        return f"taken for {_said([self.published])} as the options say: the file could be {_said(self.others)} too"


def named(path: str | os.PathLike[str]) -> Candidates:
    """Return the published checkpoints that the names in a path leave possible; all of them where they tell nothing.

    The file's own name counts first. Then the two nearest folders and a repository in Hugging Face's cache count where
    they name PiD or PixelDiT, the nearest first, as far as they do not contradict what is known by then. The file is
    not looked at.

    Args:
        path: Path of a checkpoint.

    Raises:
        PidSamplerError: The path is no path.
    """
    return _by_names(path)[0]


def fitting(tensors: Mapping[str, Stored]) -> Candidates:
    """Return the published checkpoints that have these channels, projections and gates; none where nobody has.

    Args:
        tensors: Tensors of the network, see `checkpoint.network_tensors`.

    Raises:
        PidSamplerError: The tensors are no mapping.
    """
    tensors = values.mapping("tensors", tensors, words="tensors by name")
    shape = tensors[_CHANNELS].shape if _CHANNELS in tensors else None
    return tuple(
        one
        for one in catalogue.PUBLISHED.values()
        if shape == (one.architecture.projection, one.architecture.folded_channels, 3, 3)
        and (_PIXELS in tensors) == one.architecture.pixel_injection
    )


def identify(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Stored],
    *,
    backbone: str | None = None,
    kind: str | None = None,
) -> Identity:
    """Return which published checkpoint a file is.

    Args:
        path: Path of the checkpoint; its names count, and the metadata of a .safetensors file.
        tensors: Tensors of its network, see `checkpoint.network_tensors`; their shapes count.
        backbone: Backbone as `get_published` takes it, or None for what the file tells.
        kind: One of `TYPES`, or None for what the file tells.

    Raises:
        PidSamplerError: The file does not tell, and the options do not either; what is possible is said. Or its names,
            its metadata, its shapes and the options contradict each other.
    """
    file = values.file_path("path", path)
    shaped = fitting(tensors)
    told, names = _by_names(os.path.abspath(file))
    source = _sources("by the name", names)
    noted, notes = _narrowed(tuple(catalogue.PUBLISHED.values()), metadata_texts(file))
    if notes:
        if not (both := _common(told, noted)):
            raise ConfigError(
                f"{file} is {_said(told)} {source}, but {_said(noted)} {_sources('by the metadata', notes)}: rename it "
                "if the name is wrong, or save it without its metadata"
            )
        told, source = both, " and ".join([*([source] if names else []), _sources("by the metadata", notes)])
    if source and shaped and not _common(told, shaped):
        raise ConfigError(
            f"{file} is {_said(told)} {source}, but its tensors have the shapes of {_said(shaped)}: rename it, or give "
            "a link to it with another name"
        )
    known = _common(told, shaped) if shaped else told
    wanted = _wanted(backbone, kind)
    found = _common(known, wanted)
    if not found and shaped and not _common(shaped, wanted):
        raise ConfigError(f"{file} has the shapes of {_said(shaped)}, not of {_said(wanted)}: {_to_pass(known)}")
    if not found:
        raise ConfigError(
            f"{file} is {_said(known)} {source}, not {_said(wanted)}: {_to_pass(known)}, or if the name is wrong, "
            "rename it, or give a link to it with another name"
        )
    if len(found) > 1:
        shapes = "by the shapes of its tensors" if shaped else "and its tensors have the shapes of none"
        raise ConfigError(f"{file} may be {_said(found)} {f'{source}, ' * bool(source)}{shapes}: {_to_pass(found)}")
    return Identity(published=found[0], others=tuple(one for one in known if one is not found[0]))


def name_parts(path: str | os.PathLike[str]) -> list[str]:
    """Return the names in a path, in small letters, the file's own first; `/` and `\\` divide them.

    Raises:
        PidSamplerError: The path is no path.
    """
    text = str(values.file_path("path", path)).lower()
    return [part[:_LONGEST] for part in reversed(re.split(r"[/\\]+", text)) if part]


def metadata_texts(path: Path) -> list[str]:
    """Return what the metadata of a .safetensors file say of its title and architecture, in small letters.

    A file that is no safetensors, or cannot be read, says nothing.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= _HEADER_BYTES else None
    except (OSError, ValueError, RecursionError):  # read_checkpoint says what is wrong with it
        return []
    found = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(found, dict):
        return []
    return [found[key].lower()[:_LONGEST] for key in _METADATA if isinstance(found.get(key), str)]


def backbones_in(text: str) -> list[str]:
    """Return the backbones that a name in small letters says."""
    return [name for name, pattern in _BACKBONES.items() if pattern.search(text)]


def _by_names(path: str | os.PathLike[str]) -> tuple[Candidates, list[str]]:
    """Return what a path's names leave possible, and the names that tell it."""
    own, *folders = name_parts(path) or [""]
    near = [*folders[:2], *(part for part in folders[2:] if part.startswith("models--"))]
    return _narrowed(tuple(catalogue.PUBLISHED.values()), [own, *filter(_PID.search, near)])


def _narrowed(candidates: Candidates, texts: Iterable[str]) -> tuple[Candidates, list[str]]:
    """Return what texts leave possible, and those that tell something.

    Of a text that leaves nothing, the first clue alone counts, or nothing.
    """
    telling = []
    for text in texts:
        clues = list(_clues(text))
        for some in (clues, clues[:1]):
            left = tuple(one for one in candidates if all(clue(one) for clue in some))
            if left:
                break
        if left and left != candidates:
            candidates = left
            telling.append(text)
    return candidates, telling


def _clues(text: str) -> Iterable[Callable[[Published], bool]]:
    """Yield what a name says, as conditions: backbone, scale, version, student or teacher, resolution, date."""
    backbones = backbones_in(text)
    if len(backbones) == 1:
        yield lambda one: one.backbone == backbones[0]
    if scale := _SCALE.search(text):
        yield lambda one: one.architecture.scale == int(scale[1])
    range_, newer = bool(_RANGE.search(text)), bool(_NEWER.search(text))
    resolution = range_ or bool(_SINGLE.search(text))
    if newer or resolution:  # the names of v1 have no version
        yield lambda one: ("v1pt5" in one.type) == newer
    student, teacher = bool(_STUDENT.search(text)), bool(_TEACHER.search(text) or _COMFY_TEACHER.search(text))
    if student != teacher or (resolution and newer and not teacher):  # v1.5's students are called so without it too
        yield lambda one: one.type.endswith("_undistilled") == teacher
    if resolution:
        yield lambda one: one.type.startswith("2kto4k") == range_
        yield lambda one: one.type.endswith("_2606") == bool(_JUNE.search(text))


def _wanted(backbone: str | None, kind: str | None) -> Candidates:
    """Return what the options leave possible."""
    if backbone is not None and kind is not None:
        return (catalogue.get_published(backbone, kind),)
    own = None if backbone is None else catalogue.own_backbone(values.word("backbone", backbone))
    if kind is not None and kind not in catalogue.TYPES:
        raise unknown_name("type", kind, known=catalogue.TYPES)
    every = catalogue.PUBLISHED.values()
    return tuple(one for one in every if own in (None, one.backbone) and kind in (None, one.type))


def _sources(words: str, texts: list[str]) -> str:
    return f"{words} {' and '.join(map(repr, texts))}" if texts else ""


def _common(some: Candidates, others: Candidates) -> Candidates:
    return tuple(one for one in some if one in others)


def _said(ones: Iterable[Published]) -> str:
    *names, last = [f"{one.backbone} {one.type}" for one in ones]
    return f"{', '.join(names)} or {last}" if names else last


def _to_pass(ones: Candidates) -> str:
    """Return which options lead to one of several, as an advice."""
    backbones, kinds = (list(dict.fromkeys(found)) for found in zip(*((o.backbone, o.type) for o in ones), strict=True))
    advice = []
    if len(backbones) > 1 or len(ones) == 1:
        advice.append(f"pass backbone={backbones[0]!r}{', or another of these' * (len(backbones) > 1)}")
    if len(kinds) > 1 or len(ones) == 1:
        advice.append(f"pass kind={kinds[0]!r}{', or another of these' * (len(kinds) > 1)}")
    return ", and ".join(advice)
