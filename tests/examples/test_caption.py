"""The part of examples/caption.py that needs neither torch nor transformers: which tokens, texts and files."""

import hashlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pidsampler.io import captions


@pytest.fixture(name="caption")
def _caption(load_script):
    return load_script("examples/caption.py")


class Tokenizer:
    """A token a character, 1 before all, 0 after; it keeps what it was asked for."""

    asked = None

    def encode(self, text):
        return [1, *map(ord, text)]

    def __call__(self, text, *, max_length, padding, truncation, return_tensors):
        self.asked = text, max_length, padding, truncation, return_tensors
        ids = self.encode(text)[:max_length]
        mask = [1] * len(ids) + [0] * (max_length - len(ids))
        ids += [0] * (max_length - len(ids))
        return {"input_ids": np.array([ids]), "attention_mask": np.array([mask])}


def encoder(input_ids, attention_mask):
    """States (1, length, 2): the token and whether it is one of the text, as a tensor of torch's would be read."""
    states = np.stack([input_ids, attention_mask], axis=-1).astype(np.float32)
    tensor = SimpleNamespace(float=lambda: tensor, cpu=lambda: tensor, numpy=lambda: states[0])
    return [[tensor]]


def test_the_first_token_and_the_last_ones_are_kept(caption):
    hidden = np.arange(20.0).reshape(10, 2)
    assert np.array_equal(caption.kept(hidden, 4), hidden[[0, 7, 8, 9]])
    assert caption.kept(np.zeros((555, 3))).shape == (300, 3)
    assert np.array_equal(caption.kept(np.arange(555)[:, None])[:3, 0], [0, 256, 257])


def test_the_texts_are_nvidias(caption):
    """SHA-256 of _CHI_PROMPT, its lines joined, and of negative_prompt in nv-tlabs/PiD at 2c8814c."""
    digests = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in (caption.PREFIX, caption.NEGATIVE)]
    assert digests == ["62b9ab89eebb0ac5", "3fbcee537cdf9114"]
    assert (caption.ENCODER, caption.TOKENS) == ("Efficient-Large-Model/gemma-2-2b-it", 300)


@pytest.mark.parametrize("prompt", ["", "a cat", "x" * 400])
def test_an_embedding_of_a_prompt(caption, prompt):
    """300 places: the first, the prefix's last character, and 298 of the prompt and its padding."""
    tokenizer, prefix = Tokenizer(), caption.PREFIX
    found = caption.embedding(prompt, tokenizer, encoder)
    assert tokenizer.asked == (prefix + prompt, 1 + len(prefix) + 298, "max_length", True, "pt")
    cut = prompt[:298]
    padding = 298 - len(cut)
    assert found[:, 0].tolist() == [1, ord(prefix[-1]), *map(ord, cut), *[0] * padding]
    assert found[:, 1].tolist() == [1] * (300 - padding) + [0] * padding
    assert (found.dtype, found.shape) == (np.float32, (300, 2))


def test_files(caption, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = []

    def load(name):
        asked.append(name)
        return Tokenizer(), encoder

    caption.main(["a cat", "-o", "cat.npy"], load)
    caption.main(["", "-o", "new/null.npy", "--encoder", "mine"], load)
    caption.main(["a cat", "", "--negative", "-o", "several"], load)
    assert asked == [caption.ENCODER, "mine", caption.ENCODER]
    cat, null = (captions.read(tmp_path / name) for name in ("cat.npy", "new/null.npy"))
    assert not np.array_equal(cat, null)
    several = [captions.read(tmp_path / f"several/000{i}.npy") for i in range(3)]
    negative = caption.embedding(caption.NEGATIVE, Tokenizer(), encoder)
    assert all(map(np.array_equal, several, (cat, null, negative)))
    assert "null.npy: (null caption)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: -o/--output"),
        (["-o", "c.npy"], 'no prompt: pass one or more, "" for the null caption, or --negative'),
        (["a cat", "-o", "c.png"], "c.png does not end in .npy"),
        (["a cat", "-o", "there.npy"], "there.npy exists: move it, or pass another name"),
        (["a cat", "a dog", "-o", "there.npy"], "cannot write there.npy/0000.npy: "),
        (["a cat", "-o", "there.npy/new/x.npy"], "cannot write there.npy/new/x.npy: "),
        (["a cat", "-o", "/proc/none/x.npy"], "cannot write /proc/none/x.npy: /proc: "),
    ],
)
def test_wrong_arguments(caption, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npy").write_text("mine")
    with pytest.raises(SystemExit) as caught:
        caption.main(arguments, load=None)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.npy"]


def test_a_disk_that_is_full(caption, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", refuse)
    with pytest.raises(SystemExit, match=r"cannot write .*c\.npy: No space left on device"):
        caption.main(["a cat", "-o", str(tmp_path / "c.npy")], lambda name: (Tokenizer(), encoder))


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_what_to_install_is_said(caption, missing, tmp_path, monkeypatch):
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__name__=name, AutoModel=0, AutoTokenizer=0))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=f"{missing} is missing: pip install torch 'transformers>=4.56'"):
        caption.main(["a cat", "-o", str(tmp_path / "c.npy")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError("none is not a local folder\nand more"), "none is not a local folder"),
        (OSError(""), "OSError"),
        (ValueError("Unrecognized model in none"), "Unrecognized model in none"),
    ],
)
def test_an_encoder_that_cannot_be_had(caption, error, why, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise error

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(bfloat16=0))
    tokenizers = SimpleNamespace(from_pretrained=refuse)
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(AutoTokenizer=tokenizers, AutoModel=0))
    with pytest.raises(SystemExit, match=rf"no encoder 'none' can be had: {why}$"):
        caption.main(["a cat", "--encoder", "none", "-o", str(tmp_path / "c.npy")])
