"""What other projects call samplers and timestep lists: the table `names.txt`, and how a name is found in it.

A name is looked for as it is, then without case, spaces, "_" and "-" (and with "+" as p), then as a sampler's name with
a list's behind it, such as "DPM++ 2M Karras". A bare name that is ours keeps our meaning; "comfy:NAME" is ComfyUI's.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from functools import cache
from pathlib import Path

import attrs

from ..errors import ConfigError
from ..values import field, shown, word, words
from .spec import PROJECTS, Spec, Value

_PREFIXES = ("sample_", "k_")  # of k-diffusion's functions, and of A1111's aliases
_FLOW = {"use_flow_sigmas": "true", "prediction_type": "flow_prediction"}  # what diffusers is told of a flow


@attrs.frozen
class Name:
    """A row of the table.

    Args:
        name: As the projects write it; of a diffusers class with options, and "PROJECT:NAME" where only its meaning in
            that project is told.
        projects: Keys of `spec.PROJECTS`.
        here: The spec of the same thing here, "@LIST" for a list, or "~" and the nearest where it is not here.
        note: What differs, or why the nearest is not the same; "" for nothing.
    """

    name: str = field(word)
    projects: tuple[str, ...] = field(words)
    here: str = field(word, kw_only=True)
    note: str = field(word, default="", kw_only=True)

    @property
    def known(self) -> bool:
        """Whether it is here."""
        return not self.here.startswith("~")

    @property
    def is_list(self) -> bool:
        """Whether it is a timestep list, and not a sampler."""
        return self.here.lstrip("~").startswith("@")

    @property
    def spec(self) -> Spec:
        """What it is here, or nearest; a list's with an empty name."""
        text = self.here.lstrip("~")
        return Spec.parse_list(text[1:]) if self.is_list else Spec.parse(text)

    @property
    def unlike(self) -> ConfigError:
        """The error that says that it is not here, and what is nearest."""
        what = "timestep list" if self.is_list else "scheduler"
        where = ", ".join(PROJECTS[project] for project in self.projects)
        nearest = self.here.lstrip("~@")
        return ConfigError(f"{what} {self.name!r} of {where} is not here; the nearest is {nearest!r}. {self.note}")


@cache
def other_names() -> tuple[Name, ...]:
    """Return the table of other projects' names."""
    text = Path(__file__).with_name("names.txt").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line[:1] != "#"]
    return tuple(Name(row[0], tuple(row[1].split()), here=row[2], note="".join(row[3:])) for row in rows)


@cache
def names_known(*, lists: bool) -> tuple[str, ...]:
    """Return other projects' names of what is here too: of timestep lists, or of samplers."""
    return tuple(row.name for row in other_names() if row.is_list == lists and row.known)


def folded(name: str) -> str:
    """Return a name without what does not count in it: case, spaces, "_" and "-"; "+" is p."""
    return re.sub(r"[\s_-]", "", word("name", name)).casefold().replace("+", "p")


@cache
def _rows(lists: bool) -> dict[str, list[Name]]:
    """The rows by their folded names, without a diffusers class's options."""
    rows = defaultdict(list)
    for row in other_names():
        if row.is_list == lists:
            rows[folded(row.name.partition("(")[0])].append(row)
    return rows


def sampler_as_here(spec: Spec, *, own: Collection[str], lists: Collection[str]) -> Spec:
    """Return a spec with its sampler's name, and options that come with it, as they are here.

    Args:
        spec: A spec.
        own: Names of schedulers here.
        lists: Names of timestep lists here.

    Returns:
        The spec; as it is given, where its name is unknown.

    Raises:
        PidSamplerError: The name is known, and the sampler is not here; or its name and the spec each have a list.
    """
    project, _, name = spec.name.rpartition(":")
    name = name.rpartition("/")[2]  # RES4LYF shows its folders
    for start in ("", *_PREFIXES):
        if (found := _sampler(spec, name.removeprefix(start), project=project, own=own)) is not None:
            return found
    endings = {folded(key): key for key in (*_rows(lists=True), *lists)}
    if (whole := folded(name)) in endings:
        raise ConfigError(f"{name!r} is a timestep list: pass a scheduler with it, such as heun@{name}:8")
    for ending in sorted(filter(whole.endswith, endings), key=len, reverse=True):
        for start in ("", *map(folded, _PREFIXES)):
            short = whole.removesuffix(ending).removeprefix(start)
            if (found := _sampler(spec, short, project=project, own=own)) is not None:
                return _with_list(found, Spec("", list=endings[ending]), spec)
    return spec


def list_as_here(spec: Spec, *, own: Collection[str]) -> Spec:
    """Return a spec with its list's name, and options that come with it, as they are here.

    Args:
        spec: A spec that has a list.
        own: Names of timestep lists here.

    Raises:
        PidSamplerError: The name is known, and the list is not here.
    """
    project, _, name = word("list", spec.list).rpartition(":")
    if (ours := _own(name, own)) is not None and not project:
        return attrs.evolve(spec, list=ours)
    for row in _of(project, name, lists=True):
        if not row.known:
            raise row.unlike
        return attrs.evolve(spec, list=row.spec.list, list_options={**row.spec.list_options, **spec.list_options})
    return spec


def wrappers_as_here(spec: Spec, *, own: Collection[str]) -> Spec:
    """Return a spec with the names of its wrappers as they are here; unknown ones stay.

    Args:
        spec: A spec.
        own: Names of wrappers here.
    """
    return attrs.evolve(spec, wrappers=[attrs.evolve(w, name=_own(w.name, own) or w.name) for w in spec.wrappers])


def _own(name: str, own: Collection[str]) -> str | None:
    if name in own:
        return name
    return next((ours for ours in own if folded(ours) == folded(name)), None)


def _of(project: str, name: str, *, lists: bool) -> list[Name]:
    """The rows of a name, those first that are written alike; with a project, what it means there."""
    rows = _rows(lists)
    if project:
        found = rows.get(folded(f"{project}:{name}")) or rows.get(folded(name), [])
        return [row for row in found if project in row.projects]
    return sorted(rows.get(folded(name), []), key=lambda row: row.name != name)


def _sampler(spec: Spec, name: str, *, project: str, own: Collection[str]) -> Spec | None:
    """The spec of a name without a list in it, or None for an unknown one."""
    rows = _of(project, name, lists=False)
    ours = None if project else _own(name, own)
    if ours is not None and (ours == name or not any(row.name == name for row in rows)):
        return attrs.evolve(spec, name=ours)
    if not rows:
        return None
    row, options = rows[0], spec.options
    if "(" in row.name:
        row, options = _variant(rows, options)
    if not row.known:
        raise row.unlike
    here = row.spec
    found = attrs.evolve(spec, name=here.name, options={**here.options, **options})
    if row.projects == ("diffusers",):
        found = _without_flags(found)
    return found if here.list is None else _with_list(found, here, spec)


def _variant(rows: list[Name], options: dict[str, Value]) -> tuple[Name, dict[str, Value]]:
    """The row of a diffusers class whose options are those given, and what is left of them."""
    settings = [_settings(row) for row in rows]
    known = {key for each in settings for key in each}
    asked = settings[0] | {key: str(value).casefold() for key, value in options.items() if key in known}
    rest = {key: value for key, value in options.items() if key not in known}
    for row, own in zip(rows, settings, strict=True):
        if settings[0] | own == asked:
            return row, rest
    name = rows[0].name.partition("(")[0]
    given = ", ".join(f"{key}={shown(options[key])}" for key in options if key in known)
    raise ConfigError(f"{name} with {given} is not here; the nearest is {rows[0].here!r}")


def _settings(row: Name) -> dict[str, str]:
    return {key: str(value).casefold() for key, value in Spec.parse(row.name).options.items()}


def _without_flags(spec: Spec) -> Spec:
    """A spec whose diffusers options that choose a list have become that list."""
    options, chosen = dict(spec.options), []
    for key, value in spec.options.items():
        rows = _of("diffusers", f"{key}={value}", lists=True)
        text = str(value).casefold()
        if rows or _FLOW.get(key) == text or (key.startswith("use_") and text == "false"):
            del options[key]
            chosen += rows
    found = attrs.evolve(spec, options=options)
    for row in chosen:
        found = _with_list(found, row.spec, found)
    return found


def _with_list(found: Spec, named: Spec, given: Spec) -> Spec:
    """A spec with the list that its name brings."""
    if given.list is not None:
        lists = f"{named.list!r} and {given.list!r}"
        raise ConfigError(f"{shown(str(given))} names two timestep lists, {lists}: use one of them")
    return attrs.evolve(found, list=named.list, list_options=named.list_options)
