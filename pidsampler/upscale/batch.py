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
from ..errors import ConfigError, FileError, PidSamplerError, printable
from ..io import atomic, pictures, whole
from ..io.files import check_outputs
from ..io.records import find_record
from ..jobs.run import outcomes
from ..values import callback, field, file_path, flag, instance, items, shown, word
from .find import File, LeftOut, find_files
from .memory import Tiling
from .options import Options
from .record import SAME
from .source import Source
from .upscaler import Result, Upscaler
from .whole_sampler import WholeSampler

__all__ = [
    "File",
    "FileJob",
    "FileOutcome",
    "FileWorker",
    "LeftOut",
    "Settings",
    "find_files",
    "upscale_files",
    "upscale_on_cluster",
]

UpscalerLike = Upscaler | WholeSampler

_AHEAD, _BEHIND = 2, 2  # files read and not yet computed, computed and not yet written
_TOGETHER = 4  # files that a worker of a cluster takes at once, where there are many
_MANY = 64


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


@moved.keywords()
def upscale_files(
    up: UpscalerLike,
    files: Iterable[File],
    *,
    settings: Settings,
    progress: Callable[[Path, float], object] | None = None,
) -> Generator[FileOutcome, None, UpscalerLike]:
    """Enlarge files and yield what comes of each, in order; one that fails does not keep the others.

    Decoding and encoding are done in a thread each, beside the network. No more than five files are in memory. Of files
    with `resume` those that another process is at come last: by then they may be there.

    Args:
        up: Loaded model, or whole sampler. After one file that ran out of memory, the rest is made in the smaller tiles
            that it took.
        files: See `find_files`.
        settings: See `Settings`.
        progress: Called as progress(path, share) after each call of the network, with its share of the file's.

    Returns:
        The upscaler for more files: with the smaller tiles, where memory ran out.

    Raises:
        PidSamplerError: An argument is not as described.
    """
    if not isinstance(up, Upscaler | WholeSampler):
        raise ConfigError(f"up={shown(up)} must be an Upscaler or a WholeSampler")
    instance("settings", settings, kind=Settings, words="a Settings")
    callback("progress", progress, takes="(path, share)")
    if not isinstance(files, Iterable):
        raise ConfigError(f"files={shown(files)} must be an iterable of File")
    return _upscaled(up, iter(files), settings, progress or (lambda *_: None))


def _upscaled(
    up: UpscalerLike, remaining: Iterator[File], settings: Settings, progress: Callable[[Path, float], object]
) -> Generator[FileOutcome, None, UpscalerLike]:
    with _claims() as claims, _thread() as reader, _thread() as writer:

        def read(file: File, waits: bool = True) -> tuple[File, Future[Any]]:
            instance("files", file, kind=File, words="an iterable of File")
            return file, reader.submit(_guarded, partial(_read, up, settings, claims if waits else None), file)

        ahead = deque(map(read, islice(remaining, _AHEAD)))
        behind: deque[Future[FileOutcome] | FileOutcome] = deque()
        later: deque[File] = deque()  # of another process
        while ahead or later:
            file, waiting = ahead.popleft() if ahead else read(later.popleft(), waits=False)
            found: Any = waiting.result()
            ahead.extend(map(read, islice(remaining, 1)))
            if found is None:
                later.append(file)
                continue
            if isinstance(found, _Read):
                found = _guarded(partial(_compute, up, settings, progress, found), file)
            if isinstance(found, _Computed):
                up = up.with_tiling(found.result.plan.tiling)
                found = writer.submit(_guarded, partial(_write, settings, found), file)
            behind.append(found)
            while len(behind) > _BEHIND:
                yield _ended(behind.popleft(), claims)
        while behind:
            yield _ended(behind.popleft(), claims)
    return up


_Claims = dict[File, Callable[[], None]]  # what ends each claim


@contextmanager
def _claims() -> Iterator[_Claims]:
    claims: _Claims = {}
    try:
        yield claims
    finally:
        for release in claims.values():
            release()


@attrs.frozen
class _Read:
    source: Source
    seconds: float


@attrs.frozen
class _Computed:
    result: Result
    seconds: float


def _guarded(stage: Callable[[File], Any], file: File) -> Any:
    """What a stage returns, or the outcome of a file that failed in it, in whatever way."""
    try:
        return stage(file)
    except PidSamplerError as error:
        named = printable(str(file.path)) in str(error)
        return FileOutcome(file, error=str(error) if named else f"{file.path}: {error}")
    except MemoryError:
        return FileOutcome(file, error=f"{file.path}: not enough memory for its result")
    except Exception as error:  # of a reader or of ours: the other files are still to be made
        return FileOutcome(file, error=f"{file.path}: {type(error).__name__}: {error}")


def _read(up: UpscalerLike, settings: Settings, claims: _Claims | None, file: File) -> _Read | FileOutcome | None:
    """Read a file; None where another process is at it."""
    began = time.perf_counter()
    check_outputs([file.target], inputs=[file.path])
    new = not os.path.lexists(file.target)
    if file.resume and claims is not None and (new or settings.overwrite):
        release = atomic.claim(file.target)
        if release is None:
            return None
        claims[file] = release
        new = not os.path.lexists(file.target)
    source = Source.of(file.path)
    if file.resume:
        if not new and not settings.overwrite:
            return FileOutcome(file, record=_made(file, up.record(source, **settings.keywords())))
        pictures.check_output(file.target, settings.overwrite)
    pictures.check_fits(
        file.target,
        up.output_size(source, settings.finish.size),
        alpha=source.alpha is not None,
        cicp=source.cicp is not None and source.icc is None,
    )
    return _Read(source, time.perf_counter() - began)


def _made(file: File, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a target that is there already, was made in the wanted way, and is whole."""
    if not os.path.exists(file.target):
        raise FileError(f"{file.target} is a link to nothing: pass overwrite=True to make what it leads to")
    if (wrong := whole.damage(file.target)) is not None:
        raise FileError(f"{file.target}, for {file.path}, is damaged ({wrong}): pass overwrite=True to make it again")
    made, wanted = find_record(file.target), json.loads(json.dumps(wanted))
    if made is not None and all(made.get(key) == wanted[key] for key in SAME):
        return made
    raise FileError(
        f"{file.target} exists already, not made from {file.path} with these settings: pass overwrite=True to replace "
        "it, or another folder"
    )


def _compute(
    up: UpscalerLike, settings: Settings, progress: Callable[[Path, float], object], read: _Read, file: File
) -> _Computed:
    began = time.perf_counter()
    result = up(read.source, **settings.keywords(), progress=partial(progress, file.path))
    return _Computed(result, read.seconds + time.perf_counter() - began)


def _write(settings: Settings, computed: _Computed, file: File) -> FileOutcome:
    began = time.perf_counter()
    try:
        computed.result.save(file.target, settings.overwrite)
    except FileError:
        if not file.resume or settings.overwrite or not os.path.lexists(file.target):
            raise
        return FileOutcome(file, record=_made(file, computed.result.record))  # by another process meanwhile
    seconds = computed.seconds + time.perf_counter() - began
    return FileOutcome(file, record=computed.result.record, seconds=seconds)


def _ended(written: Future[FileOutcome] | FileOutcome, claims: _Claims) -> FileOutcome:
    outcome = written if isinstance(written, FileOutcome) else written.result()
    if (release := claims.pop(outcome.file, None)) is not None:
        release()
    return outcome


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
        self._up: UpscalerLike | None = None

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
