"""The Python examples of pages that name things of the reader's own: a process for each page, after what it names."""

import subprocess
import sys

import pytest
from pages import python_blocks
from paths import REPOSITORY

NETWORKS = """
network = conditional = denoiser = ps.denoiser.GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])
unconditional = ps.denoiser.Gaussian(mean=0.0, std=0.5)
"""
# Page -> what its reader has already, and what must be true after its examples.
PAGES = {
    "cfg-pp": (NETWORKS, ""),
    "guidance": (NETWORKS, "assert x.shape == (1, 3, 256, 256) and np.isfinite(x).all()"),
    "learn": (
        "import shutil\n"
        f"shutil.copy({str(REPOSITORY / 'pidsampler/models/tiny-teacher/tables/learnt-4.json')!r}, 'table.json')\n"
        "import pidsampler.learn as room\n"
        "from pidsampler.search.problem import Problem\n"  # small ones: the page's own take minutes
        "small = Problem.of_flow(ps.denoiser.GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2]), height=4, width=4)\n"
        "photos, whole = ['photo.png'], room.fit\n"
        "room.fit = lambda *given, **options: whole(*given, **options | FEW)\n"
        "Problem.of_model = lambda name, pictures: small\n"
        "FEW = {'shape': (3, 4, 4), 'seeds': 2, 'evaluations': 2, 'joint': 0}",
        "assert len(found.table) == 4 and found.error > 0 and found.baselines and row.low <= row.high",
    ),
    "solvers": (
        NETWORKS + "timesteps = ps.timesteps.uniform(4)",
        "assert tableau.order == 4 and found.error < 1e-8",
    ),
    "start": (
        NETWORKS + "up = ps.Upscaler.load('tiny')\n"
        "photo, image = np.full((16, 16, 3), 99, np.uint8), np.full((1, 3, 8, 8), 0.5)\n"
        "images = np.zeros((2, 3, 8, 8))",
        "assert np.isfinite(run.x).all() and x.shape == image.shape",
    ),
    "tables": (NETWORKS + "table = ps.get_scheduler('euler-cfg-pp@uniform:2').table()", ""),
    "wrappers": (
        "",
        "assert table != ps.get_scheduler('heun@karras:8').table()\n"
        "assert ps.get_scheduler('heun.clipped(bound=1.2)@uniform:8').table().rows[0].clip == 1.2",
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page, tmp_path):
    before, after = PAGES[page]
    blocks = python_blocks(page)
    assert blocks
    code = "\n".join(["import numpy as np", "from PIL import Image", "import pidsampler as ps", before, *blocks, after])
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
