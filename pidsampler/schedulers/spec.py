"""A sampler in one line of text: "NAME(options)@LIST(options):STEPS", such as "dpmpp-2m(order=2)@karras(rho=7):12"."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import ConfigError

Value = int | float | str

_CALL = r"(?P<{0}>[^@():]+)(\((?P<{0}_options>[^()]*)\))?"
_SPEC = re.compile(rf"{_CALL.format('name')}(@{_CALL.format('list')}(:(?P<steps>.*))?)?")


@dataclass(frozen=True)
class Spec:
    """The parts of a spec; `str` puts them together again, numbers in their shortest form.

    Args:
        name: Of a scheduler.
        options: Its options.
        list: Name of a timestep list, or None for times from elsewhere.
        list_options: The list's options.
        steps: How many, or None for the list's own number.
    """

    name: str
    options: dict[str, Value] = field(default_factory=dict)
    list: str | None = None
    list_options: dict[str, Value] = field(default_factory=dict)
    steps: int | None = None

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Take a spec apart; spaces don't matter.

        Raises:
            PidSamplerError: It has another form, an option is given twice, or STEPS is no whole number.
        """
        found = _SPEC.fullmatch(re.sub(r"\s", "", text))
        if found is None:
            raise ConfigError(f"cannot read {text!r}: expected NAME(option=value)@LIST(option=value):STEPS")
        steps = found["steps"]
        if steps is not None and not steps.isdecimal():
            raise ConfigError(f"{steps!r} in {text!r} is not a number of steps")
        options, list_options = (_options(text, found[key]) for key in ("name_options", "list_options"))
        return cls(found["name"], options, found["list"], list_options, None if steps is None else int(steps))

    def __str__(self) -> str:
        text = self.name + _bracketed(self.options)
        if self.list is not None:
            text += f"@{self.list}{_bracketed(self.list_options)}"
        return text if self.steps is None else f"{text}:{self.steps}"


def _options(spec: str, text: str | None) -> dict[str, Value]:
    """Read "a=1, b='x'"; a value is a Python number, or else a word."""
    options: dict[str, Value] = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier() or key in options:
            raise ConfigError(f"cannot read {part!r} in {spec!r}: expected option=value, each once")
        options[key] = _value(value)
    return options


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip("'\"")


def _bracketed(options: dict[str, Value]) -> str:
    if not options:
        return ""
    return "(" + ",".join(f"{key}={_shortest(value)}" for key, value in options.items()) + ")"


def _shortest(value: Value) -> str:
    """7.0 as 7, 0.50 as 0.5."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value)
