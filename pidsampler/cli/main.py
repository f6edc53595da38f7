"""The command line: `pidsampler --help`.

Exit codes: 0 all done; 1 a file or a model failed, the others are done; 2 the command line is wrong, nothing was
done; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from ..errors import PidSamplerError, reason, unknown_name
from ..values import shown
from ..version import __version__
from . import (
    bench,
    compile,
    doctor,
    export,
    inspect,
    learn,
    models,
    output,
    schedulers,
    search,
    study,
    table,
    timesteps,
    upscale,
)
from .common import FAILED, INTERRUPTED, USAGE, UsageError, as_typed, fail
from .examples import EXAMPLES
from .output import say, tell

_DIGITS = 4000  # of a whole number: Python reads few more

_COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "upscale": (upscale, "enlarge pictures, or decode latents"),
    "table": (table, "print a scheduler's table of coefficients"),
    "inspect": (inspect, "print the contract found in a model folder, how a picture was made, or what compile made"),
    "export": (export, "make a model folder of a PiD checkpoint, or of random weights"),
    "compile": (compile, "put a model and a sampler into one ONNX file, for programs in any language"),
    "study": (study, "compare samplers: a grid of settings, measured, with a report"),
    "search": (search, "find a good list of timesteps for a model, a scheduler and a number of calls"),
    "learn": (learn, "fit a sampler to a model: nearest to its ODE's solution in a number of calls"),
    "bench": (bench, "time the sampler's step in all its variants, and others beside it"),
    "doctor": (doctor, "say whether an upscale would work here, on a GPU too, and what to install if not"),
    "models": (models, "list the bundled models"),
    "schedulers": (schedulers, "list the schedulers, or describe one"),
    "timesteps": (timesteps, "list the timestep lists, or describe one"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    output.begin()
    try:
        code = _run(argv)
    except SystemExit as ended:  # of the parser: help, the version, or a wrong command line
        raise SystemExit(ended.code if output.close() else ended.code or FAILED) from ended
    return code if output.close() else code or FAILED


def _run(argv: Sequence[str] | None) -> int:
    arguments = None
    try:
        if getattr(signal.getsignal(signal.SIGINT), "__module__", None) == __name__.partition(".")[0]:  # of our import
            signal.signal(signal.SIGINT, signal.default_int_handler)
        parser = build_parser()
        if "_ARGCOMPLETE" in os.environ:  # a shell asks how the command line can go on
            from .completion import complete

            complete(parser)
        arguments = parser.parse_args(argv)
        warnings.showwarning = partial(_show_warning, arguments)
        code: int = arguments.run(arguments)
    except PidSamplerError as error:
        return fail(error, USAGE if isinstance(error, UsageError) else FAILED, arguments)
    except KeyboardInterrupt as interrupt:
        return fail(": ".join(["interrupted", *map(str, interrupt.args)]), INTERRUPTED)
    except MemoryError:
        return fail("not enough memory")
    except OSError as error:  # of a name that no system call takes, or a disk that fails
        return fail(f"{error.filename}: {reason(error)}" if error.filename else reason(error))
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; what it parses holds the command's function as `run`."""
    parser = _Parser(prog="pidsampler", description="Custom samplers for PiD: a photo or latent in, a 4x photo out.")
    parser.add_argument("--version", action="version", version=f"pidsampler {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.type = str  # or an empty argument of a command would be one of the parser of commands
    for name, (module, text) in _COMMANDS.items():
        epilog = "\n  ".join(["examples:", *EXAMPLES[name]])
        shape = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=shape)
        command.set_defaults(run=module.run, command=command)
        module.add_arguments(command)
    return parser


def _given(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty: is a variable not set?")
    return text


def _number(kind: type, words: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        long = kind is int and len(text) > _DIGITS and text.lstrip("+-").isdecimal()
        raise argparse.ArgumentTypeError(f"{shown(text)} is {'too long for' if long else 'not'} {words}") from error


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("type", None, _given)
        self.register("type", Path, lambda text: Path(_given(text)))
        self.register("type", int, partial(_number, int, "a whole number"))
        self.register("type", float, partial(_number, float, "a number"))

    def actions(self) -> list[argparse.Action]:
        return list(self._actions)

    def option_actions(self) -> list[argparse.Action]:
        return [action for action in self._actions if action.option_strings and action.dest != "help"]

    def _print_message(self, message: str, file: Any = None) -> None:
        (say if file is sys.stdout else tell)(*message.removesuffix("\n").split("\n"))

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"argument COMMAND: invalid choice: '(.*?)' \(choose from", message):
            message = str(unknown_name("command", found[1], known=_COMMANDS))
        self.exit(USAGE, f"pidsampler: error: {message} (see {self.prog} --help)\n")


def _show_warning(arguments: argparse.Namespace, message: Warning | str, *details: Any, **more: Any) -> None:
    tell(f"pidsampler: warning: {as_typed(str(message), arguments)}")
