"""Pages of the site that are made of the code: the API, the command line, the formats of files."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import textwrap
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import reference

from pidsampler.cli.main import build_parser

SCHEMAS = Path(__file__).parent / "schemas"


def write(folder: Path) -> None:
    """Write all pages into a folder."""
    pages = {**_api(), **_commands(), **_formats()}
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _api() -> dict[str, str]:
    pages = {}
    for module, listed in groupby(sorted(reference.entries(), key=lambda e: e.page), key=lambda e: e.page):
        title = _heading(module.removeprefix("pidsampler."))
        text = f"{title}.. automodule:: {module}\n   :no-members:\n   :no-index:\n\n"
        pages[f"api/{module}.rst"] = text + "\n".join(map(_entry, listed))
    for name in reference.SPLIT:  # what their module says of all that their pages list
        module = f"pidsampler.{name}"
        shared = f".. automodule:: {module}\n   :no-members:\n   :no-index:\n"
        pages.setdefault(f"api/{module}.rst", _heading(name) + shared)
    pages["api/pidsampler.interop.diffusers.rst"] = _heading("interop.diffusers") + _DIFFUSERS
    return {"api.rst": _heading("API") + _INTRODUCTION + _toctree(pages), **pages}


# Sphinx reads it in place of PyTorch and diffusers, which the site is built without.
_DIFFUSERS = """.. automodule:: pidsampler.interop.diffusers
   :no-members:
   :no-index:

.. autoclass:: pidsampler.interop.diffusers.scheduler.TableScheduler
   :members:
"""

_INTRODUCTION = """The public names, a page for each module that holds some. Each page is made of the docstrings.
A name that the package has too, such as ``pidsampler.Row``, is described there and not once more.

"""


def _heading(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n\n"


def _toctree(pages: Iterable[str]) -> str:
    return ".. toctree::\n   :maxdepth: 1\n\n" + "".join(f"   {page.removesuffix('.rst')}\n" for page in pages)


def _entry(entry: reference.Entry) -> str:
    if entry.is_value:
        words = reference.value_docstring(entry).replace("\n", "\n   ").replace("`", "``")
        return f".. py:data:: {entry.path}\n\n   {words}\n"
    if not inspect.isclass(entry.thing):
        return f".. autofunction:: {entry.path}\n"
    names = [name for name, _ in reference.members(entry.thing)]
    text = f".. autoclass:: {entry.path}\n" + ("   :special-members: __call__\n" if "__call__" in names else "")
    if reference.described_bases(entry.thing):  # whose members are not said once more
        text += "   :show-inheritance:\n"
    return text + (f"   :members: {', '.join(names)}\n" if names else "   :no-members:\n")


def _commands() -> dict[str, str]:
    (commands,) = (a for a in build_parser().actions() if isinstance(a, argparse._SubParsersAction))
    words = {action.dest: action.help for action in commands._choices_actions}
    pages = {"commands.md": "# Command line\n\n| command | what it does |\n| --- | --- |\n"}
    for name, parser in commands.choices.items():
        pages["commands.md"] += f"| [{name}](commands/{name}.md) | {_plain(words[name])} |\n"
        pages[f"commands/{name}.md"] = _command(name, parser)
    listed = "\n".join(f"commands/{name}" for name in commands.choices)
    codes = (inspect.getmodule(build_parser).__doc__ or "").partition("\n\n")[2].strip()
    pages["commands.md"] += f"\n{codes}\n\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"
    return pages


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    words = parser.description or ""
    text = f"# pidsampler {name}\n\n{_plain(words[:1].upper() + words[1:])}.\n\n"
    text += f"```text\n{_usage(parser)}\n```\n"
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        if actions:
            text += f"\n## {(group.title or '').capitalize()}\n\n" + "\n".join(map(_argument, actions))
    return text + f"\n## Examples\n\n```text\n{inspect.cleandoc((parser.epilog or '').partition(':')[2])}\n```\n"


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return the usage in lines that a phone shows whole, broken between options only."""
    words = " ".join(parser.format_usage().removeprefix("usage: ").split())
    together = re.sub(r"\[(?:[^\[\]]|\[[^\]]*\])*\]|-\w+ [A-Z]+", lambda part: part[0].replace(" ", "\0"), words)
    lines = textwrap.wrap(together, 42, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def _argument(action: argparse.Action) -> str:
    formatter = argparse.HelpFormatter("pidsampler")
    shown = formatter._format_action_invocation(action)
    return f"`{shown}`\n: {_plain(formatter._expand_help(action) if action.help else '')}\n"


def _plain(text: str) -> str:
    """Return a text as it is to be read, where Markdown or MyST would take a part of it for their own."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|$#~" else c for c in text)


def _formats() -> dict[str, str]:
    pages = {"formats.md": "# Formats of files\n\n"}
    listed = []
    for path in sorted(SCHEMAS.glob("*.schema.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        name = path.name.removesuffix(".schema.json")
        pages[f"formats/{name}.md"] = _format(schema, path.read_text(encoding="utf-8"))
        pages["formats.md"] += f"- [{schema['title']}](formats/{name}.md): {schema['description']}\n"
        listed.append(f"formats/{name}")
    pages["formats.md"] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(listed) + "\n```\n"
    return pages


def _format(schema: dict[str, Any], text: str) -> str:
    page = f"# {schema['title']}\n\n{schema['description']}\n"
    for title, part in [("Keys", schema), *((f"{name}", d) for name, d in schema.get("$defs", {}).items())]:
        if "properties" not in part:
            continue
        page += f"\n## {title}\n\n| key | kind | needed | what it is |\n| --- | --- | --- | --- |\n"
        for key, value in part["properties"].items():
            needed = "yes" if key in part.get("required", ()) else ""
            page += f"| `{key}` | {_plain(_kind(value))} | {needed} | {_plain(value.get('description', ''))} |\n"
    return page + f"\n## JSON schema\n\n```json\n{text}```\n"


def _kind(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if "enum" in value:
        return ", ".join(map(json.dumps, value["enum"]))
    if "const" in value:
        return json.dumps(value["const"])
    if "oneOf" in value or "anyOf" in value:
        return " or ".join(map(_kind, value.get("oneOf") or value["anyOf"]))
    kinds = value.get("type", "anything")
    text = " or ".join(kinds) if isinstance(kinds, list) else kinds
    return f"{text} of {_kind(value['items'])}" if "items" in value else text
