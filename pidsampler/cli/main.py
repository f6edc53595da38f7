"""The command line: `pidsampler --help`.

Exit codes: 0 all done; 1 a file or a model failed, the others are done; 2 the command line is wrong, nothing was
done; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any, NoReturn

from ..errors import PidSamplerError
from ..version import __version__
from . import bench, doctor, export, inspect, models, schedulers, search, study, table, upscale
from .common import FAILED, INTERRUPTED, USAGE, UsageError, as_typed, fail

_COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "upscale": (upscale, "enlarge pictures, or decode latents"),
    "table": (table, "print a scheduler's table of coefficients"),
    "inspect": (inspect, "print the contract found in a model folder"),
    "export": (export, "make a model folder of a PiD checkpoint, or of random weights"),
    "study": (study, "compare samplers: a grid of settings, measured, with a report"),
    "search": (search, "find a good list of timesteps for a model, a scheduler and a number of calls"),
    "bench": (bench, "time the sampler's step in all its variants, and others beside it"),
    "doctor": (doctor, "say whether a GPU run would work here, and what to install if not"),
    "models": (models, "list the bundled models"),
    "schedulers": (schedulers, "list the schedulers"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = None
    try:
        arguments = build_parser().parse_args(argv)
        warnings.showwarning = partial(_show_warning, arguments)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except PidSamplerError as error:
        return fail(error, USAGE if isinstance(error, UsageError) else FAILED, arguments)
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except MemoryError:
        return fail("not enough memory")
    except BrokenPipeError:  # the reader of our output, such as head, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; what it parses holds the command's function as `run`."""
    parser = _Parser(prog="pidsampler", description="Custom samplers for PiD: a photo or latent in, a 4x photo out.")
    parser.add_argument("--version", action="version", version=f"pidsampler {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=module.run, command=command)
        module.add_arguments(command)
    return parser


class _Parser(argparse.ArgumentParser):
    def option_actions(self) -> list[argparse.Action]:
        return [action for action in self._actions if action.option_strings and action.dest != "help"]

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"pidsampler: error: {message} (see {self.prog} --help)\n")


def _show_warning(arguments: argparse.Namespace, message: Warning | str, *details: Any, **more: Any) -> None:
    print(f"pidsampler: warning: {as_typed(str(message), arguments)}", file=sys.stderr)
