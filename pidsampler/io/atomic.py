"""Files that are whole or not there: written to a temporary name beside their own, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import FileError, PidSamplerError, reason
from ..values import file_path, flag, function, instance

_TEMPORARY = ".pidsampler-{}.tmp"
_FOLDER = ".folder"  # ends the name of a temporary folder; the file of the same name that ends in .tmp is its lock
_ASIDE = ".old"  # ends the name of a folder that keeps the one to be replaced, under its own name
_NEW = 2.0  # seconds in which a file that was opened is locked


def place(path: Path, write: Callable[[IO[bytes]], object], *, overwrite: bool) -> None:
    """Write a file in one go: to a temporary name beside `path`, then renamed; the temporary file never stays.

    Args:
        path: The file.
        write: Called with the open temporary file.
        overwrite: Replace an existing file. Its permissions stay, and its owner where we may set it. So does a link:
            the file that it leads to is replaced.

    Raises:
        PidSamplerError: The file exists and `overwrite` is false, or cannot be written.
    """
    path, overwrite = file_path("path", path), flag("overwrite", overwrite)
    function("write", write, takes="(file)")
    target = real_path(path) if overwrite else path
    temporary = temporary_path(target)
    with _removed(temporary):
        try:
            if overwrite and target.exists() and not target.is_file() and not target.is_dir():
                raise FileError(f"{path} is a pipe or a device, expected the name of a file")
            with temporary.open("xb") as file:
                _locked(file)
                write(file)
                if overwrite:
                    _keep_mode(file, target)
                file.flush()
                os.fsync(file.fileno())
            if overwrite:
                temporary.replace(target)
            else:
                _rename_to_new(temporary, path)
        except PidSamplerError:  # of `write`
            raise
        except FileExistsError as error:
            raise FileError(f"{path} exists already: pass overwrite=True to replace it") from error
        except OSError as error:
            raise unwritable(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left in a folder; what another process is writing is left alone.

    A folder that one of them had put aside, see `replace_folder`, has its name back where that is free.
    """
    folder = file_path("folder", folder)
    for path in folder.glob(_TEMPORARY.format("*")):
        with suppress(OSError), path.open("rb+") as file:
            if time.time() - path.stat().st_mtime > _NEW and _locked(file):
                path.unlink()
    for path in folder.glob(Path(_TEMPORARY.format("*")).with_suffix(_ASIDE).name):
        if not path.with_suffix(".tmp").exists():
            with suppress(OSError):
                _put_back(path)
    for path in folder.glob(Path(_TEMPORARY.format("*")).with_suffix(_FOLDER).name):
        if not path.with_suffix(".tmp").exists():
            shutil.rmtree(path, ignore_errors=True)


def temporary_folder(path: Path) -> AbstractContextManager[Path]:
    """Return a context of a new folder beside `path`, to be filled and renamed; what is left in the end is removed.

    `remove_leftovers` knows the folder of a process that was killed.

    Raises:
        PidSamplerError: `path` is no path.
        OSError: The folder cannot be made, when the context is entered.
    """
    return _filled(file_path("path", path))


def replace_folder(folder: Path, path: Path) -> None:
    """Rename a filled `temporary_folder` to `path`; a folder there is removed once the new one has its name.

    The new one has the permissions of the old one. Where the process is killed between, `remove_leftovers` puts the old
    one back.

    Raises:
        PidSamplerError: An argument is no path.
        OSError: A folder cannot be renamed; the old one is in its place.
    """
    folder, path = file_path("folder", folder), file_path("path", path)
    if not path.exists():
        folder.rename(path)
        return
    shutil.copymode(path, folder)
    aside = folder.with_suffix(_ASIDE)
    aside.mkdir()
    try:
        path.rename(aside / path.name)
        folder.rename(path)
    finally:
        _put_back(aside)


def _put_back(aside: Path) -> None:
    """Give what was put aside its name back where that is free, and remove it where the new one has it."""
    for old in aside.iterdir():
        if not os.path.lexists(path := aside.parent / old.name):
            old.rename(path)
    shutil.rmtree(aside)


@contextmanager
def _filled(path: Path) -> Iterator[Path]:
    lock = temporary_path(path)
    folder = lock.with_suffix(_FOLDER)
    with _removed(lock), lock.open("xb") as file:
        _locked(file)
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def claim(path: Path) -> Callable[[], None] | None:
    """Claim the making of a file, so that other processes make others first; None where one of them has the claim.

    It is a courtesy and no lock: it ends with its process, and where the system locks no files nobody has one.

    Returns:
        What ends the claim.
    """
    path = file_path("path", path)
    beside = path.with_name(_TEMPORARY.format(hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]))
    try:
        file = beside.open("ab")
    except OSError:  # that nothing can be written there is said where it is tried
        return lambda: None
    try:
        held = _locked(file) and os.path.samestat(os.fstat(file.fileno()), beside.stat())
    except OSError:  # another process has ended its claim meanwhile
        held = False
    if not held:
        file.close()
        return None

    def release() -> None:
        if os.name == "nt":  # it removes no file that is open
            file.close()
        with suppress(OSError):
            beside.unlink()
        file.close()

    return release


def temporary_path(path: Path) -> Path:
    """Return a name beside `path` that no file has, and that `remove_leftovers` knows."""
    return file_path("path", path).with_name(_TEMPORARY.format(os.urandom(8).hex()))


def unwritable(path: Path, error: OSError) -> FileError:
    """Return the error for a file that cannot be written: the system's reason, and which folder is missing.

    Args:
        path: File that was to be written.
        error: Error of the system.
    """
    path, error = file_path("path", path), instance("error", error, kind=OSError, words="an OSError")
    missing = isinstance(error, FileNotFoundError) and not path.parent.is_dir()
    return FileError(f"cannot write {path}: {reason(error)}" + f": make the folder {path.parent} first" * missing)


def real_path(path: Path) -> Path:
    """Return the file that a name leads to, through links; it need not exist."""
    return Path(os.path.realpath(file_path("path", path)))


def _keep_mode(file: IO[bytes], path: Path) -> None:
    """Give a new file the permissions of the one that it is to replace, and its owner where we may."""
    if hasattr(os, "fchmod"):
        with suppress(OSError):  # there is none, or the file system has no permissions
            about = path.stat()
            with suppress(OSError):  # only root may
                os.fchown(file.fileno(), about.st_uid, about.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(about.st_mode))


def _locked(file: IO[bytes]) -> bool:
    """Lock a file until it is closed, however its process ends; whether nobody else had. Windows does so itself."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError:  # held by another; or the file system has no locks
        return False
    return True


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Give a file its name unless that exists, also if another process has made it meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:  # no hard links here, as on exFAT: without them the check cannot be one with the renaming
        if path.exists():
            raise FileExistsError from error
        temporary.rename(path)


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):  # it is not there
            path.unlink()
