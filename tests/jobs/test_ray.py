"""The same study and the same folder on Ray's local cluster, a real one."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from pidsampler import FlowSDE, Upscaler, noise
from pidsampler.study import Study, Truth
from pidsampler.study.report import figures
from pidsampler.study.run import run_study
from pidsampler.upscale import batch

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'pidsampler[ray]'")

OWN = """
import os
from pathlib import Path
from pidsampler.study.measures import measure

calls = 0

@measure(unit="", better="", source="", needs=("x",))
def own(sample):
    global calls
    calls += 1
    order = Path(__file__).with_name("kill")
    if calls == 4 and order.exists():
        order.unlink()
        os.kill(os.getpid(), 9)
    return float(sample.x.mean())
"""


@pytest.fixture(name="cluster", scope="module")
def _cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture(name="study")
def _study(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "draw", lambda *_: [])
    (tmp_path / "own.py").write_text(OWN)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 24, 3), np.uint8)).save(tmp_path / "a.png")
    return Study(
        preset={"model": "gaussian", "images": "a.png", "seeds": 4},
        axes={"scheduler": ["flow-sde", "flow-ode"], "steps": [1, 2, 3, 4]},
        measures=["psnr", "consistency", "own.py:own"],
        truth=Truth(reduce=True),
        folder=tmp_path,
    )


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in ("seconds", "network", "sampler")} for row in found]


@pytest.mark.usefixtures("cluster")
def test_the_same_as_here_with_a_worker_killed_in_the_middle(study, tmp_path):
    run_study(study, tmp_path / "here", device="cpu")
    (tmp_path / "kill").touch()
    seen = []
    finished = run_study(study, tmp_path / "ray", device="cpu", processes=None, on_progress=seen.append, engine="ray")
    assert not (tmp_path / "kill").exists()
    assert seen[-1].done >= seen[-1].calls  # what died was made again
    assert (finished.runs, finished.failed) == (36, 0)
    assert rows(tmp_path / "ray") == rows(tmp_path / "here")
    for picture in (tmp_path / "here" / "pictures").rglob("*.png"):
        assert picture.read_bytes() == (tmp_path / "ray" / picture.relative_to(tmp_path / "here")).read_bytes()


@pytest.mark.usefixtures("cluster")
def test_a_folder_the_same_as_here_with_a_worker_killed_in_the_middle(tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(11):
        pixels = np.random.default_rng(k).integers(0, 255, (8 + k, 12, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{k:02}.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"broken")
    kill = tmp_path / "kill"

    def deadly(seed, draw, shape):  # in the middle, once
        if draw == 1 and len(list((tmp_path / "ray").glob("*.png"))) >= 3 and kill.exists():
            kill.unlink()
            os.kill(os.getpid(), 9)
        return noise.normal(seed, draw, shape)

    settings = batch.Settings(FlowSDE([1.0, 0.5, 0.0]), noise=deadly)
    here = batch.find_files([tmp_path / "in"], str(tmp_path / "here"))
    list(batch.upscale_files(Upscaler.load("gaussian", "cpu"), here, settings=settings))
    kill.touch()
    there = batch.find_files([tmp_path / "in"], str(tmp_path / "ray"))
    found = list(batch.upscale_on_cluster("gaussian", "cpu", files=there, settings=settings))
    assert not kill.exists()
    assert sorted(outcome.file.path.name for outcome in found) == [file.path.name for file in there]
    assert [outcome.file.path.name for outcome in found if outcome.error] == ["bad.png"]
    for file in here:
        if file.path.name != "bad.png":
            assert file.target.read_bytes() == (tmp_path / "ray" / file.target.name).read_bytes()
