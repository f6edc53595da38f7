"""docs/benchmarks.md: its examples run, of one's own samplers and small ones."""

import re
import shlex

import pytest

from pidsampler import FlowODE
from pidsampler.bench import samplers
from pidsampler.cli import main


@pytest.fixture(name="page")
def _page(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samplers, "cache_bytes", lambda backend: 1)
    text = (repository / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    own = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my.py").write_text(own[0])
    (tmp_path / "table.json").write_text(FlowODE([0.9, 0.5, 0]).table().to_json())
    return text, own


def test_the_question_takes_five_lines(page, capsys):
    assert len(page[1][1].strip().splitlines()) <= 5
    exec(page[1][1], {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    number = r"[\d.e+-]+"
    said = (
        rf"my.py:mine@uniform:8, run of 8 rows: .*; {number} \[{number}, {number}\] times as long as dpmpp-2m@uniform:8"
    )
    assert re.match(said, lines[1])


def test_the_command_lines(page, capsys):
    found = re.findall(r"^    pidsampler (bench .*(?:my\.py|heun).*)$", page[0], re.MULTILINE)
    assert len(found) == 4
    for line in found:
        small = "64" if "--model" in line else "8"
        words = shlex.split(re.sub(r" --sizes \S+", "", line))
        assert main([*words, "--sizes", small, "--quick", "--device", "cpu"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "outside the network" in out
    assert "against rows.csv:" in out
