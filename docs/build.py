"""Builds the site in build/site of the pages that docs/nav.toml names: `python docs/build.py`, with the extra docs.

The Markdown is written for GitHub too. So a copy is made below build/, in which links to the README lead to the site's
first page, and the files that pages link to lie beside them. Notebooks are run. Every
warning is an error, and so is a cell that fails.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from os.path import normpath
from pathlib import Path

import generate
from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parents[1]
SOURCE, SITE = ROOT / "build" / "pages", ROOT / "build" / "site"
TO_FOLDER = re.compile(r"\[([^\[\]]+)\]\(([^)\s\"#:]+)\)")
LINK = re.compile(r"(\]\(|src=\")([^)\s\"#:]+)(?=[)#\"])")  # of Markdown, or of a picture in HTML; no address


def main() -> int:
    """Build the site and return the exit code, 0 without a warning."""
    groups = {title: group["pages"] for title, group in tomllib.loads((ROOT / "docs/nav.toml").read_text()).items()}
    for folder in (SOURCE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    pages = {page for listed in groups.values() for page in listed if page.endswith((".md", ".ipynb"))}
    left_out = {path.relative_to(ROOT).as_posix() for path in _pages()} - pages
    if left_out:
        sys.exit(f"docs/nav.toml does not name {', '.join(sorted(left_out))}: put each into a group")
    for page in pages:
        if not (ROOT / page).is_file():
            sys.exit(f"docs/nav.toml names {page}, which is not there")
        _copy(page, page, pages)
    _copy("README.md", "index.md", pages)
    with (SOURCE / "index.md").open("a", encoding="utf-8") as index:
        index.writelines(_tree(title, listed) for title, listed in groups.items())
    generate.write(SOURCE / "reference")
    folders = ["-d", ROOT / "build" / "doctrees", "-c", ROOT / "docs", SOURCE, SITE]
    return build_main(["-W", "--keep-going", "-q", "-j", "auto", *map(str, folders)])


def _pages() -> list[Path]:
    return [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("gallery/*.ipynb")]


def _tree(title: str, pages: list[str]) -> str:
    listed = "\n".join(page.removesuffix(".md").removesuffix(".ipynb") for page in pages)
    return f"\n```{{toctree}}\n:caption: {title}\n:hidden:\n:maxdepth: 1\n\n{listed}\n```\n"


def _copy(page: str, target: str, pages: set[str]) -> None:
    """Copy a page and the files that it links to. Of a link to a folder, which no page shows, the text stays."""
    folder = Path(page).parent

    def linked(found: re.Match[str]) -> str:
        place = normpath(folder / found[2])
        if place == "README.md":
            return f"{found[1]}{'../' * len(folder.parts)}index.md"
        if place in pages or place.startswith("reference/"):
            return found[0]
        if (ROOT / place).is_file():
            (SOURCE / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / place, SOURCE / place)
        return found[0]

    def text_of(found: re.Match[str]) -> str:
        return found[1] if (ROOT / folder / found[2]).is_dir() else found[0]

    text = (ROOT / page).read_text(encoding="utf-8")
    copied = _outside_code(text, lambda part: LINK.sub(linked, TO_FOLDER.sub(text_of, part)))
    (SOURCE / target).parent.mkdir(parents=True, exist_ok=True)
    (SOURCE / target).write_text(copied, encoding="utf-8")


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = map(change, parts[::2])
    return "".join(parts)


if __name__ == "__main__":
    sys.exit(main())
