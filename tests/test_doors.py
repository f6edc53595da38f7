"""Notebooks, and what a process adds by name; and the examples of the pages about them."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from pages import python_blocks
from PIL import Image

import pidsampler as ps
from pidsampler.cli import main
from pidsampler.noise import NOISES
from pidsampler.schedulers.registry import LISTS, SCHEDULERS
from pidsampler.study.measures import MEASURES, measure

LAW = ps.denoiser.Gaussian(0.3, 0.5)


@pytest.mark.parametrize("spec", ["heun@uniform:3", "flow-sde@pid", "unipc.detail(amount=0.2)@karras:60"])
def test_tables_and_schedulers_are_drawn(spec):
    scheduler = ps.get_scheduler(spec)
    table = scheduler.table()
    page = ElementTree.fromstring(scheduler._repr_html_())
    assert page.find("p/code").text == str(scheduler)
    rows = page.findall("table/tbody/tr")
    assert len(rows) == min(len(table), 50)
    assert [cell.text for cell in rows[1]][:2] == ["1", f"{table[1].t:.6g}"]
    drawings = page.findall("{*}svg")
    for drawing in drawings:  # made smaller, not cut off, where the page is narrow
        assert drawing.get("viewBox") == f"0 0 {drawing.get('width')} {drawing.get('height')}"
        assert "max-width: 100%" in drawing.get("style")
    assert len(drawings[0].find("{*}polyline").get("points").split()) == len(table.times)
    assert table._repr_html_().startswith(f"<div><p><code>StepTable of {len(table)} rows")
    assert repr(table) == f"<StepTable of {len(table)} rows, t = {table.times[0]:.6g} to 0>"


def test_reprs_are_short():
    run = ps.start("heun@uniform:2", np.zeros((1, 3, 4, 4), np.float32), seed=1)
    assert repr(run) == "<Run of 3 rows, 0 done, x of shape (1, 3, 4, 4)>"
    run.step(np.zeros_like(run.x))
    assert "1 done" in repr(run)
    assert repr(LAW) == "Gaussian(mean=0.3, std=0.5)"
    mixture = ps.denoiser.GaussianMixture([-1, 1], [0.5, 0.25], [1, 3])
    assert repr(mixture) == "GaussianMixture(means=[-1.0, 1.0], stds=[0.5, 0.25], weights=[0.25, 0.75])"


def test_a_strangers_name_is_text_in_html():
    from pidsampler.schedulers.making import FileSampler

    table = ps.FlowODE([0.9, 0]).table()
    page = FileSampler("<script>", table, timesteps=table.times)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.fixture(name="forgotten")
def _forgotten():
    yield
    for registry, name in ((SCHEDULERS, "my-euler"), (LISTS, "my-list"), (NOISES, "my-noise"), (MEASURES, "my-mean")):
        if name in registry:
            registry.unregister(name)


@pytest.mark.usefixtures("forgotten")
def test_one_door_for_all_kinds():
    @ps.register("scheduler", name="my-euler", aliases=["mine"])
    def euler(timesteps, factor=1.0):
        return ps.FlowODE(timesteps).table()

    def mean(sample):
        return 1.0

    mean.__name__ = "my-mean"
    ps.register("timesteps", lambda steps, top=0.9: np.linspace(top, 0, steps + 1), name="my-list")
    ps.register("noise", lambda table: table, name="my-noise")
    ps.register("measure", measure(unit="", better="", source="", needs=())(mean))
    expected = ps.FlowODE(np.linspace(0.8, 0, 4)).table()
    assert ps.get_scheduler("my-euler(factor=2)@my-list(top=0.8):3").table() == expected
    assert ps.get_scheduler("mine", [0.8, 0.4, 0]).table() == ps.FlowODE([0.8, 0.4, 0]).table()
    for spec in ("my-euler(factor=2)@my-list(top=0.8):3", "my-euler.detail(amount=0.2)@my-list:3"):
        assert str(ps.get_scheduler(spec)) == spec
    record = ps.Upscaler.load("gaussian")(np.zeros((4, 4, 3), np.uint8), "my-euler(2)", steps=2).record
    assert (record["scheduler"], record["timesteps"]) == ("my-euler(factor=2)", [0.999, 0.634, 0.0])
    assert not {"scheduler_sha256", "timesteps_sha256"} & record.keys()
    info = next(info for info in ps.list_schedulers() if info.name == "my-euler")
    assert (info.model_calls_per_step, info.stochastic) == (1, False)
    assert ps.describe_scheduler("my-euler").options[0].name == "factor"
    assert ps.sample(LAW, "my-euler@my-list:2", shape=(1, 3, 4, 4), noise="my-noise").shape == (1, 3, 4, 4)
    assert "my-mean" in MEASURES


@pytest.mark.usefixtures("forgotten")
def test_a_class_without_an_info_is_registered_too():
    class Mine(ps.FlowSDE):
        """A scheduler of one's own."""

    assert ps.register("scheduler", Mine, name="my-euler") is Mine
    made = ps.get_scheduler("my-euler(eta=0.5)@uniform:3")
    assert isinstance(made, Mine)
    assert (str(made), made.table()) == (
        "my-euler(eta=0.5)@uniform:3",
        ps.FlowSDE(ps.timesteps.uniform(3), 0.5).table(),
    )
    info = ps.list_schedulers()[-1]
    assert (info.name, info.model_calls_per_step, info.stochastic) == ("my-euler", 1, True)


@pytest.mark.parametrize(
    ("kind", "thing", "name", "message"),
    [
        ("sampler", len, "x", "unknown kind 'sampler': known are backend, measure"),
        ("scheduler", lambda timesteps: 3, "x", "x.timesteps. returned 3, expected a StepTable"),
        ("timesteps", len, "a@b", "the name 'a@b' cannot stand in a spec"),
        ("timesteps", 3, "x", "is no function"),
        ("timesteps", len, "karras", "there is a timestep list 'karras' already"),
        ("measure", len, None, "is no measure of that name"),
    ],
)
def test_what_cannot_be_registered(kind, thing, name, message):
    with pytest.raises(ps.PidSamplerError, match=message):
        ps.register(kind, thing, name=name)


@pytest.fixture(name="photo")
def _photo(tmp_path, monkeypatch):
    """A folder with a photo, and with a picture that was made of it."""
    monkeypatch.chdir(tmp_path)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))
    photo.save("photo.png")
    Path("examples").mkdir()
    photo.save("examples/chameleon.jpg")
    ps.Upscaler.load("tiny")("examples/chameleon.jpg", seed=7).save("first.png")


@pytest.mark.usefixtures("forgotten", "photo")
@pytest.mark.parametrize("page", ["records", "notebooks"])
def test_the_examples_of_a_page_run(page):
    blocks, names = python_blocks(page), {}
    assert blocks
    for block in blocks:
        if "to_pandas" not in block:
            exec(block, names)


@pytest.mark.usefixtures("photo")
def test_the_lines_make_a_picture_and_make_it_again(repository, capsys):
    Path("first.png").unlink()
    page = (repository / "docs/records.md").read_text(encoding="utf-8")
    lines = [line.split()[1:] for line in page.splitlines() if line.startswith("    pidsampler ")]
    assert [line[0] for line in lines] == ["upscale", "inspect", "upscale"]
    assert [main(line) for line in lines] == [0, 0, 0]
    assert "can be made again here" in capsys.readouterr().out
    assert (np.asarray(Image.open("again.png")) == np.asarray(Image.open("first.png"))).all()


def test_an_ablation_from_a_notebook_to_a_table_in_five_lines(tmp_path, monkeypatch):
    pytest.importorskip("pandas", reason="pandas is not installed: the extra study")
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in python_blocks("notebooks") if "to_pandas" in block)
    assert len(block.splitlines()) <= 5
    exec(block, names := {"ps": ps})
    assert names["frame"]["label"].tolist() == ["heun", "mine"]
    assert names["frame"]["ode-distance"].nunique() == 1  # mine is heun
    assert r"\begin{tabular}" in names["latex"]
