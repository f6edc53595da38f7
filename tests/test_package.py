import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import pidsampler
from pidsampler import Upscaler, sample, timesteps
from pidsampler.cli import main
from pidsampler.denoiser import GaussianMixture
from pidsampler.schedulers import registry
from pidsampler.threads import count_cores


@pytest.fixture(scope="module", name="readme")
def _readme(repository):
    return (repository / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", name="page")
def _page(repository):
    return lambda name: (repository / "docs" / f"{name}.md").read_text(encoding="utf-8")


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_readme_is_short(readme):
    """900 words at most, and 70 in a paragraph, a cell of a table or an item of a list."""
    assert len(readme.split()) <= 900
    paragraphs = re.split(r"\n\s*\n|\n- |\|", re.sub(r"```.*?```", "", readme, flags=re.S))
    assert max(len(text.split()) for text in paragraphs) <= 70


def test_all_is_sorted_and_complete():
    for name in pidsampler.__all__:
        assert getattr(pidsampler, name) is not None
    public = {
        name
        for name, value in vars(pidsampler).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "import_module"
    }
    public -= {"Any", "TYPE_CHECKING"}
    assert pidsampler.__all__ == sorted(public | {"denoiser", "noise", "schedulers", "timesteps"})
    assert set(pidsampler.__all__) < set(dir(pidsampler))


def test_rooms_are_there_when_they_are_asked_for():
    code = "import sys, pidsampler as ps; print('pidsampler.study' in sys.modules, ps.study.__name__, ps.Upscaler)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False pidsampler.study <class 'pidsampler.upscale.upscaler.Upscaler'>\n"
    code = "import pidsampler as ps; print(ps.interop.k_diffusion.sampler('unipc').spec)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "unipc\n"
    with pytest.raises(AttributeError, match="module 'pidsampler' has no attribute 'Upscalr'"):
        pidsampler.Upscalr  # noqa: B018


@pytest.mark.parametrize("name", pidsampler.__all__)
def test_every_public_thing_has_a_docstring(name):
    thing = getattr(pidsampler, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_") and callable(value):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_import_loads_nothing_heavy():
    heavy = "{'cupy', 'onnxruntime', 'matplotlib', 'rich', 'argparse', 'PIL', 'imageio', 'safetensors', 'torch'}"
    code = f"import sys, pidsampler; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_is_a_command():
    done = subprocess.run([sys.executable, "-m", "pidsampler", "table", "none"], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.startswith("pidsampler: error: unknown scheduler 'none'")


def test_the_command_says_its_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"pidsampler {pidsampler.__version__}\n")


def test_changelog_and_version_agree(repository):
    changelog = (repository / "CHANGELOG.md").read_text()
    releases = [name for name in re.findall(r"^## (.*)$", changelog, re.M) if name != "Unreleased"]
    version, _, date = releases[0].partition(" (")
    assert version == pidsampler.__version__
    cited = f"\nversion: {version}\ndate-released: {date.removesuffix(')')}\n"
    assert cited in (repository / "CITATION.cff").read_text()
    assert f"{{Version {version}}},\n      year = {{{date[:4]}}}" in (repository / "docs" / "faq.md").read_text()


def test_the_changelog_says_first_what_breaks(repository):
    changelog = (repository / "CHANGELOG.md").read_text()
    section = changelog.partition(f"\n## {pidsampler.__version__}")[2].partition("\n## ")[0]
    assert re.findall(r"^### (.*)$", section, re.M)[0].startswith("What breaks")
    now = "".join(re.findall(r"^\| .* \| (.*) \|$", section, re.M))
    names = re.findall(r"`((?:schedulers|study|values|image)(?:\.\w+)+)", now.replace("image.filled", ""))
    assert len(names) > 5
    for name in names:
        assert pkgutil.resolve_name(f"pidsampler.{name}") is not None


def test_every_module_has_a_docstring():
    for path in Path(pidsampler.__file__).parent.rglob("*.py"):
        assert path.read_text().startswith('"""'), path


def test_the_base_depends_on_no_onnxruntime_and_extras_on_one_each(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]

    def runtimes(requirements):
        return {r.name for r in map(Requirement, requirements) if r.name.startswith("onnxruntime")}

    extras = project["optional-dependencies"]
    assert runtimes(project["dependencies"]) == set()
    assert runtimes(extras["cpu"]) == {"onnxruntime"}
    assert runtimes(extras["cuda12"]) == runtimes(extras["cuda13"]) == {"onnxruntime-gpu"}
    assert set(extras) == {
        *(
            "cpu",
            "cuda12",
            "cuda13",
            "plot",
            "beta",
            "study",
            "log",
            "bench",
            "lpips",
            "ray",
            "export",
            "hub",
            "diffusers",
            "completion",
            "test",
            "docs",
            "dev",
        ),
    }


@pytest.mark.parametrize(("name", "picture"), [("README.md", "photo.png"), ("docs/getting-started.md", "tour.png")])
def test_the_tours_run(name, picture, repository, tmp_path):
    tour = blocks((repository / name).read_text(encoding="utf-8"))[0]
    assert len([line for line in tour.splitlines() if line.strip()]) <= 20
    (tmp_path / "examples").mkdir()
    with Image.open(repository / "examples" / "chameleon.jpg") as photo:
        photo.reduce(4).save(tmp_path / "examples" / "chameleon.jpg")
        large = photo.width // 4 * 4, photo.height // 4 * 4
    done = subprocess.run([sys.executable, "-P", "-c", tour], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("row")
    with Image.open(tmp_path / picture) as photo:
        assert photo.size == large


def test_the_scheduler_of_the_docs_is_short_and_of_second_order(page):
    text = blocks(page("own-scheduler"))[0]
    assert len(text.splitlines()) <= 15
    names = {}
    exec(text, names)
    heun = names["heun"]
    assert heun(timesteps.uniform(4)).times == (1.0, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0.0)
    law, x = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2]), np.linspace(-2, 2, 100).reshape(1, 1, 1, 100)

    def run(n):
        return sample(law, heun(np.linspace(0.95, 0.1, n + 1)), x=x, dtype=np.float64)

    exact = run(2048)
    errors = [np.abs(run(n) - exact).mean() for n in (16, 32, 64, 128, 256)]
    assert -np.polyfit(range(5), np.log2(errors), 1)[0] == pytest.approx(2, abs=0.2)
    # and, as the page says, `sample` takes it to the end
    assert np.isfinite(sample(law, heun(timesteps.uniform(8)), shape=(1, 3, 4, 4))).all()


def test_the_readmes_commands_are_the_ones_ci_runs(readme, repository):
    section = readme.split("## Two commands")[1].split("## ")[0]
    commands = re.findall(r"^    (pip install .*)$", section, re.M)
    assert commands == [
        "pip install '.[cpu]' && pidsampler upscale examples/chameleon.jpg -o out.png",
        "pip install '.[cpu,test]' && pytest",
    ]


def test_the_options_of_the_docs_exist(page, capsys):
    section = page("command-line").split("\n## ")[0].replace("--help", "")
    help_text = ""
    for name in ("upscale", "table", "export", "inspect", "bench"):
        with pytest.raises(SystemExit):
            main([name, "--help"])
        help_text += capsys.readouterr().out
    options = set(re.findall(r"--[a-z-]+", section))
    assert {"--steps", "--timesteps", "--degrade-sigma"} <= options
    for option in options:
        assert option in help_text


def test_the_table_of_the_docs_has_every_scheduler_as_the_registry_says(page):
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (\d) \| (\d) \| (yes|no) \|", page("schedulers"), re.M)
    expected = [
        (i.name, str(i.accuracy_order), str(i.model_calls_per_step), "yes" if i.stochastic else "no")
        for i in pidsampler.list_schedulers()
    ]
    assert rows == expected


def test_the_lists_of_the_docs_are_those_there_are(page):
    named = re.search(r"Lists: ([a-z0-9_,\s]+);", page("schedulers"))[1]
    assert re.split(r",\s+", named) == list(registry.LISTS)


def test_the_comparison_runs(load_script, capsys, monkeypatch, tmp_path):
    script = load_script("examples/compare_schedulers.py")
    monkeypatch.setattr(script, "SHAPE", (1, 3, 16, 16))
    script.main(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(pidsampler.list_schedulers())


def test_the_readmes_picture_is_made_by_its_script(load_script, tmp_path):
    load_script("examples/readme_picture.py").main(str(tmp_path / "a.jpg"))
    assert (tmp_path / "a.jpg").stat().st_size > 10_000


def test_the_bench_report_reads_what_pytest_benchmark_writes(load_script, tmp_path, capsys):
    bench = [
        {"name": f"test_{n}", "stats": {"median": s, "iqr": 0.0, "rounds": 3}, "extra_info": extra}
        for n, s, extra in [("whole", 0.5, {}), ("noise", 0.4, {}), ("upscale", 3.0, {"outside_network": 0.1})]
    ]
    machine = {"cpu": {"brand_raw": "A CPU"}, "python_version": "3.11.7"}
    data = {
        "benchmarks": bench,
        "machine_info": machine,
        "commit_info": {"id": "abc"},
        "datetime": "2026-11-21T03:00:00",
    }
    (tmp_path / "bench.json").write_text(json.dumps(data))
    load_script("bench/report.py").main(tmp_path / "bench.json", tmp_path / "rows.jsonl")
    out = capsys.readouterr().out
    assert "| noise | 400.0 | 80% of the whole |" in out
    assert "| upscale | 3000.0 | 10% outside the network |" in out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["whole", "noise", "upscale"]
    assert rows[2]["outside_network"] == 0.1


@pytest.mark.parametrize(("said", "found"), [("", 3), ("2", 2), ("64", 3), ("0", 1), ("4,2", 3), ("-1", 3)])
def test_omp_num_threads_limits_the_cores(monkeypatch, said, found):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(3), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert count_cores.__wrapped__() == found  # it is counted once a process


def test_onnx_runtime_is_told_the_limit(monkeypatch):
    import onnxruntime

    seen, session = [], onnxruntime.InferenceSession

    def opened(path, options, **more):
        seen.append(options.intra_op_num_threads)
        return session(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    for said in ("", "1"):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        Upscaler.load("gaussian", "cpu")(np.zeros((4, 4, 3), np.uint8))
    assert seen == [0, 0, 1, 1]
