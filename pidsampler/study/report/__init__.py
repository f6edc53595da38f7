"""The report: one HTML file with a study's plots, its table and its pictures, that asks nothing of a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import IO, Any

from ... import moved
from ...errors import printable
from ...io.atomic import place
from .plots import plots_of

_SCRIPTS = ("report.js", "plots.js", "sections.js", "table.js", "viewer.js")


@moved.keywords()
def write_report(data: Mapping[str, Any], pictures: Mapping[str, bytes], *, path: Path) -> None:
    """Write the report as one HTML file, in one go: whatever happens, no half-written file, and the old one stays.

    Args:
        data: Report data, as `summary.summarise` makes it. Numbers are finite or None; any text is shown as text. The
            page gets its `plots` too.
        pictures: WebP files by the data-id that `data` names them by. The page decodes one when it shows it.
        path: The file; an existing one is replaced.

    Raises:
        PidSamplerError: The file cannot be written.
    """
    style = _text("report.css")
    script = "\n".join(_text(name) for name in _SCRIPTS)
    head, tail = _text("report.html").split("$pictures")
    start = Template(head).substitute(
        title=html.escape(printable(data["title"])),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        # In JSON "<" stands in strings only, where it may be written like this: no text can end the script element. In
        # ASCII no name controls the terminal of somebody who looks at the file there.
        data=json.dumps({**data, "plots": plots_of(data)}, allow_nan=False, separators=(",", ":"))
        .replace("<", "\\u003c")
        .replace("\x7f", "\\u007f"),
    )

    def write(file: IO[bytes]) -> None:
        file.write(start.encode("utf-8"))
        for name, picture in pictures.items():
            file.write(f'<script type="text/plain" id="picture-{html.escape(name)}">'.encode())
            file.write(base64.b64encode(picture))
            file.write(b"</script>\n")
        file.write(tail.encode("utf-8"))

    place(path, write, overwrite=True)


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return the source expression by which the page's security policy knows an inline element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}"
