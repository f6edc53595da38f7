"""The page's JavaScript under Node's own test runner, with known answers that Python makes here."""

import json
import os
import subprocess

import numpy as np
import pytest
from paths import REPOSITORY

import pidsampler as ps
from pidsampler.image import pixels
from pidsampler.noise import philox
from pidsampler.upscale.memory import Tiling, plan

SPECS = ("flow-sde(eta=0.5)@pid:4", "restart@karras:6", "seeds-3(eta=1)@uniform:3", "dpmpp-2m-sde(eta=1)@beta:5")


def words(seed, q, draw):
    return [int(word[0]) for word in philox._philox(q, 1, seed, draw, 0)]


def noise():
    cases = [(0, 0, 0, 9), (2**64 - 1, 2**32 - 1, 0, 8), (0x0123456789ABCDEF, 3, 1 << 20, 4099), (7, 1, 2**33 + 4, 64)]
    for seed, draw, start, count in cases:
        out = np.empty(count, np.float32)
        ps.noise.fill(out, seed, draw=draw, start=start)
        facts = {"seed": str(seed), "draw": draw, "start": start, "words": words(seed, start // 4, draw)}
        yield {**facts, "normals": out.tolist()}


class Flow:
    """The flow of Gaussian data, in float32 by products and sums that round everywhere alike."""

    def __init__(self, mean=0.25, std=0.5):
        self.mean, self.std = mean, std

    def __call__(self, x, t):
        keep, spread = 1.0 - t, (1.0 - t) * self.std * self.std
        gain = spread / (keep * spread + t * t)
        return x * np.float32((1.0 - gain) / t) - np.float32((self.mean - gain * (keep * self.mean)) / t)


def tables(everything):
    """One table of each scheduler and those of a list; the first has more elements than a chunk."""
    chosen = {spec.split("@")[0].split("(")[0]: spec for spec in everything["tables"] if spec.endswith(":4")}
    learnt = [name for name in everything["tables"] if "/" in name]
    for i, spec in enumerate([*SPECS, *chosen.values(), *learnt]):
        shape = (1, 3, 112, 112) if i == 0 else (1, 3, 5, 7)
        model, _, table = spec.rpartition("/")
        folder = REPOSITORY / "pidsampler" / "models" / model / "tables"
        sampler = f"@{folder / table}.json" if model else spec
        first = {}
        x = ps.sample(Flow(), sampler, shape=shape, seed=11, on_step=lambda run, m, first=first: preview(first, run, m))
        yield {"name": spec, "rows": everything["tables"][spec], "x": x.reshape(-1).tolist(), **first}


def preview(first, run, m):
    first.setdefault("x0", run.predict_x0(m).reshape(-1).tolist())


def tiles():
    for side in (64, 512, 544, 640, 900 // 32 * 32, 1024, 2048):
        cut = plan(
            *(Tiling(512), (side, 512)), unit=32, scale=4, fixed=None, budget=None, tensors=2, need=lambda: None
        ).grid.rows
        weights = [weight.tolist() for weight in cut.weights]
        yield {"length": side, "size": cut.size, "starts": cut.starts, "weights": weights}


def pictures():
    image = np.random.default_rng(0).integers(0, 256, (5, 3, 3), np.uint8)
    x = np.linspace(-1.2, 1.2, 3 * 8 * 8, dtype=np.float32).reshape(1, 3, 8, 8)
    x[0, 0, 0, :4] = (np.arange(4) + 0.5) / 127.5 - 1  # ties, as near as float32 has them
    tensor = pixels.to_tensor(image, size=(16, 8), backend="numpy")
    return {
        "image": np.dstack([image, np.full((5, 3), 255, np.uint8)]).reshape(-1).tolist(),
        "tensor": tensor.reshape(-1).tolist(),
        "x": x.reshape(-1).tolist(),
        "picture": pixels.to_image(x, size=(7, 6), backend="numpy").reshape(-1).tolist(),
    }


@pytest.fixture(scope="module", name="answers")
def _answers(playground, tmp_path_factory):
    everything = playground.everything()
    answers = {"noise": [*noise()], "tables": [*tables(everything)], "tiles": [*tiles()], "pictures": pictures()}
    answers["catalogue"] = {key: everything[key] for key in ("models", "schedulers", "tables")}
    assert {name.split("@")[0].split("(")[0] for table in answers["tables"] for name in [table["name"]]} >= {
        *everything["schedulers"]
    }
    path = tmp_path_factory.mktemp("units") / "answers.json"
    path.write_text(json.dumps(answers))
    return path


@pytest.mark.parametrize("unit", sorted(path.stem for path in (REPOSITORY / "tests/playground").glob("*.mjs")))
def test_unit(unit, answers, node):
    command = [node, "--test", "--test-reporter=spec", f"tests/playground/{unit}.mjs"]
    ran = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "ANSWERS": str(answers)}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "pass 0" not in ran.stdout
