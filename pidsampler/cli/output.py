"""The one place that prints.

What is printed may hold names from a stranger's file, and whoever reads it may be gone: a text cannot control the
terminal, and one that cannot be written ends no work. `close` says at the end whether all of it went out.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from ..errors import FileError, printable, reason

_lines = {"to": "stdout"}  # where `say` prints
_failed: dict[str, str] = {}  # name of a stream -> why it takes no more; empty where its reader has only gone


def say(*lines: str, flush: bool = False) -> None:
    """Print lines on stdout, or after `divert` on stderr; a line break inside of one is shown as an escape."""
    _write(_lines["to"], lines, flush=flush)


def divert() -> None:
    """Let stdout be for `send` alone: lines go to stderr from now on, in this command."""
    _lines["to"] = "stderr"


def send(data: bytes) -> None:
    """Write bytes on stdout, such as a picture's."""
    stream = sys.stdout
    if stream is None or "stdout" in _failed:
        _failed.setdefault("stdout", "it is closed")
        return
    try:
        stream.buffer.write(data)
        stream.flush()
    except BrokenPipeError:
        _give_up(stream, "stdout", "")
    except OSError as error:
        _give_up(stream, "stdout", reason(error))
    except (ValueError, AttributeError):  # closed, or a program's own that takes no bytes
        _failed["stdout"] = "it takes no bytes"


def receive(most: int) -> bytes:
    """Return what stdin holds, to its end, but no more than so many bytes and one.

    Raises:
        PidSamplerError: stdin is a terminal, closed, or cannot be read.
    """
    if sys.stdin is None or sys.stdin.closed or on_terminal(sys.stdin):
        raise FileError("the input is -, but stdin is a terminal or closed: pipe a picture into it, as 'cat a.jpg |'")
    try:
        return sys.stdin.buffer.read(most + 1)
    except (OSError, AttributeError) as error:
        raise FileError(f"cannot read stdin: {error}") from error


def tell(*lines: str) -> None:
    """Print lines on stderr, likewise."""
    _write("stderr", lines, flush=True)


def on_terminal(stream: Any) -> bool:
    """Return whether a stream is there, open, and a terminal."""
    return stream is not None and not stream.closed and stream.isatty()


def begin() -> None:
    """Forget earlier failures, and open what is closed of the streams, so that no file takes their numbers."""
    _failed.clear()
    _lines["to"] = "stdout"
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def close() -> bool:
    """Write out what is still buffered; whether all that was said went out."""
    _write("stdout", (), flush=True)
    why = _failed.get("stdout")
    if why:
        tell(f"pidsampler: error: cannot write to stdout: {why}")
    return not _failed


def _write(name: str, lines: tuple[str, ...], *, flush: bool) -> None:
    stream = getattr(sys, name)
    if stream is None or name in _failed:  # None where it was closed before we began: nobody listens
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        for line in lines:
            stream.write(printable(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")
        if flush:
            stream.flush()
    except BrokenPipeError:  # its reader, such as head, has enough
        _give_up(stream, name, "")
    except OSError as error:
        _give_up(stream, name, reason(error))
    except ValueError:  # closed by the program that called us: nobody listens
        return


def _give_up(stream: Any, name: str, why: str) -> None:
    """Let what is left in a stream's buffer go nowhere, or its end would raise once more."""
    _failed[name] = why
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
