"""A sampler in one line of text: "NAME(options)@LIST(options):STEPS", such as "dpmpp-2m(order=2)@karras(rho=7):12".

After NAME(options) any number of wrappers may follow, ".WRAPPER(options)" each: "heun.detail(amount=0.2)@karras:8".

The first option may stand without its name, as in "heun@karras(7):12"; in `options` its name is "" then.

"FILE.py:NAME" in place of NAME is a sampler of a user's own file, and "@FILE" alone is a file of data. No other module
reads these forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

from ..errors import ConfigError
from ..plugins import split_file
from ..values import field, instance, items, pairs, shown, whole, word

Value = int | float | str | tuple[float, ...]

# What stands before a name to say whose it is -> that project.
PROJECTS = {
    "comfy": "ComfyUI",
    "k-diffusion": "k-diffusion",
    "res4lyf": "RES4LYF",
    "a1111": "A1111 and Forge",
    "diffusers": "diffusers",
    "invokeai": "InvokeAI",
    "sdcpp": "stable-diffusion.cpp",
}
_CALL = rf"(?P<{{0}}>(({'|'.join(PROJECTS)}):)?[^@():{{1}}]+)(\((?P<{{0}}_options>[^()]*)\))?"
_FILE_NAME = re.compile(r"[^@()]+\.(py|json|txt)")
_WRAPPER = re.compile(rf"\.{_CALL.format('name', '.')}")
_WRAPPERS = r"(?P<wrappers>(\.[^@():.]+(\([^()]*\))?)*)"
_SPEC = re.compile(rf"{_CALL.format('name', '.')}{_WRAPPERS}(@{_CALL.format('list', '')})?(:(?P<steps>.*))?")


def _held(options: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    return tuple((word("option", name), _fixed(value)) for name, value in pairs("options", options))


def _fixed(value: Value) -> Value:
    """A value that can be hashed: a list or array as a tuple."""
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    return items("option", value, words="numbers") if listed else value


@attrs.frozen
class Call:
    """A name with options, such as a wrapper of a spec; `str` puts them together again.

    Args:
        name: Name of a function.
        options: Its options.
    """

    name: str = field(word)
    _options: tuple[tuple[str, Value], ...] = attrs.field(converter=_held, factory=dict, eq=frozenset)

    @property
    def options(self) -> dict[str, Value]:
        """The options, in the order given."""
        return dict(self._options)

    def __str__(self) -> str:
        return self.name + _bracketed(self.options)


def _calls(wrappers: Iterable[Call]) -> tuple[Call, ...]:
    found = items("wrappers", wrappers, words="Calls")
    return tuple(instance("wrapper", wrapper, kind=Call, words="a Call") for wrapper in found)


@attrs.frozen
class Spec:
    """The parts of a spec; `str` puts them together again, numbers in their shortest form.

    Args:
        name: Name of a scheduler, or of an object in `file`; "PROJECT:NAME" of `PROJECTS` is what it means there.
        options: Options of the scheduler.
        wrappers: Wrappers of its table, in the order in which they are applied.
        list: Name of a timestep list, or None for times from elsewhere.
        list_options: The list's options.
        steps: Number of steps, or None for the list's own.
        file: Python file of the user's that holds `name`, or the list where that is empty; None for registered ones.
    """

    name: str = field(word)
    _options: tuple[tuple[str, Value], ...] = attrs.field(converter=_held, factory=dict, eq=frozenset)
    wrappers: tuple[Call, ...] = attrs.field(converter=_calls, default=(), kw_only=True)
    list: str | None = field(word, default=None, optional=True, kw_only=True)
    _list_options: tuple[tuple[str, Value], ...] = attrs.field(
        converter=_held, factory=dict, eq=frozenset, kw_only=True
    )
    steps: int | None = field(whole, low=0, default=None, optional=True, kw_only=True)
    file: str | None = field(word, default=None, optional=True, kw_only=True)

    @property
    def options(self) -> dict[str, Value]:
        """The scheduler's options, in the order given."""
        return dict(self._options)

    @property
    def list_options(self) -> dict[str, Value]:
        """The list's options, in the order given."""
        return dict(self._list_options)

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Take a spec apart; spaces don't matter, but in a file's name.

        Raises:
            PidSamplerError: The text is no spec, an option is given twice, or STEPS is no whole number.
        """
        file, rest = split_file(text) or (None, text)
        if _FILE_NAME.fullmatch(rest):
            raise ConfigError(f"{shown(text)} is a file: a sampler of one is FILE.py:NAME, or @FILE.json of a table")
        return cls._read(text, rest, file, "NAME(option=value).WRAPPER(option=value)@LIST(option=value):STEPS")

    @classmethod
    def parse_list(cls, text: str) -> Spec:
        """Take the part after @ of a spec apart, such as "karras(rho=5):12", or "FILE.py:LIST:12"; `name` stays empty.

        Raises:
            PidSamplerError: As `parse`.
        """
        file, rest = split_file(text) or (None, text)
        if _FILE_NAME.fullmatch(rest):
            raise ConfigError(f"{shown(text)} is a file: timesteps of one are FILE.py:NAME, or @FILE of times")
        return attrs.evolve(cls._read(text, f"_@{rest}", file, "LIST(option=value):STEPS"), name="")

    @classmethod
    def _read(cls, text: str, rest: str, file: str | None, form: str) -> Spec:
        found = _SPEC.fullmatch(re.sub(r"\s", "", rest))
        if found is None:
            raise ConfigError(f"cannot read {shown(text)}: expected {form}")
        steps = found["steps"]
        if steps is not None and not (steps.isdecimal() and len(steps) < 19):
            raise ConfigError(f"{shown(steps)} in {shown(text)} is not a number of steps, such as 8")
        options, list_options = (_options(text, found[key]) for key in ("name_options", "list_options"))
        wrappers = [Call(w["name"], _options(text, w["name_options"])) for w in _WRAPPER.finditer(found["wrappers"])]
        made = cls(found["name"], options, wrappers=wrappers, list=found["list"], list_options=list_options, file=file)
        return made if steps is None else attrs.evolve(made, steps=int(steps))

    def __str__(self) -> str:
        text = ("" if self.file is None else f"{self.file}:") + self.name + _bracketed(self.options)
        text += "".join(f".{wrapper}" for wrapper in self.wrappers)
        if self.list is not None:
            text += f"@{self.list}{_bracketed(self.list_options)}"
        return text if self.steps is None else f"{text}:{self.steps}"


def reference(text: str) -> str | None:
    """Return FILE of the text "@FILE", or None for any other text."""
    return text[1:] if text.startswith("@") else None


def file_of(text: object) -> str | None:
    """Return FILE of the texts "@FILE" and "FILE.py:NAME" of a sampler or timesteps, or None for anything else."""
    if not isinstance(text, str):
        return None
    path = reference(text)
    return path if path is not None else (split_file(text) or (None,))[0]


def names_file(text: object) -> bool:
    """Return whether a sampler or timesteps were given as a text that `file_of` finds a file in."""
    return file_of(text) is not None


def parse_times(text: str) -> list[float] | Spec:
    """Return the times of the text "T,T,...", or a `Spec.parse_list` of any other.

    Raises:
        PidSamplerError: A time is no number, or as `Spec.parse_list`.
    """
    times = []
    parts = [text] if "(" in text else text.split(",")
    for part in parts:
        try:
            times.append(float(part))
        except ValueError as error:
            if len(parts) == 1:
                return Spec.parse_list(text)
            raise ConfigError(f"timestep {shown(part)} is not a number: pass a list such as 0.999,0.634,0") from error
    return times


def _options(spec: str, text: str | None) -> dict[str, Value]:
    """Read "a=1, b=0.5/0, c='x'": a Python number, numbers with a slash between, true or false, or else a word."""
    options: dict[str, Value] = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.partition("=")
        if not equals and part:
            key, value = "", part
            if options:
                raise ConfigError(
                    f"cannot read {shown(part)} in {shown(spec)}: only the first option may stand without its name, "
                    "expected option=value"
                )
        elif not equals or not key.isidentifier() or key in options:
            raise ConfigError(f"cannot read {shown(part)} in {shown(spec)}: expected option=value, each once")
        options[key] = _value(value)
    return options


def _value(text: str) -> Value:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    try:
        return tuple(map(float, text.split("/")))
    except ValueError:
        pass
    return text.strip("'\"")


def _bracketed(options: dict[str, Value]) -> str:
    if not options:
        return ""
    return "(" + ",".join((f"{key}=" if key else "") + _shortest(value) for key, value in options.items()) + ")"


def _shortest(value: Value) -> str:
    """7.0 as 7, 0.50 as 0.5, a list of numbers as 1/0.5."""
    if isinstance(value, tuple):
        return "/".join(map(_shortest, value))
    if isinstance(value, float):
        return repr(float(value)).removesuffix(".0")
    return str(value)
