"""Many files: each is read while the one before is computed and the one before that is written."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import attrs

from .. import moved
from ..errors import ConfigError, FileError, PidSamplerError, reason
from ..io import latents, pictures
from ..jobs.run import outcomes
from ..values import callback, field, file_path, flag, instance, items, shown, word
from .memory import Tiling
from .options import Options
from .record import SAME
from .source import Source
from .upscaler import Result, Upscaler

_AHEAD, _BEHIND = 2, 2  # files read and not yet computed, computed and not yet written
_TOGETHER = 4  # files that a worker of a cluster takes at once, where there are many
_MANY = 64


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


@moved.keywords(scheduler="sampler")
@attrs.frozen
class Settings(Options):
    """Options of each file's result, and what to do with outputs that exist.

    Args:
        overwrite: Whether they are replaced.
    """

    overwrite: bool = field(flag, default=False, kw_only=True)


@attrs.frozen
class FileOutcome:
    """What came of a file.

    Args:
        file: Input and output.
        error: Why it failed, one line; None if it did not.
        record: Record of the result; None if it failed.
        seconds: Seconds to read, compute and write it; 0 where its target was there already.
    """

    file: File
    error: str | None = attrs.field(default=None, kw_only=True)
    record: dict[str, Any] | None = attrs.field(default=None, kw_only=True)
    seconds: float = attrs.field(default=0.0, kw_only=True)


def find_files(inputs: Sequence[Path], output: str) -> list[File]:
    """Pair each input with what it becomes.

    Args:
        inputs: Files, and folders: those stand for all pictures and latents in them and in their folders, but for
            hidden ones.
        output: A file for a single file; else a folder of PNGs, with the folders that the inputs have. A name that
            ends with a slash is a folder's.

    Raises:
        PidSamplerError: Two inputs would become one file, a folder of inputs holds none or is the output, or the
            output is a file where a folder is needed.
    """
    folder = file_path("output", output)
    inputs = [file_path("inputs", given) for given in items("inputs", inputs, words="paths")]
    output = os.fspath(output)
    if len(inputs) == 1 and not inputs[0].is_dir() and not folder.is_dir() and not output.endswith(("/", os.sep)):
        return [File(inputs[0], folder)]
    if not folder.is_dir() and (folder.exists() or Path(output).suffix.lower() in pictures.SUFFIXES):
        what = "is a file" if folder.exists() else "names a picture"
        raise ConfigError(f"{output} {what}, but several inputs need a folder: pass -o FOLDER")
    found: dict[Path, Path] = {}
    for given in inputs:
        for path, place in _below(given, folder) if given.is_dir() else [(given, Path(given.name))]:
            target = folder / place.with_suffix(".png")
            if target in found:
                raise ConfigError(f"{found[target]} and {path} would both become {target}: rename one")
            found[target] = path
    for parent in {folder, *(target.parent for target in found)}:
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"cannot make the folder {parent}: {reason(error)}") from error
    return [File(path, target, resume=True) for target, path in found.items()]


def _below(given: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the pictures and latents below a folder, and where in it they are; without those below the output."""
    if given.resolve() == output.resolve():
        raise ConfigError(f"{output} is the folder of the inputs: pass another, such as -o {output / 'large'}")
    none = True
    for name, folders, files in os.walk(given):
        here = Path(name)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != output.resolve())
        for file in sorted(files):
            path = here / file
            if not file.startswith(".") and path.suffix.lower() in (*pictures.SUFFIXES, *latents.SUFFIXES):
                none = False
                yield path, path.relative_to(given)
    if none:
        raise FileError(f"{given} holds no picture or latent: expected {_KNOWN}")


_KNOWN = ", ".join((*pictures.SUFFIXES, *latents.SUFFIXES))


@moved.keywords()
def upscale_files(
    up: Upscaler,
    files: Iterable[File],
    *,
    settings: Settings,
    progress: Callable[[Path, float], object] | None = None,
) -> Generator[FileOutcome, None, Upscaler]:
    """Enlarge files and yield what comes of each, in order; one that fails does not keep the others.

    Decoding and encoding are done in a thread each, beside the network. No more than five files are in memory.

    Args:
        up: Loaded model. After one file that ran out of memory, the rest is made in the smaller tiles that it took.
        files: See `find_files`.
        settings: See `Settings`.
        progress: Called as progress(path, share) after each call of the network, with its share of the file's.

    Returns:
        The upscaler for more files: with the smaller tiles, where memory ran out.

    Raises:
        PidSamplerError: An argument is not as described.
    """
    instance("up", up, kind=Upscaler, words="an Upscaler")
    instance("settings", settings, kind=Settings, words="a Settings")
    callback("progress", progress, takes="(path, share)")
    if not isinstance(files, Iterable):
        raise ConfigError(f"files={shown(files)} must be an iterable of File")
    return _upscaled(up, iter(files), settings, progress or (lambda *_: None))


def _upscaled(
    up: Upscaler, remaining: Iterator[File], settings: Settings, progress: Callable[[Path, float], object]
) -> Generator[FileOutcome, None, Upscaler]:
    with _thread() as reader, _thread() as writer:

        def read(file: File) -> tuple[File, Future[Any]]:
            instance("files", file, kind=File, words="an iterable of File")
            return file, reader.submit(_guarded, partial(_read, up, settings), file)

        ahead = deque(map(read, islice(remaining, _AHEAD)))
        behind: deque[Future[FileOutcome] | FileOutcome] = deque()
        while ahead:
            file, waiting = ahead.popleft()
            found: Any = waiting.result()
            ahead.extend(map(read, islice(remaining, 1)))
            if isinstance(found, _Read):
                found = _guarded(partial(_compute, up, settings, progress, found), file)
            if isinstance(found, _Computed):
                up = up.with_tiling(found.result.plan.tiling)
                found = writer.submit(_guarded, partial(_write, settings, found), file)
            behind.append(found)
            while len(behind) > _BEHIND:
                yield _ended(behind.popleft())
        while behind:
            yield _ended(behind.popleft())
    return up


@attrs.frozen
class _Read:
    source: Source
    seconds: float


@attrs.frozen
class _Computed:
    result: Result
    seconds: float


def _guarded(stage: Callable[[File], Any], file: File) -> Any:
    """What a stage returns, or the outcome of a file that failed in it."""
    try:
        return stage(file)
    except PidSamplerError as error:
        named = str(file.path) in str(error)
        return FileOutcome(file, error=str(error) if named else f"{file.path}: {error}")
    except MemoryError:
        return FileOutcome(file, error=f"{file.path}: not enough memory for its result")


def _read(up: Upscaler, settings: Settings, file: File) -> _Read | FileOutcome:
    began = time.perf_counter()
    source = Source.of(file.path)
    if file.resume and file.target.exists() and not settings.overwrite:
        made = pictures.read_record(file.target)
        wanted = json.loads(json.dumps(up.record(source, **settings.keywords())))
        if made is not None and all(made.get(key) == wanted[key] for key in SAME):
            return FileOutcome(file, record=made)
        raise FileError(
            f"{file.target} exists already, not made from {file.path} with these settings: pass overwrite=True to "
            "replace it, or another folder"
        )
    pictures.check_fits(
        file.target,
        up.output_size(source, settings.finish.size),
        alpha=source.alpha is not None,
        cicp=source.cicp is not None and source.icc is None,
    )
    return _Read(source, time.perf_counter() - began)


def _compute(
    up: Upscaler, settings: Settings, progress: Callable[[Path, float], object], read: _Read, file: File
) -> _Computed:
    began = time.perf_counter()
    result = up(read.source, **settings.keywords(), progress=partial(progress, file.path))
    return _Computed(result, read.seconds + time.perf_counter() - began)


def _write(settings: Settings, computed: _Computed, file: File) -> FileOutcome:
    began = time.perf_counter()
    computed.result.save(file.target, settings.overwrite)
    seconds = computed.seconds + time.perf_counter() - began
    return FileOutcome(file, record=computed.result.record, seconds=seconds)


def _ended(written: Future[FileOutcome] | FileOutcome) -> FileOutcome:
    return written if isinstance(written, FileOutcome) else written.result()


@contextmanager
def _thread() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # waits for what it is at: no file is left half-written


def _files(name: str, value: object) -> tuple[File, ...]:
    return tuple(instance(name, file, kind=File, words="a list of File") for file in items(name, value, words="File"))


@attrs.frozen
class FileJob:
    """Files for one worker of a cluster.

    Args:
        files: Files that are done one after another.
        settings: See `Settings`.
        again: Whether a worker died of them before.
    """

    files: tuple[File, ...] = field(_files)
    settings: Settings = field(instance, kind=Settings, words="a Settings")
    again: bool = field(flag, default=False, kw_only=True)

    def lost(self, got: Sequence[FileOutcome], why: str) -> tuple[list[FileOutcome], list[FileJob]]:
        """Give each file that is lacking a worker of its own, once."""
        done = {outcome.file for outcome in got}
        lacking = [file for file in self.files if file not in done]
        if self.again:
            return [FileOutcome(file, error=f"{file.path}: {why}") for file in lacking], []
        return [], [attrs.evolve(self, files=(file,), again=True) for file in lacking]


class FileWorker:
    """Enlarges files, and keeps its model loaded.

    Args:
        model: As in `Upscaler.load`, and so are the others.
        device: "auto", "cpu" or "cuda".
        tiling: How large results are cut up.
    """

    @moved.keywords()
    def __init__(self, model: str | Path, device: str, *, tiling: Tiling | None = None) -> None:
        file_path("model", model)
        word("device", device, choices=("auto", "cpu", "cuda"))
        if tiling is not None:
            instance("tiling", tiling, kind=Tiling, words="a Tiling")
        self._load = partial(Upscaler.load, model, device, tiling=tiling)
        self._up: Upscaler | None = None

    def run(self, job: FileJob) -> Iterator[FileOutcome]:
        """Enlarge a job's files."""
        try:
            up = self._up or self._load()
        except PidSamplerError as error:
            yield from (FileOutcome(file, error=str(error)) for file in job.files)
            return
        self._up = yield from upscale_files(up, job.files, settings=job.settings)


@moved.keywords()
def upscale_on_cluster(
    model: str | Path, device: str, *, files: Sequence[File], settings: Settings, tiling: Tiling | None = None
) -> Generator[FileOutcome, None, None]:
    """Enlarge files on a Ray cluster whose machines see them under the same paths; see `jobs.ray.cluster`.

    Results are those of `upscale_files`, bit for bit, in any order.

    Raises:
        PidSamplerError: Ray is not installed.
    """
    size = min(_TOGETHER, 1 + len(files) // _MANY)
    jobs = [FileJob(tuple(files[k : k + size]), settings) for k in range(0, len(files), size)]
    return outcomes("ray", partial(FileWorker, model, device, tiling=tiling), jobs=jobs, device=device, count=None)


__getattr__ = moved.names(__name__)
