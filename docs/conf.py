"""Sphinx' settings for docs/build.py.

Sphinx with MyST, because both are kept up, install from PyPI alone, describe attrs classes as Python itself does, and
make pages whose search works from a folder without a server. Furo has a dark form and brings its own files.
"""

from __future__ import annotations

import re
from typing import Any

import reference

import pidsampler

project = "pidsampler"
author = "the pidsampler authors"
version = release = pidsampler.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = []

html_theme = "furo"
html_title = f"pidsampler {version}"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
highlight_language = "text"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
myst_url_schemes = ["http", "https", "mailto"]

nb_execution_mode = "force"  # the notebooks in the repository have no outputs
nb_execution_raise_on_error = True
nb_execution_timeout = 60
nb_merge_streams = True

add_module_names = False
python_maximum_signature_line_length = 80
autodoc_mock_imports = ["torch", "diffusers"]  # which the base class of `TableScheduler` is of
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "alphabetical"
autodoc_inherit_docstrings = True


NAMES = {path: entry.path for entry in reference.entries() for path in reference.short(entry)}


def as_rst(docstring: str) -> str:
    """Return a docstring, whose code is as in Markdown, as reStructuredText for the sections that napoleon reads."""
    parts = re.split(r"(?<=\n\n)((?:    .*\n)(?:    .*\n|\n)*)", f"{docstring}\n")
    parts[::2] = map(_prose, parts[::2])
    parts[1::2] = [f"::\n\n{code}\n" for code in parts[1::2]]
    return "".join(parts)


def _prose(text: str) -> str:
    parts = re.split(r"`+([^`]+)`+", text)
    parts[::2] = [re.sub(r"(?<!\w)\*(?=\S)|[|\\]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [f":py:obj:`{p} <{NAMES[p]}>`" if p in NAMES else f"``{p}``" for p in parts[1::2]]
    return "".join(parts)


def _described(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Make a docstring reStructuredText, with what is said of arguments by the classes that it inherits from."""
    docstring = "\n".join(lines)
    if what in ("class", "function", "method") and ".interop.diffusers." not in name:  # whose signatures are mocks
        docstring = reference.with_inherited(docstring, thing)
    lines[:] = as_rst(docstring).split("\n")


def setup(app: Any) -> dict[str, Any]:
    """Register what docstrings go through before napoleon reads them."""
    app.connect("autodoc-process-docstring", _described, priority=100)
    return {"parallel_read_safe": True}
