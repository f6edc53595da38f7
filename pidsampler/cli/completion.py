"""Completion in a shell: `eval "$(register-python-argcomplete pidsampler)"`, with the extra "completion".

It is imported only where a shell asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import optional


def complete(parser: Any) -> None:
    """Tell the shell that asks how the command line can go on, and end the process; `parser` is that of all commands.

    Raises:
        PidSamplerError: argcomplete is not installed.
    """
    argcomplete = optional("argcomplete", "argcomplete", extra="completion")
    (commands,) = (action.choices for action in parser.actions() if isinstance(action.choices, Mapping))
    for command, its in commands.items():
        for action in its.actions():
            names = _NAMES.get(f"{command} {action.dest}") or _NAMES.get(action.dest)
            if names is not None:
                action.completer = names
    argcomplete.autocomplete(parser)


def _schedulers(prefix: str, **others: Any) -> list[str]:
    from ..schedulers.registry import SCHEDULERS

    return SCHEDULERS.names()


def _lists(prefix: str, **others: Any) -> list[str]:
    from ..schedulers.registry import LISTS

    return LISTS.names()


def _specs(prefix: str, **others: Any) -> list[str]:
    """Names of schedulers; behind an @, those of lists."""
    name, at, _ = prefix.partition("@")
    return [f"{name}@{each}" for each in _lists(prefix)] if at and name else _schedulers(prefix)


def _models(prefix: str, **others: Any) -> list[str]:
    from ..onnx import bundled_models

    return list(bundled_models())


# What completes an argument of this name, or of this name in one command.
_NAMES: dict[str, Callable[..., list[str]]] = {
    "scheduler": _specs,
    "timesteps": _lists,
    "model": _models,
    "schedulers name": _schedulers,
    "timesteps name": _lists,
}
