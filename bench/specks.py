"""What helps against specks: python bench/specks.py PHOTOS... [--model tiny] [--steps 4 16]

    pip install '.[cpu,study]'

Each photograph is reduced 4x and enlarged again by FlowSDE over `shifted(shift=1.5)`, as it is and by each recipe: a
latent that is said to hold noise of 0.2 (and given it), less fresh noise at the last re-noise (`last_eta`), and the
despeckling of the result. Specks are those of the study's measure, a million pixels; PSNR is to the photograph.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from pidsampler import Finish, FlowSDE, Upscaler, timesteps
from pidsampler.backends import DESPECKLE
from pidsampler.study.measures.pictures import psnr, specks

RECIPES = {
    "as it is": {},
    "--degrade-sigma 0.2": {"degrade_sigma": 0.2},
    "flow-sde(last_eta=0.5)": {"last_eta": 0.5},
    "flow-sde(last_eta=0)": {"last_eta": 0.0},
    "--despeckle": {"finish": Finish(despeckle=DESPECKLE)},
    "all, last_eta=0.5": {"degrade_sigma": 0.2, "last_eta": 0.5, "finish": Finish(despeckle=DESPECKLE)},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", nargs="+", type=int, default=[4, 16])
    arguments = parser.parse_args()
    up = Upscaler.load(arguments.model, "cpu")
    print("| steps | recipe | specks | PSNR |\n|---|---|---|---|")
    for steps in arguments.steps:
        for name, recipe in RECIPES.items():
            options = dict(recipe)
            scheduler = FlowSDE(timesteps.shifted(steps, shift=1.5), last_eta=options.pop("last_eta", None))
            found = []
            for path in arguments.photos:
                with Image.open(path) as opened:
                    photo = opened.convert("RGB")
                photo = photo.crop((0, 0, photo.width // 4 * 4, photo.height // 4 * 4))
                small = np.asarray(photo.resize((photo.width // 4, photo.height // 4), Image.Resampling.BICUBIC))
                picture = up(small, scheduler, **options).array
                sample = SimpleNamespace(picture=picture, input=small, reference=np.asarray(photo))
                found.append((specks(sample), psnr(sample)))
            count, decibels = np.mean(found, axis=0)
            print(f"| {steps} | {name} | {count:.0f} | {decibels:.2f} |", flush=True)


if __name__ == "__main__":
    main()
