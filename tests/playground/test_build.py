"""The folder of the page, and its tables."""

import json

import pytest

import pidsampler as ps
from pidsampler.table import Combination, Row


def decoded(rows):
    """The table of rows that the page reads, by the defaults of docs/tables.md."""
    ends = [*(row["t"] for row in rows[1:]), 0.0]
    return [
        Row(
            **{
                **row,
                "t_next": end,
                "saves": [(save.pop("slot"), Combination(**save)) for save in row.get("saves", ())],
            }
        )
        for row, end in zip(rows, ends, strict=True)
    ]


def test_the_tables_are_those_of_python_and_small(playground):
    text = json.dumps(playground.everything(), separators=(",", ":"))
    assert len(text) < 2_000_000
    told = json.loads(text)
    for name, rows in told["tables"].items():
        model, _, table = name.rpartition("/")
        folder = playground.ROOT / "pidsampler" / "models" / model / "tables"
        expected = ps.get_scheduler(f"@{folder / table}.json" if model else name).table()
        assert decoded(rows) == list(expected), name


def test_the_page_has_every_combination_that_a_scheduler_can_do(playground):
    told = playground.everything()
    assert len(told["schedulers"]) == 12
    assert len(told["lists"]) == 5
    assert [*told["tables"]][:3] == [f"tiny-teacher/learnt-{calls}" for calls in (4, 6, 8)]
    for scheduler, info in told["schedulers"].items():
        for eta in ["(eta=0)", "(eta=0.5)", "(eta=1)"] if info["eta"] else [""]:
            for times in told["lists"]:
                for steps in range(1, 9):
                    spec = f"{scheduler}{eta}@{times}:{steps}"
                    if spec not in told["tables"]:
                        with pytest.raises(ps.PidSamplerError, match=r"would repeat times|must keep 0 < t_min"):
                            ps.get_scheduler(spec).table()


def test_another_folder_is_left_alone(playground, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit, match="holds other files"):
        playground.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_npm_it_says_what_to_install(playground, monkeypatch, tmp_path):
    monkeypatch.setattr(playground, "RUNTIME", tmp_path / "onnxruntime-web")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"install Node\.js"):
        playground.fetch()
