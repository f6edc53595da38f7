"""Draws the pictures of docs/drawings, which the page on how it works shows: `python docs/drawings.py`.

Each is an SVG of 360 units' width, so that its text is as large as the page's on a phone. It has a ground of its own,
and follows the system's light or dark form.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

import pidsampler as ps

FOLDER = Path(__file__).resolve().parent / "drawings"
STYLE = """
  .ground { fill: #ffffff; stroke: #d0d7de } text { font: 12px sans-serif; fill: #1f2328; text-anchor: middle }
  .left { text-anchor: start } .faint { fill: #59636e } .box { fill: #eef4fb; stroke: #3b6ea5 }
  .warm { fill: #fdf0e3; stroke: #b35c00 } .line { stroke: #59636e; fill: none; stroke-width: 1.5 }
  .blue { stroke: #3b6ea5 } .orange { stroke: #b35c00 } .dot { fill: #1f2328; stroke: none } .head { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #15191f; stroke: #3d444d } text { fill: #e6edf3 } .faint { fill: #9198a1 }
    .box { fill: #16263a; stroke: #6ea8e0 } .warm { fill: #33220f; stroke: #f0a04b } .line { stroke: #9198a1 }
    .blue { stroke: #6ea8e0 } .orange { stroke: #f0a04b } .dot { fill: #e6edf3 } .head { fill: #9198a1 }
  }
"""
HEAD = '<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto">'
HEAD += '<path d="M0,0.5 L7,4 L0,7.5 z" class="head"/></marker>'


def main() -> None:
    """Write all drawings."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in drawings().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def drawings() -> dict[str, str]:
    """Return each drawing's text by its file's name."""
    return {"time.svg": _time(), "row.svg": _row(), "noise.svg": _noise(), "denoiser.svg": _denoiser()}


def _svg(height: int, says: str, parts: Iterable[str]) -> str:
    lines, size = "\n".join(parts), f'width="540" height="{height * 1.5:g}" viewBox="0 0 360 {height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        f"<title>{says}</title>\n<style>{STYLE}</style>\n<defs>{HEAD}</defs>\n"
        f'<rect class="ground" x="0.5" y="0.5" width="359" height="{height - 1}" rx="6"/>\n{lines}\n</svg>\n'
    )


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{_class(kind)}>{words}</text>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _box(x: float, y: float, width: float, words: str, *, kind: str = "box", height: float = 28) -> str:
    box = f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4"/>'
    return box + _text(x + width / 2, y + height / 2 + 4, words)


def _path(points: str, *, kind: str = "", arrow: bool = True) -> str:
    end = ' marker-end="url(#head)"' if arrow else ""
    return f'<path class="{f"line {kind}".strip()}" d="{points}"{end}/>'


def _squares(values: np.ndarray, *, at: tuple[float, float], side: float) -> Iterable[str]:
    """Yield a grid of squares whose gray is each value of -1..1."""
    for (row, column), value in np.ndenumerate(values):
        gray = round(float(np.clip(value, -1, 1)) * 60 + 128)
        x, y = at[0] + column * side, at[1] + row * side
        color = f"#{gray:02x}{gray:02x}{gray:02x}"
        square = f'width="{side:g}" height="{side:g}" fill="{color}" shape-rendering="crispEdges"'
        yield f'<rect x="{x:g}" y="{y:g}" {square}/>'


def _picture() -> np.ndarray:
    """Return a sun above a hill, in -1..1."""
    y, x = np.mgrid[0:10, 0:10]
    picture = np.where((x - 7) ** 2 + (y - 2.5) ** 2 < 4, 1.0, 0.0)
    return np.where(y > 8 - 3 * np.exp(-(((x - 3) / 3) ** 2)), -1.0, picture)


def _draw(height: int, width: int) -> np.ndarray:
    """Return the first draw of seed 7, as a run begins with."""
    return ps.noise.normal(7, 0, (height, width)).astype(np.float64)


def _time() -> str:
    x0, eps = _picture(), _draw(10, 10)
    parts = [_text(180, 20, "x = (1 - t)*x0 + t*eps")]
    for i, t in enumerate((1.0, 0.75, 0.5, 0.25, 0.0)):
        sigma = "∞" if t == 1 else f"{t / (1 - t):.2g}"
        parts += _squares((1 - t) * x0 + t * eps, at=(12 + i * 69, 32), side=6)
        parts += [_text(42 + i * 69, 108, f"t = {t:g}"), _text(42 + i * 69, 124, f"sigma {sigma}", "faint")]
    parts.append(_text(12, 150, "Lists of times, from noise (left) to the image (right):", "left faint"))
    lists = {"uniform:8": ps.timesteps.uniform(8), "karras:8": ps.timesteps.karras(8), "pid:4": ps.timesteps.pid(4)}
    for row, (name, times) in enumerate(lists.items()):
        y = 174 + 26 * row
        parts += [_text(12, y + 4, name, "left"), _path(f"M84,{y} H344", arrow=False)]
        parts += [f'<circle class="dot" cx="{84 + 260 * (1 - t):.1f}" cy="{y}" r="3.5"/>' for t in times]
    return _svg(246, "Images between noise and picture, and three lists of times", parts)


def _row() -> str:
    parts = [
        _box(12, 40, 62, "x, t"),
        _path("M74,54 H104"),
        _box(106, 40, 76, "network", kind="warm"),
        _path("M182,54 H212"),
        _text(197, 46, "m"),
        _box(214, 40, 134, "x0 = p*x + q*m"),
        _text(180, 24, "one row of the table = one call of the network"),
        _path("M281,68 V112"),
        _path("M43,68 V112"),
        _box(12, 114, 336, "new x = a*x + b*x0 + sum h*saved + sum c*noise", height=32),
        _path("M110,146 V180"),
        _box(50, 182, 120, "next row"),
        _path("M240,146 V180", kind="blue"),
        _box(190, 182, 158, "saved, for later rows"),
        _path("M230,182 V148", kind="blue"),
        _text(180, 234, "The scheduler makes the numbers p, q, a, b, h and c", "faint"),
        _text(180, 250, "before the run. It never sees x.", "faint"),
    ]
    return _svg(264, "How a row of a table makes the next x", parts)


def _noise() -> str:
    noise = _draw(8, 12)
    parts = [_text(180, 22, "value = f(seed, draw, position)")]
    parts += [*_squares(noise, at=(14, 48), side=13), _text(92, 40, "a whole picture", "faint")]
    parts.append('<rect class="line orange" x="92" y="74" width="78" height="52"/>')
    parts += [_path("M174,100 H216"), _text(277, 40, "a tile of it, made alone", "faint")]
    parts += [*_squares(noise[2:6, 6:12], at=(222, 60), side=18)]
    parts.append('<rect class="line orange" x="222" y="60" width="108" height="72"/>')
    parts.append(_text(180, 172, "The same position has the same value, in a tile,", "faint"))
    parts.append(_text(180, 188, "in a batch, and in whatever order they are made.", "faint"))
    return _svg(202, "A tile has the noise that the whole picture has there", parts)


def _denoiser() -> str:
    parts = [
        _path("M60,60 H318", arrow=False),
        *(f'<circle class="dot" cx="{x}" cy="60" r="5"/>' for x in (60, 210, 318)),
        _text(60, 42, "x0"),
        _text(60, 82, "t = 0", "faint"),
        _text(210, 42, "x"),
        _text(210, 82, "t", "faint"),
        _text(318, 42, "eps"),
        _text(318, 82, "t = 1", "faint"),
        _path("M60,104 H314", kind="orange"),
        _text(187, 122, "velocity v = eps - x0"),
        _path("M210,144 H66", kind="blue"),
        _text(138, 162, "x0 = x - t*v"),
        _path("M210,144 H312", kind="blue"),
        _text(263, 162, "eps = x + (1 - t)*v"),
        _text(180, 192, "A network tells v, x0 or eps. With x and t, one of them", "faint"),
        _text(180, 208, "gives the others, so each network fits each table.", "faint"),
    ]
    return _svg(222, "The line from x0 to eps, with x on it, and what a network may predict", parts)


if __name__ == "__main__":
    main()
