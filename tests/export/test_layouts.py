"""The layouts of checkpoints: each line of the table in docs/checkpoints.md, and what an index may not do."""

import json
import pickle
import re

import ml_dtypes
import numpy as np
import pytest
from paths import REPOSITORY
from pickled import call, mapping, name, save_torch, write
from safetensors.numpy import save_file

from pidsampler import PidSamplerError
from pidsampler.export import shards
from pidsampler.export.checkpoint import network_tensors, read_checkpoint
from pidsampler.export.tensors import Stored, check_values
from pidsampler.export.vae import ENCODERS, canonical, random_encoder

ROW = "patch_blocks.0.attn.qkv_x.weight"
RNG = np.random.default_rng(0)
PLAIN = {
    ROW: RNG.standard_normal((6, 4)).astype(np.float32),
    "y_pos_embedding": RNG.standard_normal((1, 3)).astype(np.float32),
    "s_embedder.proj.bias": RNG.standard_normal(5).astype(np.float32),
}
OTHER = {key: array + 1 for key, array in PLAIN.items()}  # what must not be taken
E4M3 = ml_dtypes.float8_e4m3fn
EIGHT, SCALE = PLAIN[ROW].astype(E4M3), np.float32(0.37)
ROWS = np.linspace(0.1, 2, 6, dtype=np.float32)[:, None]


def below(prefix, arrays=PLAIN):
    return {prefix + key: array for key, array in arrays.items()}


def marker(**said):
    return {"net.patch_blocks.0.attn.qkv_x.comfy_quant": np.frombuffer(json.dumps(said).encode(), np.uint8)}


def beside(end, array):
    """A tensor beside the first weight of net."""
    return {f"net.{ROW.removesuffix('weight')}{end}": np.asarray(array)}


def safe(folder, arrays=None, name="net.safetensors", **changes):
    save_file({**(below("net.") if arrays is None else arrays), **changes}, folder / name)
    return folder / name


def torch(folder, tree=None, name="net.pth"):
    return save_torch(folder / name, below("net.") if tree is None else tree)


def sharded(folder, stem="net", ending="safetensors", save=save_file, change=None, **written):
    """Two shards and their index, which `change` may alter."""
    parts = [f"{stem}-0000{k}-of-00002.{ending}" for k in (1, 2)]
    arrays = below("net.")
    places = {key: parts[key != f"net.{ROW}"] for key in arrays}
    for part in parts:
        content = written.get(part[-22], {key: array for key, array in arrays.items() if places[key] == part})
        if save is save_torch:
            save_torch(folder / part, content)
        else:
            save(content, folder / part)
    if change:
        change(places)
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def diffusers(folder, **options):
    (folder / "config.json").write_text("{}")
    sharded(folder, "diffusion_pytorch_model")
    return folder


def touched(folder, *names):
    for one in names:
        (folder / one).touch()
    return folder


def saved(path, content):
    path.write_bytes(content)
    return path


def without(path):
    path.unlink()
    return path


def fp8(folder, *parts):
    arrays = below("net.") | {f"net.{ROW}": EIGHT}
    for part in parts:
        arrays |= part
    return safe(folder, arrays)


def missing_shard(folder):
    index = sharded(folder)
    (folder / "net-00002-of-00002.safetensors").unlink()
    return index


def another_copy(folder):
    index = sharded(folder)
    touched(folder, "net-00003-of-00003.safetensors")
    return index


def average(folder):
    """AveragedModel's state: `module.` and one number."""
    return torch(folder, below("module.") | {"n_averaged": np.int64(7)})


def inside(folder):
    arrays = {key.replace("blocks.0.", "blocks.0._orig_mod."): array for key, array in below("net._orig_mod.").items()}
    return safe(folder, arrays)


def changed(value):
    return below("net.") | {"net.y_pos_embedding": np.float32([[1, value, 2]])}


SMALL = {key: array.astype(E4M3) for key, array in below("net.").items()}
BUILD = {
    "safetensors": safe,
    "safetensors called .bin": lambda f: safe(f, name="net.bin"),
    "torch.save, .pth": torch,
    "torch.save, called .bin": lambda f: torch(f, name="net.bin"),
    "torch.save, called .ckpt": lambda f: torch(f, name="net.ckpt"),
    "index of safetensors shards": sharded,
    "index of torch.save shards": lambda f: sharded(f, ending="bin", save=save_torch),
    "folder with an index": lambda f: sharded(f).parent,
    "diffusers folder": lambda f: safe(touched(f, "config.json"), name="diffusion_pytorch_model.safetensors").parent,
    "diffusers folder of shards": diffusers,
    "folder with safetensors and .bin": lambda f: touched(safe(f, name="model.safetensors").parent, "model.bin"),
    "names below net.": safe,
    "names below core.": lambda f: safe(f, below("core.")),
    "names below net_ema.": lambda f: safe(f, below("net_ema.")),
    "names below model.diffusion_model.": lambda f: safe(f, below("model.diffusion_model.")),
    "names without a prefix": lambda f: safe(f, PLAIN),
    "names below module.": lambda f: safe(f, below("module.")),
    "names below module._orig_mod.net.": lambda f: safe(f, below("module._orig_mod.net.")),
    "_orig_mod. inside of names": inside,
    "average of torch.optim.swa_utils": average,
    "net. beside net_ema.": lambda f: safe(f, below("net.", OTHER) | below("net_ema.")),
    "names without a prefix beside net_ema.": lambda f: safe(f, OTHER | below("net_ema.")),
    '{"state_dict": ...}': lambda f: torch(f, {"state_dict": below("net.")}),
    '{"state_dict": ...} beside a bare tensor': lambda f: torch(f, {"step": np.int64(3), "state_dict": below("net.")}),
    '{"model": ...} beside an optimizer': lambda f: torch(f, {"model": PLAIN, "optimizer": {"m": OTHER[ROW]}}),
    '{"model": ..., "state_dict": ...}': lambda f: torch(f, {"model": PLAIN, "state_dict": OTHER}),
    '{"model": ..., "ema": ...}': lambda f: torch(f, {"model": OTHER, "ema": PLAIN | {"decay": np.float32(0.9)}}),
    '{"model": ..., "ema": ...} of names below net.': lambda f: torch(
        f, {"model": below("net.", OTHER), "ema": below("net.")}
    ),
    '{"net": ..., "ema_net": ...}': lambda f: torch(f, {"net": OTHER, "ema_net": PLAIN}),
    '{"model": ..., "ema": {"shadow": ...}}': lambda f: torch(f, {"model": OTHER, "ema": {"shadow": PLAIN}}),
    'names without a prefix beside {"ema": ...}': lambda f: torch(f, OTHER | {"ema": PLAIN}),
    '{"generator": ..., "ema": ...}': lambda f: torch(f, {"generator": OTHER, "ema": PLAIN}),
    '{"model": ..., "teacher": ...}': lambda f: torch(f, {"model": PLAIN, "teacher": OTHER}),
    '{"model": ..., "ema": [...]}': lambda f: torch(f, {"model": PLAIN, "ema": list(OTHER.values())}),
    "fp8 with weight_scale": lambda f: fp8(
        f,
        beside("weight_scale", SCALE),
        beside("input_scale", SCALE),
        marker(format="float8_e4m3fn", full_precision_matrix_mult=True),
    ),
    "fp8 with weight_scale for each row": lambda f: fp8(f, beside("weight_scale", ROWS)),
    "fp8 with scale_weight and scaled_fp8": lambda f: fp8(
        f, beside("scale_weight", [SCALE]), beside("scale_input", 1.0), {"net.scaled_fp8": np.zeros(2, E4M3)}
    ),
    "fp8 without scales": lambda f: safe(f, SMALL),
    "fp8, a scale is missing": lambda f: safe(f, SMALL | beside("weight_scale", SCALE)),
    "fp8 with a scale of 0": lambda f: fp8(f, beside("weight_scale", np.float32(0))),
    "int8, marked": lambda f: fp8(
        f, beside("weight", np.ones((6, 4), np.int8)), beside("weight_scale", SCALE), marker(format="int8_tensorwise")
    ),
    "int8, not marked": lambda f: fp8(f, beside("weight", np.ones((6, 4), np.int8)), beside("weight_scale", SCALE)),
    "mxfp8": lambda f: fp8(f, beside("weight_scale", np.ones((6, 1), np.uint8)), marker(format="mxfp8")),
    "fp8 with a scale for each block": lambda f: fp8(f, beside("weight_scale", np.ones((3, 2), np.float32))),
    "fp8 of smoothed weights": lambda f: fp8(f, beside("weight_scale", SCALE), beside("pre_quant_scale", np.ones(4))),
    "fp8 of rotated weights": lambda f: fp8(
        f, beside("weight_scale", SCALE), marker(format="float8_e4m3fn", convrot=True)
    ),
    "GGUF": lambda f: saved(f / "net.gguf", b"GGUF" + bytes(100)),
    "integers": lambda f: safe(f, below("net.") | beside("weight", np.ones((6, 4), np.int8))),
    "another network": lambda f: safe(f, {"conv.weight": np.ones(3)}),
    "one shard": lambda f: sharded(f).with_name("net-00001-of-00002.safetensors"),
    "shards without an index": lambda f: without(sharded(f)).parent,
    "a shard is missing": missing_shard,
    "a shard of another copy": another_copy,
    "a tensor is missing in a shard": lambda f: sharded(
        f, change=lambda places: places.update({"net.lost": places["net.y_pos_embedding"]})
    ),
    "a tensor is not in the index": lambda f: sharded(f, change=lambda places: places.pop("net.s_embedder.proj.bias")),
    "an index of files elsewhere": lambda f: sharded(
        f, change=lambda places: places.update({f"net.{ROW}": f"../{places[f'net.{ROW}']}"})
    ),
    "an index that is none": lambda f: saved(f / "net.index.json", b'{"weight_map": ["a"]}'),
    "folder with two checkpoints": lambda f: touched(f, "a.safetensors", "b.safetensors"),
    "folder without a checkpoint": lambda f: touched(f, "readme.txt"),
    "folder of torch.distributed.checkpoint": lambda f: touched(f, ".metadata", "__0_0.distcp"),
    "whole diffusers pipeline": lambda f: touched(f, "model_index.json"),
    "torch.save before 1.6": lambda f: saved(f / "net.pth", pickle.dumps(0x1950A86A20F9469CFC6C, 2)),
    "torch.save of a whole module": lambda f: write(f / "net.pth", name("__main__", "Net") + b")\x81" + mapping({})),
    "torch.save of fp8": lambda f: write(
        f / "net.pth", mapping({ROW: call(name("torch._utils", "_rebuild_tensor_v3"))})
    ),
    "pointer of Git LFS": lambda f: saved(f / "net.pth", b"version https://git-lfs.github.com/spec/v1\n"),
    "a name twice": lambda f: safe(f, below("net.") | below("net._orig_mod.")),
    "NaN": lambda f: safe(f, changed(np.nan)),
    "too large for float16": lambda f: safe(f, changed(-1e5)),
}
PAGE = (REPOSITORY / "docs" / "checkpoints.md").read_text(encoding="utf-8").split("## Layouts that are accepted")[1]
TABLE = re.findall(r"^\| (.+?) \| (read|said|refused) \| (?:`(.+)` )?\|$", PAGE.split("\n## ")[0], re.MULTILINE)


def expected(layout):
    """What the weights are read as."""
    if not layout.startswith("fp8"):
        return PLAIN
    if "without" in layout:
        return {key: array.astype(E4M3).astype(np.float32) for key, array in PLAIN.items()}
    return PLAIN | {ROW: EIGHT.astype(np.float32) * (ROWS if "row" in layout else SCALE)}


def test_the_table_has_a_line_for_each_layout():
    assert [layout for layout, _, _ in TABLE] == list(BUILD)
    assert all(bool(words) == (result != "read") for _, result, words in TABLE)


@pytest.mark.parametrize(("layout", "result", "words"), TABLE, ids=[line[0] for line in TABLE])
def test_each_line_of_the_table(tmp_path, layout, result, words):
    path = BUILD[layout](tmp_path)
    notes = []

    def read():
        found = network_tensors(read_checkpoint(path, note=notes.append).tensors, note=notes.append)
        check_values(found, dtype=np.dtype(np.float16 if "float16" in layout else np.float32), where=str(path))
        return found

    if result == "refused":
        with pytest.raises(PidSamplerError) as caught:
            read()
        assert words in str(caught.value)
        assert str(caught.value).isprintable()
        return
    found = read()
    assert [words in note for note in notes] == [True] * (result == "said")
    assert {key: found[key].load().tolist() for key in found} == {k: v.tolist() for k, v in expected(layout).items()}


# Which copy: the average wherever it lies, and nothing is left out in silence
AVERAGES = {
    "ema.shadow.": lambda a, b: {"model": a, "ema": {"shadow": b}},
    "averaged_model.": lambda a, b: {"model": a, "averaged_model": b},
    "averaged_state_dict.": lambda a, b: {"state_dict": a, "averaged_state_dict": b},
    "ema_weights.": lambda a, b: {"model": a, "ema_weights": b},
    "ema_params.": lambda a, b: {"net": a, "ema_params": b},
    "EMA.": lambda a, b: {"model": a, "EMA": b},
    "ema.module.": lambda a, b: {"model": a, "ema": {"module": b, "decay": 0.9}},
    "ema_0_999.": lambda a, b: {"model": below("net.", a), "ema_0.999": b},
    "swa.": lambda a, b: {"swa": b, "last": {"model": a}, "optimizer": {"state": [{"exp_avg": a[ROW]}]}},
}


@pytest.mark.parametrize("prefix", AVERAGES)
def test_the_average_is_taken_by_any_name(tmp_path, prefix):
    notes = []
    path = torch(tmp_path, AVERAGES[prefix](OTHER, PLAIN))
    found = network_tensors(read_checkpoint(path, note=notes.append).tensors, note=notes.append)
    assert {key: found[key].load().tolist() for key in found} == {key: PLAIN[key].tolist() for key in PLAIN}
    assert len(notes) == 1
    assert f"it holds the model more than once: {prefix} is taken, the average of training; not " in notes[0]


@pytest.mark.parametrize(
    "tree",
    [
        {"state_dict": {"model": PLAIN}},
        {"generator": PLAIN, "optimizer": {"state": [{"exp_avg": OTHER[ROW]}]}},
        {"model": PLAIN, "optimizer": {"state": {0: {"exp_avg": OTHER[ROW]}}}},
        {"model": PLAIN | {"step": np.int64(3)}, "step": np.int64(3)},
    ],
)
def test_one_copy_is_no_choice(tmp_path, tree):
    notes = []
    found = network_tensors(read_checkpoint(torch(tmp_path, tree), note=notes.append).tensors, note=notes.append)
    assert {key: found[key].load().tolist() for key in found} == {key: PLAIN[key].tolist() for key in PLAIN}
    assert notes == []


def test_an_average_without_names_is_said(tmp_path):
    notes = []
    tree = {"model": PLAIN, "ema": {"decay": np.float32(0.9), "shadow_params": list(OTHER.values())}}
    found = read_checkpoint(torch(tmp_path, tree), note=notes.append).tensors
    assert list(found) == list(PLAIN)
    assert [note.partition(": ")[2] for note in notes] == [
        "model. is taken; not ema.shadow_params. (a list without names)"
    ]


def test_many_copies_are_said_in_a_short_line(tmp_path):
    notes = []
    tree = {"model": PLAIN} | {f"{k}\n" + "x" * 200: PLAIN for k in range(40)}
    read_checkpoint(torch(tmp_path, tree), note=notes.append)
    assert len(notes) == 1
    assert notes[0].isprintable()
    assert notes[0].endswith(" and 34 more")
    assert len(notes[0]) < 1000


def test_two_networks_without_a_known_name_are_refused(tmp_path):
    with pytest.raises(PidSamplerError, match=r"whose names begin with a\. \(3\), b\. \(3\)"):
        network_tensors(read_checkpoint(torch(tmp_path, {"a": PLAIN, "b": OTHER})).tensors)


@pytest.mark.parametrize("wrong", [0.0, -0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("scale", [SCALE, ROWS])
def test_a_scale_is_a_positive_number(tmp_path, wrong, scale):
    scale = np.array(scale)
    scale.reshape(-1)[-1] = wrong
    path = fp8(tmp_path, beside("weight_scale", scale))
    with pytest.raises(PidSamplerError, match=r"qkv_x\.weight_scale holds .*, expected numbers above 0: take the bf16"):
        network_tensors(read_checkpoint(path).tensors)


# The same for an encoder


@pytest.mark.parametrize("prefix", ["", "module.", "vae.", "_orig_mod.", "state_dict.first_stage_model."])
def test_an_encoder_below_prefixes(tmp_path, prefix):
    encoder = ENCODERS["sdxl"].reduced()
    arrays = {key: one.load() for key, one in random_encoder(encoder, 1).items()}
    sums = below("ema." + prefix, arrays) | below(prefix, {key: array + 1 for key, array in arrays.items()})
    notes = []
    for tensors in (below(prefix, arrays), sums):
        save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
        found = canonical(read_checkpoint(tmp_path).tensors, encoder, note=notes.append)
        assert all(np.array_equal(found[key].load(), array) for key, array in arrays.items())
    assert [" is taken, the average of training; not " in note for note in notes] == [True]


def test_an_encoder_of_fp8(tmp_path):
    encoder = ENCODERS["sdxl"].reduced()
    arrays = {key: one.load() for key, one in random_encoder(encoder, 1).items()}
    layer = "encoder.conv_in"
    arrays[f"{layer}.weight"] = arrays[f"{layer}.weight"].astype(E4M3)
    notes = []
    found = canonical(
        {key: Stored.of(array) for key, array in (arrays | {f"{layer}.weight_scale": np.float32([3])}).items()},
        encoder,
        note=notes.append,
    )
    assert np.array_equal(found[f"{layer}.weight"].load(), arrays[f"{layer}.weight"].astype(np.float32) * 3)
    assert len(notes) == 1


# An index is data of others


@pytest.mark.parametrize(
    "place",
    [
        "../x.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "a\\b",
        "C:x",
        "..",
        ".",
        "",
        "a\nb",
        "x" * 256,
        3,
        None,
        ["a"],
    ],
)
def test_an_index_names_files_of_its_own_folder(tmp_path, place):
    path = saved(tmp_path / "n.index.json", json.dumps({"weight_map": {"w": place}}).encode())
    with pytest.raises(PidSamplerError, match=r"expected the name of a file in its own folder") as caught:
        read_checkpoint(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "it is not JSON of an index"),
        (b"\xff", "it is not JSON of an index"),
        (b"[" * 100_000, "it is not JSON of an index"),
        (b'{"weight_map": {"a": "x", "a": "y"}}', "it has the name 'a' twice"),
        (b"[]", "no index of shards"),
        (b"{}", "no index of shards"),
        (b'{"weight_map": {}}', "no index of shards"),
    ],
    ids=str,
)
def test_an_index_that_is_damaged(tmp_path, content, words):
    with pytest.raises(PidSamplerError, match=words):
        read_checkpoint(saved(tmp_path / "n.index.json", content))


def test_an_index_has_limits(tmp_path, monkeypatch):
    path = saved(tmp_path / "n.index.json", json.dumps({"weight_map": {str(k): f"{k}.bin" for k in range(9)}}).encode())
    monkeypatch.setattr(shards, "_SHARDS", 8)
    with pytest.raises(PidSamplerError, match="9 shards, expected up to 8"):
        read_checkpoint(path)
    monkeypatch.setattr(shards, "_INDEX_BYTES", 20)
    with pytest.raises(PidSamplerError, match="up to 20 bytes"):
        read_checkpoint(path)


def test_a_damaged_shard_is_named(tmp_path):
    index = sharded(tmp_path)
    (tmp_path / "net-00002-of-00002.safetensors").write_bytes(b"\x00" * 30)
    with pytest.raises(PidSamplerError, match=r"its shard net-00002-of-00002\.safetensors: its tensors take|header"):
        read_checkpoint(index)


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"format": ["float8_e4m3fn"]}', b"\xff\xfe", b" " * 5000])
def test_a_marker_that_is_damaged(content):
    tensors = {"net." + ROW: Stored.of(EIGHT)}
    tensors["net.patch_blocks.0.attn.qkv_x.comfy_quant"] = Stored.of(np.frombuffer(content, np.uint8))
    with pytest.raises(PidSamplerError, match=r"patch_blocks\.0\.attn\.qkv_x .*take the bf16 or fp32 file"):
        network_tensors(tensors)


def test_numbers_that_just_fit():
    """65519 is rounded down to the largest float16, 65520 up to infinity; of bfloat16's it is 3.39e38."""
    for dtype, largest, more in ((np.float16, 65519, 65520), (ml_dtypes.bfloat16, 3.3895e38, 3.4e38)):
        check_values({"w": Stored.of(np.float32([largest, -largest]))}, dtype=np.dtype(dtype), where="F")
        for wrong in (more, -more):
            with pytest.raises(PidSamplerError, match=f"F: w holds .*too large for {np.dtype(dtype)}"):
                check_values({"w": Stored.of(np.float32([wrong, 0]))}, dtype=np.dtype(dtype), where="F")
    for wrong in (np.nan, np.inf, -np.inf):
        for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
            with pytest.raises(PidSamplerError, match="F: w holds NaN or infinity"):
                check_values({"w": Stored.of(np.array([0, wrong, 1], dtype))}, dtype=np.dtype(np.float32), where="F")
    check_values({"w": Stored.of(np.zeros((0, 3)))}, dtype=np.dtype(np.float16), where="F")
