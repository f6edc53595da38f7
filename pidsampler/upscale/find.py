"""Inputs and outputs of a run: which files folders stand for, what each becomes, and what is left out."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from os.path import exists, isdir  # False for a name that is too long, where Path raises
from pathlib import Path

import attrs

from .. import moved
from ..errors import ConfigError, FileError, PidSamplerError, reason
from ..io import files, kinds, latents, pictures
from ..values import callback, field, file_path, flag, items, word

_KNOWN = (*pictures.SUFFIXES, *latents.SUFFIXES)


@moved.keywords()
@attrs.frozen
class File:
    """A picture or latent to be enlarged.

    Args:
        path: Input.
        target: Output path.
        resume: Whether a target that was made from it in the same way is left as it is.
    """

    path: Path = field(file_path)
    target: Path = field(file_path)
    resume: bool = field(flag, default=False, kw_only=True)


@attrs.frozen
class LeftOut:
    """Something in a folder of inputs that is not enlarged with it.

    Args:
        path: File or folder.
        why: Reason, such as "a link to a folder".
        failed: Whether it could not be looked into, and inputs may be missing.
    """

    path: Path = field(file_path)
    why: str = field(word)
    failed: bool = field(flag, default=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.path} ({self.why})"


def find_files(
    inputs: Sequence[Path],
    output: str,
    *,
    left_out: Callable[[LeftOut], object] | None = None,
    others: Iterable[Path] = (),
) -> list[File]:
    """Pair each input with what it becomes.

    Args:
        inputs: Files, and folders: those stand for all pictures and latents in them and in their folders, but for
            hidden ones.
        output: A file for a single file; else a folder of PNGs, with the folders that the inputs have. A name that
            ends with a slash, or that has no suffix and is no file, is a folder's.
        left_out: Called with each link to a folder, unreadable folder, and picture of an unknown ending, none of which
            is an input. None raises for an unreadable folder, and is silent about the others.
        others: Further files that are read, such as a caption, and may not be replaced either.

    Raises:
        PidSamplerError: Two inputs would become one file, also one whose name differs in case alone; an output is an
            input; a folder of inputs holds none or is the output; or the output is a file where a folder is needed.
    """
    folder = file_path("output", output)
    inputs = [file_path("inputs", given) for given in items("inputs", inputs, words="paths")]
    others = [file_path("others", other) for other in items("others", others, words="paths")]
    left_out = callback("left_out", left_out, takes="(what)") or _raise_failed
    output = os.fspath(output)
    named = isdir(folder) or output.endswith(("/", os.sep)) or not (folder.suffix or exists(folder))
    if len(inputs) == 1 and not isdir(inputs[0]) and not named:
        return _checked([File(inputs[0], folder)], others)
    if not isdir(folder) and (exists(folder) or Path(output).suffix.lower() in pictures.SUFFIXES):
        what = "is a file" if exists(folder) else "names a picture"
        raise ConfigError(f"{output} {what}, but several inputs need a folder: pass -o FOLDER")
    found: dict[str, File] = {}
    for given in inputs:
        for path, place in _below(given, folder, left_out) if isdir(given) else [(given, Path(given.name))]:
            file = File(path, folder / place.with_suffix(".png"), resume=True)
            other = found.setdefault(_one_name(file.target), file)
            if other is not file:
                raise ConfigError(_told_twice(other, file))
    _checked(list(found.values()), others)
    _make_folders(folder, {file.target.parent for file in found.values()})
    return list(found.values())


def _raise_failed(what: LeftOut) -> None:
    if what.failed:
        raise FileError(f"cannot read {what.path}: {what.why}")


def _checked(found: list[File], others: list[Path]) -> list[File]:
    targets = [file.target for file in found]
    beside = [pictures.sidecar(target) for target in targets if not pictures.holds_text(target)]
    files.check_outputs([*targets, *beside], inputs=[*(file.path for file in found), *others])
    return found


def _one_name(path: Path) -> str:
    """The same text for two names that are one file on some system: case, and how accents are put together."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _told_twice(first: File, second: File) -> str:
    if first.target == second.target:
        return f"{first.path} and {second.path} would both become {first.target}: rename one"
    return (
        f"{first.path} and {second.path} would become {first.target} and {second.target}, which are one file "
        "where neither case nor how accents are written counts: rename one"
    )


def _make_folders(top: Path, parents: set[Path]) -> None:
    """Make the folders of outputs; where one below the top cannot be made, its files say so when their turn comes."""
    for parent in sorted({top, *parents}):
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if parent == top:
                raise FileError(f"cannot make the folder {parent}: {reason(error)}") from error


def _below(given: Path, output: Path, left_out: Callable[[LeftOut], object]) -> Iterator[tuple[Path, Path]]:
    """Yield the pictures and latents below a folder, and where in it they are; without those below the output."""
    if given.resolve() == output.resolve():
        raise ConfigError(f"{output} is the folder of the inputs: pass another, such as -o {output / 'large'}")
    without, none = [], True

    def leave(what: LeftOut) -> None:
        without.append(what)
        left_out(what)

    def unreadable(error: OSError) -> None:
        leave(LeftOut(Path(error.filename), reason(error), failed=True))

    for name, folders, names in os.walk(given, onerror=unreadable):
        here = Path(name)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != output.resolve())
        for path in map(here.joinpath, folders):
            if path.is_symlink():
                leave(LeftOut(path, "a link to a folder"))
        for path in map(partial(Path, here), sorted(names)):
            if path.name.startswith("."):
                continue
            if path.suffix.lower() in _KNOWN:
                none = False
                yield path, path.relative_to(given)
            elif (kind := _picture_kind(path)) is not None:
                leave(LeftOut(path, f"{kind}, but not one of {', '.join(pictures.SUFFIXES)}"))
    if none:
        what = f"; left out: {', '.join(map(str, without))}" if without else ""
        raise FileError(f"{given} holds no picture or latent: expected {', '.join(_KNOWN)}{what}")


def _picture_kind(path: Path) -> str | None:
    """The format of a picture by its first bytes, or None for what is none, or cannot be read."""
    try:
        with files.opened(path) as file:
            head = file.read(kinds.HEAD)
    except (PidSamplerError, OSError):
        return None
    return kinds.picture_format(head) or kinds.unread_format(head)
