"""A table for a notebook: its rows in HTML, and a drawing in SVG that needs no package and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from ..values import items, mapping, word

_MOST_ROWS = 50  # that are shown of each column
_MOST_POINTS = 400  # of a line
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 150, 50, 20
_COLORS = ("#3b7dd8", "#d8663b", "#2f9e64", "#a05fc2", "#b0892b", "#7f7f7f")


def page(title: str, columns: Mapping[str, Sequence[str]], *, lines: Mapping[str, Sequence[float]]) -> str:
    """Return HTML of columns of text below a drawing of numbers.

    Args:
        title: What is shown, in one line.
        columns: Cells of each column by its name, all of one length.
        lines: Numbers by name, drawn over their index: the first line in a picture of its own, the others in a second.
    """
    columns = mapping("columns", columns, words="texts by name")
    first, *others = mapping("lines", lines, words="numbers by name").items()
    cells = [[name, *map(str, items("columns", column, words="texts"))] for name, column in columns.items()]
    head, *rows = zip(*cells, strict=True)
    more = f"<p>{len(rows) - _MOST_ROWS} more rows</p>" if len(rows) > _MOST_ROWS else ""
    body = "".join(_row(row, "td") for row in rows[:_MOST_ROWS])
    drawn = _drawing([first]) + (_drawing(others) if others else "")
    return (
        f"<div><p><code>{escape(word('title', title))}</code></p>{drawn}"
        f"<table><thead>{_row(head, 'th')}</thead><tbody>{body}</tbody></table>{more}</div>"
    )


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _drawing(lines: Sequence[tuple[str, Sequence[float]]]) -> str:
    low = min(0.0, *(min(values) for _, values in lines))
    high = max(0.0, *(max(values) for _, values in lines))
    span, most = high - low or 1.0, max(max(len(values) for _, values in lines) - 1, 1)

    def at(i: int, value: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT - 8) * i / most:.1f},{_TOP + _HEIGHT * (high - value) / span:.1f}"

    parts, x = [], _LEFT
    for k, (name, values) in enumerate(lines):
        color, step = _COLORS[k % len(_COLORS)], -(-len(values) // _MOST_POINTS)
        points = " ".join(at(i, value) for i, value in enumerate(values) if i % step == 0 or i == len(values) - 1)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{points}"/>')
        parts.append(f'<text x="{x}" y="13" fill="{color}">{escape(name)}</text>')
        x += 8 * len(name) + 16
    for value in (low, high):
        y = at(0, value).partition(",")[2]
        parts.append(f'<text x="{_LEFT - 4}" y="{float(y) + 4:.1f}" text-anchor="end" fill="gray">{value:.4g}</text>')
    zero = at(0, 0.0).partition(",")[2]
    parts.append(f'<path d="M{_LEFT} {zero}H{_WIDTH - 8}" stroke="gray" stroke-width="0.5"/>')
    height = _HEIGHT + _TOP + 10
    box = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" style="max-width: 100%; height: auto"'
    box += ' font-size="12" font-family="sans-serif"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{"".join(parts)}</svg>'
