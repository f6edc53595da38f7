"""The part of examples/train_tiny that needs no PyTorch: how photographs become training pairs."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(name="data")
def _data(load_script):
    return load_script("examples/train_tiny/data.py")


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """A small picture that is flat on the left and rough on the right, and a large one."""
    rng = np.random.default_rng(0)
    small = np.full((256, 512, 3), 90, np.uint8)
    small[:, 256:] = rng.integers(80, 101, (256, 256, 3))
    Image.fromarray(small).save(tmp_path / "small.png")
    Image.fromarray(rng.integers(0, 256, (1200, 1300, 3), np.uint8)).save(tmp_path / "large.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_batch_is_a_function_of_seed_and_number(data, folder):
    patches = data.Patches(folder, (2, 3), seed=4)
    large, small = patches.batch(7, 5)
    assert (large.shape, small.shape) == ((5, 3, 128, 128), (5, 3, 32, 32))
    assert large.dtype == small.dtype == np.uint8
    again = data.Patches(folder, (2, 3), seed=4).batch(7, 5)
    assert np.array_equal(large, again[0])
    assert np.array_equal(small, again[1])
    assert not np.array_equal(large, patches.batch(8, 5)[0])
    assert not np.array_equal(large, data.Patches(folder, (2, 3), seed=5).batch(7, 5)[0])


def test_the_small_picture_is_the_large_one_reduced(data, folder):
    for large, small in zip(*data.Patches(folder).batch(0, 8), strict=True):
        reduced = data.low_resolution(np.ascontiguousarray(large.transpose(1, 2, 0)))
        assert np.array_equal(reduced.transpose(2, 0, 1), small)
        assert data.bicubic(reduced).shape == (128, 128, 3)


def test_patches_are_where_bicubic_misses_most_and_some_where_it_does_not(data, folder):
    (folder / "large.jpg").unlink()
    large, _ = data.Patches(folder).batch(0, 200)
    flat = sum(patch.std() == 0 for patch in large)
    assert 1 <= flat < 40  # about half of the places are flat


def test_large_photographs_are_reduced_and_small_ones_kept(data, folder):
    images = data.Patches(folder, (2, 3))._images
    assert sorted(image.shape[:2] for image in images) == [(256, 512), (400, 432), (600, 648)]


def test_a_folder_without_pictures(data, tmp_path):
    with pytest.raises(SystemExit, match="holds no pictures"):
        data.Patches(tmp_path)


def test_the_card_credits_every_photograph(load_script, monkeypatch, repository, folder):
    monkeypatch.syspath_prepend(repository / "examples" / "train_tiny")
    card = load_script("examples/train_tiny/card.py")
    told = [{"file": "train/large.jpg", "author": "A. Nother", "licence": "CC0-1.0", "package": "walls 1"}]
    (folder / "train.json").write_text(json.dumps(told))
    rows = card.credits_of(folder, folder / "train.json")
    assert rows == ["| large | A. Nother | CC0-1.0 | walls 1 |", "| small |  |  |  |"]
    assert card.credits_of(folder, None) == ["| large |  |  |  |", "| small |  |  |  |"]
