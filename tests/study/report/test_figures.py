import copy
import itertools
import math
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pidsampler import PidSamplerError
from pidsampler.study.report import figures, plots, tables

NASTY = 'a_b|c & 50% #1 {x} $y$ ~^\\ <b> "q" Δσ'


def result(mean, half=0.1, noise=None):
    difference = None if noise is None else {"mean": 0.1, "low": 0.0, "high": 0.2, "p": 0.5, "noise": noise}
    ends = {"low": None, "high": None} if half is None else {"low": mean - half, "high": mean + half}
    return {"mean": mean, **ends, "n": 32, "difference": difference}


def study(schedulers=("flow-sde", "heun"), steps=(1, 2, 4), third=()):
    """The report's data of a grid of cells with made-up results."""
    cells, values = [], itertools.product(enumerate(schedulers), steps, third or [None])
    for number, ((i, scheduler), count, other) in enumerate(values):
        preset = number == 0
        noise = None if preset else number % 3 == 0
        results = {
            "psnr": result(20.0 + i + count / 10, 0.123, noise),
            "drift": result(0.5 - count / 4, 0.05, noise),
            "error": result(10.0**-i * float(count) ** -2, 1e-9, noise),
            "calls": result(float(count), 0.0, noise),
            "seconds": result(0.1 * count + 0.01 * i, 0.003, noise),
            "memory": result(100.0, 0.0, noise),
        }
        settings = {"scheduler": scheduler, "steps": str(count)} | ({"eta": other} if third else {})
        label = f"{scheduler}, steps={count}" + (f", eta={other}" if third else "")
        times = [1.0 - k / count for k in range(count)] + [0.0]
        facts = {
            "id": f"{number:04x}",
            "label": label,
            "preset": preset,
            "settings": settings,
            "times": times,
            "bias": None,
            "elsewhere": None,
        }
        cells.append({**facts, "runs": 32, "failed": 0, "error": None, "results": results})
    axes = [{"name": "scheduler", "values": [*schedulers]}, {"name": "steps", "values": [str(n) for n in steps]}]
    axes += [{"name": "eta", "values": [*third]}] if third else []
    named = [
        ("psnr", "dB", "higher", 2),
        ("drift", "a*", "zero", 2),
        ("error", "", "lower", 3),
        ("calls", "", "lower", 0),
    ]
    named += [("seconds", "s", "lower", 3), ("memory", "MB", "lower", 0)]
    ends = {"mean": 1.0, "low": 0.5, "high": 1.5}
    line = {"calls": [1, 2, 4], "steps": [1, 2, 4], "mean": [1.0, 0.1, 0.01], "low": [0.5, 0.0, None]}
    line |= {"high": [1.5, 0.2, None], "order": {"fit": 1.98, "low": 1.9, "high": 2.05}, "expected": 2}
    lines = [line | {"label": schedulers[0]}, line | {"label": schedulers[-1], "order": None, "expected": None}]
    return {
        "title": "steps",
        "question": "How many steps?",
        "preset": {"scheduler": schedulers[0], "steps": str(steps[0])},
        "sampling": "Intervals are 95 %.",
        "problems": [],
        "baseline": None,
        "axes": axes,
        "measures": [{"name": n, "unit": u, "better": b, "digits": d, "source": ""} for n, u, b, d in named],
        "cells": cells,
        "effects": [
            {"axis": axis["name"], "measure": name, "points": [{"value": value, **ends} for value in axis["values"]]}
            for axis in axes
            for name, *_ in named
        ],
        "convergence": [{"measure": "error", "unit": "", "series": lines}],
    }


@pytest.fixture(name="data", scope="module")
def _data():
    return study()


@pytest.fixture(name="drawn", scope="module")
def _drawn(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "new"
    return {path.name: path for path in figures.draw(data, folder)}


PLOTS = [
    "pareto-psnr",
    "pareto-drift",
    "pareto-error",
    "effects-scheduler",
    "effects-steps",
    "convergence",
    "schedules",
]


def test_each_plot_is_an_svg_and_a_png(drawn):
    assert list(drawn) == [f"{name}.{kind}" for name in PLOTS for kind in ("svg", "png")]
    for name, path in drawn.items():
        if name.endswith(".svg"):
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            with Image.open(path) as picture:
                assert 1200 < picture.width < 1500  # seven inches


def test_the_same_data_gives_the_same_bytes_without_a_date(data, drawn, tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20.0)  # the user's own settings do not matter
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    few = data | {"measures": data["measures"][:1], "effects": []}
    again = {path.name: path for path in figures.draw(few, tmp_path)}
    assert matplotlib.rcParams["font.size"] == 20.0
    assert set(again) == {
        f"{name}.{kind}" for name in ("pareto-psnr", "convergence", "schedules") for kind in ("svg", "png")
    }
    for name, path in again.items():
        assert path.read_bytes() == drawn[name].read_bytes()
        assert b"dc:date" not in path.read_bytes()


def test_files_are_kept_on_request(data, tmp_path):
    (tmp_path / "pareto-psnr.svg").write_text("mine")
    with pytest.raises(PidSamplerError, match=r"pareto-psnr\.svg exists already"):
        figures.draw(data, tmp_path, overwrite=False)
    with pytest.raises(PidSamplerError, match="cannot make the folder"):
        figures.draw(data, tmp_path / "pareto-psnr.svg")


def test_without_matplotlib_the_extra_is_named(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PidSamplerError, match=r"matplotlib is not installed: pip install 'pidsampler\[study\]'"):
        figures.draw(data, tmp_path)


def test_gaps_in_the_data_leave_gaps(data, tmp_path):
    holes = copy.deepcopy(data)
    for cell in holes["cells"]:
        cell["times"] = None
        del cell["results"]["seconds"], cell["results"]["drift"]
        cell["results"]["psnr"] |= {"low": None, "high": None}
    for effect in holes["effects"]:
        for point in effect["points"]:
            point |= {"mean": None} if effect["axis"] == "steps" else {"low": None, "high": None}
    for line in holes["convergence"][0]["series"]:
        line |= {"mean": [None, 0.0, None]}
    names = {path.stem for path in figures.draw(holes, tmp_path)}
    assert names == {"pareto-psnr", "pareto-error", "effects-scheduler"}
    empty = holes | {"axes": [], "effects": [], "convergence": [], "cells": []}
    assert figures.draw(empty, tmp_path) == []


def test_any_text_can_be_drawn(data, tmp_path):
    named = study(schedulers=(NASTY.replace("Δσ", ""), "x" * 200))
    named["measures"][0]["name"] = "folder/my file.py:measure"
    for cell in named["cells"]:
        cell["results"]["folder/my file.py:measure"] = cell["results"].pop("psnr")
    named = named | {"measures": [named["measures"][0]] * 2, "effects": []}
    names = [path.name for path in figures.draw(named, tmp_path) if path.suffix == ".svg"]
    assert names[:2] == ["pareto-folder-my-file-py-measure.svg", "pareto-folder-my-file-py-measure-2.svg"]


def test_the_best_are_numbered_where_color_and_shape_do_not_tell(tmp_path):
    large = study(schedulers=[f"method {i}" for i in range(20)], third=("0", "0.5"))
    large |= {"measures": large["measures"][:1], "effects": [], "convergence": []}
    for cell in large["cells"]:
        cell["times"] = None
    assert [path.name for path in figures.draw(large, tmp_path)] == ["pareto-psnr.svg", "pareto-psnr.png"]
    (plot,) = plots.plots_of(large)
    assert [len(values) for _, values in plot["legend"]] == [20, 3]
    labels = {cell["id"]: cell["label"] for cell in large["cells"]}
    assert labels[plot["panels"][0]["front"][0]] == "method 19, steps=1, eta=0"


def test_a_color_stands_for_a_value_whatever_else_is_drawn():
    data = study(schedulers=[f"method {i}" for i in range(16)])
    fewer = study(schedulers=[f"method {i}" for i in range(3)])

    def colors(data):
        labels = {cell["id"]: cell["settings"]["scheduler"] for cell in data["cells"]}
        found = {}
        for plot in plots.plots_of(data):
            for panel in plot["panels"]:
                for line in panel["series"]:
                    for cell, color in zip(line.get("cell", ()), line["color"], strict=False):
                        found.setdefault(labels[cell], set()).add(color)
        return found

    assert colors(data) == {f"method {i}": {i} for i in range(16)}
    assert colors(fewer) == {f"method {i}": {i} for i in range(3)}
    assert len({figures._color(i) for i in range(24)}) == 24


def test_a_plot_says_what_it_shows():
    data = study(schedulers=("heun",), steps=(1, 2))
    by_name = {plot["name"]: plot for plot in plots.plots_of(data)}
    assert list(by_name) == [*PLOTS[:4], *PLOTS[4:]]
    calls, seconds = by_name["pareto-psnr"]["panels"]
    assert (calls["of"], seconds["of"]) == ("calls", "seconds")
    assert calls["summary"] == (
        "psnr, dB against model calls of 2 cells. On the front: heun, steps=1, 20.10 at 1; heun, steps=2, 20.20 at 2"
    )
    (line,) = calls["series"]
    assert (line["x"], line["y"], line["ring"]) == ([1.0, 2.0], [20.1, 20.2], [True, False])
    assert (line["color"], line["shape"], line["cell"]) == ([0, 0], [0, 1], ["0000", "0001"])
    assert calls["x"]["ticks"] == [[1.0, "1"], [2.0, "2"]]
    assert not calls["x"]["log"]
    assert (calls["y"]["title"], calls["stairs"], calls["level"]) == ("psnr, dB  ↑ better", True, None)
    assert by_name["effects-scheduler"]["panels"][0]["x"]["names"]
    (errors,) = by_name["convergence"]["panels"]
    assert [line["facts"] for line in errors["series"]] == [["1.98 (1.90 to 2.05)", "2"], ["—", "—"]]


def test_a_baseline_is_a_level_of_its_measure():
    data = study() | {"baseline": {"label": "bicubic", "results": {"psnr": result(20.5)}}}
    levels = {plot["measure"]: plot["panels"][0]["level"] for plot in plots.plots_of(data) if plot["kind"] == "pareto"}
    assert levels == {"psnr": ["bicubic", 20.5], "drift": None, "error": None}


@pytest.mark.parametrize(("better", "expected"), [("higher", [0, 3, 4]), ("lower", [0, 1]), ("zero", [0, 1, 2])])
def test_the_front_is_what_nothing_cheaper_beats(better, expected):
    points = [(1.0, 1.0), (2.0, -1.0 if better == "lower" else -0.9), (3.0, 0.1), (4.0, 2.0), (5.0, 3.0)]
    assert plots._front(points, better) == expected


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-5, 5)), min_size=1, max_size=20))
def test_a_front_dominates_every_point(points):
    front = [points[i] for i in plots._front(points, "higher")]
    for x, y in points:
        assert any(fx <= x and fy >= y for fx, fy in front)
    assert front == sorted(front)


def test_ticks_are_few_and_plain():
    assert [plots._plain(v) for v in (0.001, 0.05, 1.0, 20000.0, 1e-5, 2e-7, 1e6)] == (
        ["0.001", "0.05", "1", "20000", "10⁻⁵", "2·10⁻⁷", "10⁶"]
    )
    assert [text for _, text in plots._axis([1, 64], "", log=4.0)["ticks"]] == ["1", "64"]
    assert [text for _, text in plots._axis([*range(1, 65)], "", log=4.0)["ticks"]] == ["1", "2", "5", "10", "20", "50"]
    assert 3 <= len(plots._axis([1e-9, 1.0], "", log=4.0)["ticks"]) <= 6
    ends = [([0.0, 64.5], "0 20 40 60"), ([3.0, 4.5], "3.0 3.5 4.0 4.5"), ([-0.2, 0.3], "-0.2 -0.1 0.0 0.1 0.2 0.3")]
    for values, expected in ends:
        axis = plots._axis(values, "", log=4.0)
        assert not axis["log"]
        assert [text for _, text in axis["ticks"]] == expected.replace("-", "\u2212").split()


@given(st.lists(st.floats(-1e149, 1e149), min_size=1, max_size=9), st.sampled_from([math.inf, 4.0]))
def test_an_axis_holds_its_values_and_ticks(values, log):
    axis = plots._axis(values, "", log=log)
    assert axis["low"] < min(values) <= max(values) < axis["high"]
    assert all(axis["low"] <= value <= axis["high"] for value, _ in axis["ticks"])
    assert len(axis["ticks"]) <= 20


def test_schedules_are_named_by_what_decides_them(data):
    cells = data["cells"]
    assert plots._that_decide(cells, ["scheduler", "steps"]) == ("steps",)
    assert plots._that_decide(cells[:1], ["scheduler", "steps"]) == ()
    other = copy.deepcopy(cells)
    other[0]["times"] = [0.999, 0.0]
    assert plots._that_decide(other, ["scheduler", "steps"]) == ("scheduler", "steps")


def test_markdown_word_for_word():
    data = study(schedulers=("heun",), steps=(1, 2, 4, 8))
    data["cells"][3]["results"].pop("psnr")
    assert tables.markdown(data, ["psnr", "drift", "error", "memory"]) == (
        """\
How many steps?

| scheduler | steps | psnr, dB ↑ | drift, a\\* → 0 | error ↓ | memory, MB ↓ |
| --- | --- | ---: | ---: | ---: | ---: |
| heun (preset) | 1 | 20.10 ± 0.12 | 0.25 ± 0.05 | 1.000 ± 1e-09 | **100** |
| heun | 2 | 20.20 ± 0.12 | **0.00** ± 0.05 | 0.250 ± 1e-09 | **100** |
| heun | 4 | **20.40** ± 0.12 | -0.50 ± 0.05 | 0.062 ± 1e-09 | **100** |
| heun | 8 | — | -1.50 ± 0.05 ns | **0.016** ± 1e-09 ns | **100** ns |

Means over 32 runs, ± half the width of the interval. Intervals are 95 %. Bold: best. ns: within noise of the preset \
(paired test, corrected for the number of comparisons). —: no result. Preset: scheduler heun, steps 1.
"""
    )


def test_latex_word_for_word():
    data = study(schedulers=("heun_2",), steps=(1, 2))
    data["cells"][1]["results"]["error"] = result(1.5e-7, 2e-8, noise=True)
    assert tables.latex(data, ["psnr", "error"]) == (
        r"""% \usepackage{booktabs}
\begin{table}
  \centering
  \caption{How many steps? Means over 32 runs, $\pm$ half the width of the interval. Intervals are 95 \%. """
        r"""Bold: best. \textsuperscript{ns}: within noise of the preset (paired test, corrected for the number of """
        r"""comparisons). Preset: scheduler heun\_2, steps 1.}
  \begin{tabular}{llrr}
    \toprule
    scheduler & steps & psnr, dB $\uparrow$ & error $\downarrow$ \\
    \midrule
    heun\_2 (preset) & 1 & $20.10 \pm 0.12$ & $1.000 \pm 1\cdot 10^{-9}$ \\
    heun\_2 & 2 & $\mathbf{20.20} \pm 0.12$ & $\mathbf{1.5\cdot 10^{-7}} \pm 2\cdot 10^{-8}$\textsuperscript{ns} \\
    \bottomrule
  \end{tabular}
\end{table}
"""
    )


def test_tables_have_a_row_for_each_cell_and_the_measures_with_a_direction(data):
    for text, between in ((tables.markdown(data), " | "), (tables.latex(data), " & ")):
        rows = [line for line in text.splitlines() if re.match(r"\W*(flow-sde|heun)", line)]
        assert len(rows) == len(data["cells"])
        assert {row.count(between) for row in rows} == {6}  # 2 axes, 3 measures, calls and seconds
    assert "memory" not in tables.markdown(data)


def test_a_table_of_one_cell_without_axes():
    data = study()
    data = data | {"axes": [], "cells": data["cells"][:1]}
    assert "| flow-sde, steps=1 (preset) |" in tables.markdown(data)
    data["cells"][0]["runs"] = 1
    assert "Means over 1 run," in tables.markdown(data)


def test_unknown_measures_are_refused(data):
    for table in (tables.markdown, tables.latex):
        with pytest.raises(PidSamplerError, match="unknown measure 'pnsr': did you mean 'psnr'"):
            table(data, ["pnsr"])


@given(st.text(max_size=40))
def test_escaped_text_has_no_live_character(text):
    shown = tables._tex(text)
    rest = re.sub(r"\\ensuremath\{\\[A-Za-z]+\}|\\text[a-z]+\{\}|\\[{}#$%&_]", "", shown)
    assert not set(rest) & set("\\{}#$%&_~^<>|\n")
    shown = tables._md(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(\\\\)*[|*_`\[\]]", re.sub(r"\\.", "", shown))
    assert "<" not in shown


def test_escaped_text_says_what_it_said():
    assert tables._tex(NASTY) == (
        r"a\_b\textbar{}c \& 50\% \#1 \{x\} \$y\$ \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textless{}b\textgreater{}" + ' "q" ' + r"\ensuremath{\Delta}\ensuremath{\sigma}"
    )
    assert tables._md(NASTY) == r"a\_b\|c &amp; 50% \#1 \{x\} \$y\$ \~^\\ &lt;b\>" + ' "q" Δσ'


def test_write_leaves_both_tables(data, tmp_path):
    (tmp_path / "table.md").write_text("old")
    assert tables.write(data, tmp_path) == [tmp_path / "table.md", tmp_path / "table.tex"]
    assert (tmp_path / "table.md").read_text("utf-8") == tables.markdown(data)
    assert (tmp_path / "table.tex").read_text("utf-8") == tables.latex(data)
    with pytest.raises(PidSamplerError, match="cannot write"):
        tables.write(data, tmp_path / "missing")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles(tmp_path):
    data = study(schedulers=(NASTY, "heun"))
    text = tables.latex(data | {"question": NASTY})
    page = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{text}\\end{{document}}"
    (tmp_path / "page.tex").write_text(page, "utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


def test_latex_is_balanced():
    text = tables.latex(study(schedulers=(NASTY, "heun")) | {"question": NASTY})
    assert [*re.findall(r"\\(?:begin|end)\{(\w+)\}", text)] == ["table", "tabular", "tabular", "table"]
    plain = re.sub(r"\\[\\{}$%&_#]", "", text)
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
