"""The examples of the pages in docs/."""

import re

from paths import REPOSITORY


def python_blocks(page: str) -> list[str]:
    """The Python examples of a page, in order."""
    text = (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)
