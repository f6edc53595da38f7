"""Which published checkpoint a file is: what its name, its folders, its metadata and its tensors' shapes tell.

Networks of equal shapes decode different latents, or are sampled otherwise, and nothing fails when one is taken for
another. So names count as evidence: NVIDIA's folders (`PiD_res2k_sr4x_official_flux_distill_4step`), Comfy-Org's files
(`pid_1.5_flux1_1024_to_4096_4step_bf16`, a teacher's without `_4step`) and SceneWorks' (`pid_flux2_2kto4k`, of June
2026; `image_jobs/pid.rs`). InvokeAI's users have the first two (its `starter_models`, and its tests of `pid_decoder`).
What these names leave out, such as "teacher", they tell as whole names only; other names tell what they say in words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs

from .. import values
from ..errors import ConfigError, PidSamplerError, unknown_name
from ..io.safetensors import read_header
from . import published as catalogue
from .published import Published
from .shards import INDEX, read_index
from .tensors import Stored

_LONGEST = 255  # characters of a name that are looked at
_METADATA = ("modelspec.title", "modelspec.architecture", "title", "name", "source", "backbone", "type")
_CHANNELS, _PIXELS = "lq_proj.latent_proj.0.weight", "pit_lq_gate.log_alpha"  # where the architectures differ

_BACKBONES = [  # as names of files and folders say them, in small letters
    (re.compile(f"(?<![a-z0-9])(?:{pattern})"), frozenset(names.split()))
    for pattern, names in (
        (r"flux(?![^a-z0-9]?(?:2(?![0-9k])|klein))|z[^a-z0-9]?image", "flux"),
        (r"flux\.?2(?![0-9k])|(?:flux[^a-z0-9]?)?klein", "flux2"),
        (r"flux[^a-z0-9.]2(?![0-9k])", "flux flux2"),  # as in flux-2-dev, and in flux_2_steps
        (r"sd[^a-z0-9]?3|stable[^a-z0-9]?diffusion[^a-z0-9]?3", "sd3"),
        (r"sd[^a-z0-9]?xl|stable[^a-z0-9]?diffusion[^a-z0-9]?xl", "sdxl"),
        (r"qwen[^a-z0-9]?image", "qwenimage"),
        (r"dino", "dinov2"),
        (r"siglip", "siglip"),
    )
]
_PID = re.compile(r"(?<![a-z])(?:pid|pixeldit)(?![a-z])")
COPY = re.compile(r" ?\([0-9]+\)")
"""What browsers put behind a name that is there already."""
# What may follow a published name: the type of the weights, and the ending.
_TAIL = (
    *("bf16", "fp16", "fp32", "fp8", "e4m3fn", "scaled", "mxfp8", "int8", "convrot", "model", "ema"),
    *("safetensors", "sft", "pth", "pt", "bin", "ckpt", "index", "json"),
)
# In names whose words are divided by _ alone.
_RANGE = re.compile(r"(?<![0-9])(?:2k_?to_?4k|1024_to_4096)(?![0-9a-z])")
_SINGLE = re.compile(r"(?<![0-9a-z])(?:(?:res)?2k|512_to_2048)(?![0-9a-z])")
_SIZE = re.compile(r"(?<![0-9])(?:[0-9]+k|512|1024|2048|4096)(?![0-9a-z])")
_NEWER = re.compile(r"(?<![0-9a-z])(?:v?1(?:pt|_)5|v15)(?![0-9a-z])")
_JUNE = re.compile(r"(?<![0-9])(?<!_step_)2606(?![0-9])")
_SCALE = re.compile(r"(?<![0-9a-z])sr([48])x")
_TEACHER = re.compile(r"(?<![a-z])(?:teacher|(?:un|non|not)_?distill(?:ed)?)(?![a-z])")
_STUDENT = re.compile(r"(?<![a-z0-9])(?:student|distill(?:ed)?|4_?steps?)(?![a-z0-9])")
_DENIAL = re.compile(r"(?<![a-z])(?:un|non?|not|never|without|before|pre)(?![a-z])")

Candidates = tuple[Published, ...]


@attrs.frozen(kw_only=True)
class Identity:
    """A checkpoint that was recognized.

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

    These are the file's own name, and where they name PiD or PixelDiT the two nearest folders and a repository in
    Hugging Face's cache. A published name (`Published.names`), up to capitals and what divides its words, tells all.
    Of another name each clear word tells a part. The file is not looked at.

    Args:
        path: Path of a checkpoint.

    Returns:
        The published checkpoints; none where names contradict each other.

    Raises:
        PidSamplerError: The path is no path.
    """
    texts = _names(path)
    try:
        return _weighed(Path(), texts)[0]
    except ConfigError:
        return ()


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
    texts = [*_names(os.path.abspath(file)), *(("metadata", text) for text in metadata_texts(file))]
    told, source = _weighed(file, texts)
    if source and shaped and not _common(told, shaped):
        raise ConfigError(
            f"{file} is {_said(told)} {source}, but its tensors have the shapes of {_said(shaped)}: if "
            f"{_to_correct(source)}"
        )
    known = _common(told, shaped) if shaped else told
    wanted = _wanted(backbone, kind)
    found = _common(known, wanted)
    if not found and shaped and not _common(shaped, wanted):
        raise ConfigError(f"{file} has the shapes of {_said(shaped)}, not of {_said(wanted)}: {_to_pass(known)}")
    if not found:
        raise ConfigError(
            f"{file} is {_said(known)} {source}, not {_said(wanted)}: {_to_pass(known)}, or if {_to_correct(source)}"
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

    Of an index these are the metadata of its shards. A file that is no safetensors, or cannot be read, says nothing.
    """
    try:
        shards = dict.fromkeys(read_index(path).values()) if path.name.endswith(INDEX) else [path.name]
        return list(dict.fromkeys(text for name in shards for text in _texts(path.with_name(name))))
    except (OSError, PidSamplerError):  # read_checkpoint says what is wrong with it
        return []


def backbones_in(text: str) -> frozenset[str] | None:
    """Return the backbones that a name in small letters leaves possible: none if it has several, None without any."""
    said = [names for pattern, names in _BACKBONES if pattern.search(text)]
    return frozenset.intersection(*said) if said else None


def _texts(path: Path) -> list[str]:
    if not path.is_file():
        return []
    found = read_header(path).metadata
    return [found[key].lower()[:_LONGEST] for key in _METADATA if isinstance(found.get(key), str)]


def _names(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Return the names in a path that count, each as what it is and the name."""
    own, *folders = name_parts(path) or [""]
    near = [*folders[:2], *(part for part in folders[2:] if part.startswith("models--"))]
    return [("name", own), *(("name", part) for part in near if _PID.search(part))]


def _weighed(file: Path, texts: Iterable[tuple[str, str]]) -> tuple[Candidates, str]:
    """Return what texts leave possible, and by which of them, as a part of a sentence; see `_names`.

    Raises:
        PidSamplerError: Two of them contradict each other.
    """
    known: Candidates = tuple(catalogue.PUBLISHED.values())
    telling: dict[str, list[str]] = {}
    source = ""
    for what, text in texts:
        told = _told(text)
        left = _common(known, told)
        if not left:
            way = "rename what is wrong, or give a link to it in another place"
            if what == "metadata":
                way = "rename it if the name is wrong, or " * ("name" in telling) + "save it without its metadata"
            raise ConfigError(f"{file} is {_said(known)} {source}, but {_said(told)} {_sources(what, [text])}: {way}")
        if left != known:
            known = left
            telling.setdefault(what, []).append(text)
            source = " and ".join(_sources(*item) for item in telling.items())
    return known, source


def _told(text: str) -> Candidates:
    """Return what one name leaves possible: all where it tells nothing.

    Of words that leave nothing together, the backbone alone counts.
    """
    plain = re.sub("[^a-z0-9]+", "_", COPY.sub("", text)).strip("_")
    words = plain.split("_")
    while words and words[-1] in _TAIL:
        words.pop()
    every = tuple(catalogue.PUBLISHED.values())
    for one in every:
        if "_".join(words) in (re.sub("[^a-z0-9]+", "_", name.lower()) for name in one.names):
            return (one,)
    backbones = backbones_in(text)
    of_backbone = tuple(one for one in every if not backbones or one.backbone in backbones)
    return tuple(one for one in of_backbone if all(clue(one) for clue in _clues(plain))) or of_backbone


def _clues(text: str) -> Iterable[Callable[[Published], bool]]:
    """Yield what the words of a name say, as conditions: scale, version, date, student or teacher, resolution."""
    if scale := _SCALE.search(text):
        yield lambda one: one.architecture.scale == int(scale[1])
    if _NEWER.search(text):
        yield lambda one: "v1pt5" in one.type
    if _JUNE.search(text) and _RANGE.search(text):
        yield lambda one: one.type.endswith("_2606")
    rest, teachers = _TEACHER.subn("", text)
    if bool(_STUDENT.search(rest)) != bool(teachers) and not _DENIAL.search(rest):
        yield lambda one: one.is_teacher == bool(teachers)
    rest, ranges = _RANGE.subn("", text)
    rest, singles = _SINGLE.subn("", rest)
    if bool(ranges) != bool(singles) and not _SIZE.search(rest):
        yield lambda one: one.type.startswith("2kto4k") == bool(ranges)


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
    return f"by the {words} {' and '.join(map(repr, texts))}"


def _common(some: Candidates, others: Candidates) -> Candidates:
    return tuple(one for one in some if one in others)


def _said(ones: Iterable[Published]) -> str:
    *names, last = [f"{one.backbone} {one.type}" for one in ones]
    return f"{', '.join(names)} or {last}" if names else last


def _to_correct(source: str) -> str:
    """Return what to do where the names, or else the metadata, by which a file was recognized are wrong."""
    if source.startswith("by the name"):
        return "the name is wrong, rename it, or give a link to it with another name"
    return "its metadata are wrong, save it without them"


def _to_pass(ones: Candidates) -> str:
    """Return which options lead to one of several, as an advice."""
    backbones, kinds = (list(dict.fromkeys(found)) for found in zip(*((o.backbone, o.type) for o in ones), strict=True))
    advice = []
    if len(backbones) > 1 or len(ones) == 1:
        advice.append(f"pass backbone={backbones[0]!r}{', or another of these' * (len(backbones) > 1)}")
    if len(kinds) > 1 or len(ones) == 1:
        advice.append(f"pass kind={kinds[0]!r}{', or another of these' * (len(kinds) > 1)}")
    return ", and ".join(advice)
