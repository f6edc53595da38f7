"""Checkpoints read without PyTorch. The .pth files are pickles written by hand, and two that PyTorch made."""

import io
import json
import math
import os
import pickle
import posix
import struct
import sys
import threading
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paths import PARITY
from pickled import ONE, STORAGES, call, group, mapping, name, number, storage, tensor, text, write
from safetensors.numpy import save_file

from pidsampler import PidSamplerError
from pidsampler.export import pickles
from pidsampler.export.checkpoint import network_tensors, read_checkpoint
from pidsampler.export.pickles import read_pickle
from pidsampler.export.tensors import Stored


def refusal(path):
    with pytest.raises(PidSamplerError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message
    return message.replace(str(path), "PATH")


# What PyTorch writes


def test_a_file_of_pytorch_with_everything_in_it():
    """Made by parity/checkpoint_files.py: tied, strided and stretched tensors, every type, and much that is none."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    thirds = np.arange(5, dtype=np.float32)
    expected = {
        "float32": base,
        "tied": base,
        "transposed": base.T,
        "slice": base[1:3, 1::2],
        "expanded": np.repeat(np.float32([[1], [2], [3]]), 4, 1),
        "bfloat16": (thirds.astype(ml_dtypes.bfloat16).astype(np.float32) / 3).astype(ml_dtypes.bfloat16),
        "float16": (thirds / 3).astype(np.float16),
        "float64": np.arange(5) / 3,
        "int64": np.arange(-2, 3),
        "uint8": np.arange(250, 255, dtype=np.uint8),
        "bool": np.arange(5) % 2 == 0,
        "complex64": np.arange(3, dtype=np.complex64) + np.complex64(1j),
        "scalar": np.float32(1.609375),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.full((2, 2), 0.5, np.float32),
    }
    tensors = read_checkpoint(PARITY / "checkpoint_wrapped.pth").tensors
    assert list(tensors) == [f"net.{name}" for name in expected]
    for key, array in expected.items():
        stored = tensors[f"net.{key}"]
        found = stored.load()
        assert (stored.shape, stored.dtype) == (found.shape, found.dtype) == (array.shape, array.dtype), key
        assert found.flags.c_contiguous
        assert np.array_equal(found, array), key


def test_a_state_dict_of_a_module_without_checksums():
    """An OrderedDict whose `_metadata` is set by BUILD, pickle protocol 4, and no CRC computed."""
    tensors = read_checkpoint(PARITY / "checkpoint_plain.pth").tensors
    assert tensors["net.weight"].load().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["net.bias"].load().tolist() == [0, 1]


def test_where_the_tensors_are_found(tmp_path):
    path = tmp_path / "a.pth"
    two = {"v": ONE["w"]}
    others = {"epoch": number(3), "lr": number(0.1), "names": b"]" + text("a") + b"a"}
    others["none"] = call(name("__builtin__", "bytes"))
    for entries, names in [
        ({**ONE, **others, "extra": mapping(two)}, ["w"]),
        ({"state_dict": mapping(ONE), **others, "empty": b"}"}, ["w"]),
        ({"epoch": number(1), "model": mapping(ONE), "optimizer": mapping({"state": mapping(two)})}, ["w"]),
        ({"net": mapping(ONE), "net_ema": mapping(two)}, ["net.w", "net_ema.v"]),
    ]:
        assert list(read_checkpoint(write(path, mapping(entries))).tensors) == names
    assert "holds no tensors by name, only epoch, lr, names, none:" in refusal(write(path, mapping(others)))
    assert "only nothing" in refusal(write(path, b"}"))
    assert "no dict but a tensor" in refusal(write(path, ONE["w"]))
    assert "no dict but a list" in refusal(write(path, b"]"))
    assert "a tensor's name is 'a\\nb'" in refusal(write(path, mapping({"a\nb": ONE["w"]})))


def test_the_folder_of_the_archive_has_any_name_and_the_byte_order_may_be_missing(tmp_path):
    path = write(tmp_path / "a.pt", mapping(ONE), folder="model_ema_bf16", byteorder=None)
    assert read_checkpoint(path).tensors["w"].load().tolist() == [1, 2]


@pytest.mark.parametrize("dtype", sorted(STORAGES))
def test_the_other_byte_order(tmp_path, dtype):
    values = np.array([1, 0, 1, 1, 0, 0]).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    part = values.itemsize // 2 if values.dtype.kind == "c" else values.itemsize
    order = {"little": "big", "big": "little"}[sys.byteorder]
    body = mapping({"w": tensor("0", dtype, 6, (2, 2), (1, 3), 1)})
    swapped = values.view(f"u{part}").byteswap().tobytes()
    found = read_checkpoint(write(tmp_path / "a.pth", body, {"0": swapped}, byteorder=order)).tensors["w"].load()
    assert np.array_equal(found, [[values[1], values[4]], [values[2], values[5]]])


# What a .pth may not do


def shell(path):
    return f"touch {path}"


class Reduced:
    def __init__(self, *reduction):
        self.reduction = reduction

    def __reduce__(self):
        return self.reduction


def hostile(marker):
    """Pickles that would run something, each with what its refusal names."""
    command = text(shell(marker))
    short = b"\x8c\x08builtins\x8c\x04eval\x93"
    ordered = name("collections", "OrderedDict")
    system = name("os", "system")
    return {
        "GLOBAL and REDUCE": (call(system, command), "call os.system"),
        "STACK_GLOBAL": (short + b"(" + text("1") + b"tR", "call builtins.eval"),
        "__reduce__": (pickle.dumps(Reduced(posix.system, (shell(marker),)), 2)[2:-1], "call posix.system"),
        "protocol 0": (pickle.dumps(Reduced(os.system, (shell(marker),)), 0)[:-1], "call posix.system"),
        "__setstate__": (call(ordered) + mapping({"__setstate__": system}) + b"b", "call os.system"),
        "BUILD on a dict": (b"}" + mapping({"a": number(1)}) + b"b", "set the state of a dict"),
        "BUILD with slots": (call(ordered) + b"N" + b"}\x86b", "set the state of an OrderedDict"),
        "BUILD on a tensor": (ONE["w"] + b"}b", "set the state of a tensor"),
        "BUILD on a class": (ordered + b"}b", "set the state of collections.OrderedDict"),
        "torch.load": (call(name("torch", "load"), text("b.pth")), "call torch.load"),
        "nested in a dict": (mapping({"w": ONE["w"], "x": call(system, command)}), "call os.system"),
        "in a hook": (
            call(name("torch._utils", "_rebuild_parameter"), ONE["w"], b"\x88", call(system, command)),
            "call os.system",
        ),
        "INST": (b"(" + command + b"ios\nsystem\n", "make an object of os.system by INST"),
        "INST of what may be called": (b"(icollections\nOrderedDict\n", "make an object of collections.OrderedDict"),
        "OBJ": (b"(" + ordered + b"o", "make an object of collections.OrderedDict by OBJ"),
        "NEWOBJ": (ordered + b")\x81", "make an object of collections.OrderedDict by NEWOBJ"),
        "NEWOBJ_EX": (ordered + b")}\x92", "make an object of collections.OrderedDict by NEWOBJ_EX"),
        "EXT1": (b"\x82\x01)R", "import extension 1 of copyreg"),
        "EXT2": (b"\x83\x01\x01)R", "import extension 257 of copyreg"),
        "EXT4": (b"\x84\x01\x00\x00\x00)R", "import extension 1 of copyreg"),
        "PERSID": (b"Pstorage\n", "use the instruction PERSID"),
        "NEXT_BUFFER": (b"\x97", "use the instruction NEXT_BUFFER"),
        "getattr": (call(name("builtins", "getattr"), ordered, text("__init__")), "call builtins.getattr"),
        "a dotted name": (text("torch") + text("_utils.os.system") + b"\x93", "call torch._utils.os.system"),
        "another of torch._utils": (name("torch._utils", "_rebuild_wrapper_subclass"), "_rebuild_wrapper_subclass"),
        "a storage that is made": (call(name("torch", "FloatStorage"), number(3)), "call torch.FloatStorage"),
        "a call of a text": (text("os.system") + group(command) + b"R", "call a str"),
        "a call of a tensor": (ONE["w"] + b")R", "call a tensor"),
        "a call of a dict": (b"})R", "call a dict"),
        "append of a dict": (b"}" + number(1) + b"a", "append to a dict"),
        "items of a list": (b"]" + number(1) + number(2) + b"s", "set items of a list"),
        "another encoding": (call(name("_codecs", "encode"), text("a"), text("rot13")), "call _codecs.encode"),
        "a long name with newlines": (text("a\nb" * 60) + text("c") + b"\x93", "call 'a\\nba\\nb"),
    }


@pytest.mark.parametrize("kind", hostile(""))
def test_a_pth_that_is_a_program_is_refused_and_not_run(tmp_path, kind):
    marker = tmp_path / "ran"
    body, named = hostile(marker)[kind]
    for protocol, whole in ((2, body), (4, mapping({"state": body, **ONE}))):
        message = refusal(write(tmp_path / "a.pth", whole, protocol=protocol))
        assert message.startswith("cannot read PATH: a .pth is a program; this one wants to ")
        assert named in message
        assert "nothing of it was run" in message
    assert not marker.exists()


def test_the_hostile_ones_do_run_where_they_are_not_refused(tmp_path):
    """Else the test above would prove nothing."""
    for kind in ("GLOBAL and REDUCE", "__reduce__", "protocol 0"):
        marker = tmp_path / kind.replace(" ", "")
        pickle.loads(hostile(marker)[kind][0] + b".")
        assert marker.exists()


def test_nothing_is_imported(tmp_path):
    """A name that may be used stays a name as well: torch is not needed and antigravity not opened."""
    assert "antigravity" in refusal(write(tmp_path / "a.pth", name("antigravity", "fly")))
    assert not {"antigravity", "torch"} & set(sys.modules)


BOMBS = {
    "bytes of 1 GB": b"\x8e" + struct.pack("<Q", 10**9),
    "text of 4 GB": b"X" + struct.pack("<I", 2**32 - 1) + b"a",
    "a frame of 1 GB": b"\x95" + struct.pack("<Q", 10**9),
    "a memo of 4 billion": b"Nr" + struct.pack("<I", 2**32 - 1),
    "a memo beyond 64 bits": b"Np" + b"9" * 40 + b"\n",
    "a number of 10,000 digits": b"L" + b"9" * 10_000 + b"L\n",
    "a negative length": b"\x8b" + struct.pack("<i", -5),
    "2 GB of digits": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01",
    "too many instructions": b"N0" * 10_001,
    "no end": b"(((((",
    "marks without values": b"(t" * 3 + b"t",
    "an empty stack": b"000000",
    "half an entry": b"}(" + text("a") + b"u",
    "what was not remembered": b"h\x07",
    "sets of no lists": call(name("builtins", "set"), number(1)),
    "too many arguments": call(name("torch", "Size"), b")", b")"),
    "a size of no tuple": call(name("torch", "Size"), b"]"),
    "no arguments": name("torch", "Size") + b"NR",
    "a name that is none": number(1) + number(2) + b"\x93",
    "an unknown instruction": b"\xff",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_and_nonsense_are_refused_in_little_memory(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(pickles, "_INSTRUCTIONS", 20_000)
    path = write(tmp_path / "a.pth", BOMBS[kind])
    tracemalloc.start()
    try:
        message = refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    assert "pickle" in message


def test_deep_nesting_is_read_or_refused_but_ends():
    """20,000 deep on a stack of 256 kB: nothing walks down a pickle's values, to hash, to print or to free them."""
    hooks, rebuild = call(name("collections", "OrderedDict")), name("torch._utils", "_rebuild_tensor_v2")

    def run():
        for opening, closing in ((b"]", b"a"), (b"(", b"t"), (b"(", b"l"), (b"", b"\x85")):
            deep = opening * 20_000 + b"N" + closing * 20_000
            assert type(read_pickle(b"\x80\x02" + deep + b".")) in (list, tuple)
            odd = call(rebuild, storage("0", "float32", 2), number(0), group(number(1)), group(deep), b"\x89", hooks)
            with pytest.raises(PidSamplerError, match=r"of shape \[1\] and strides \[a (list|tuple)\]"):
                read_pickle(b"\x80\x02" + odd + b".")

    before = threading.stack_size(1 << 18)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(run).result()
    finally:
        threading.stack_size(before)


def test_keys_are_not_hashed():
    """A tuple 100,000 deep as a key would overflow the C stack; numbers that collide would take hours."""
    deep = b"N" + b"\x85" * 100_000
    entries = read_pickle(b"\x80\x02}" + deep + b"Nsq\x00." + b"")
    assert isinstance(entries, pickles.Entries)
    colliding = b"}(" + b"".join(number(n * sys.hash_info.modulus) + b"N" for n in range(20_000)) + b"u."
    assert len(read_pickle(b"\x80\x02" + colliding)) == 20_000


# Tensors that do not fit their data


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (tensor("0", "float32", 3, (3,), (1,)), "data/0 has 8 bytes, its 3 elements of float32 need 12"),
        (tensor("0", "float32", 2, (3,), (1,)), "of shape [3] and strides [1] at 0 reaches outside the 2 elements"),
        (tensor("0", "float32", 2, (1,), (1,), 2), "at 2 reaches outside the 2 elements"),
        (tensor("0", "float32", 2, (2, 2), (1, 1)), "reaches outside"),
        (tensor("0", "float32", 2, (-1,), (1,)), "of shape [-1] and strides [1] at [0]: expected whole numbers from 0"),
        (tensor("0", "float32", 2, (2,), (-1,), 1), "expected whole numbers from 0"),
        (tensor("0", "float32", 2, (1,), (1,), -1), "expected whole numbers from 0"),
        (tensor("0", "float32", 2, (2**62,), (0,)), "expected whole numbers from 0"),
        (tensor("0", "float32", 2, (2**40, 2**40), (0, 0)), "stretched from 2 elements"),
        (tensor("0", "float32", 2, (0, 2**61, 2**61), (0, 0, 0)), "stretched from 2 elements"),
        (tensor("0", "float32", 2, (2,), (1, 1)), "has 1 sizes and 2 strides"),
        (tensor("0", "float32", 2, (1,) * 40, (1,) * 40), "has 40 sizes"),
        (tensor("0", "float32", -2, (2,), (1,)), "a storage is not"),
        (tensor("7", "float32", 2, (2,), (1,)), "it has no record data/7"),
        (tensor("../data.pkl", "float32", 2, (2,), (1,)), "it has no record data/../data.pkl"),
        (tensor("0", "float32", 2, (2,), (1,)).replace(b"}R", b"").replace(b"\x89", text("a")), ""),
    ],
)
def test_sizes_that_do_not_fit(tmp_path, body, named):
    path = write(tmp_path / "a.pth", mapping({"w": body}))
    if named:
        assert named in refusal(path)
    else:
        assert read_checkpoint(path).tensors["w"].load().tolist() == [1, 2]  # what asks for gradients is not looked at


def test_a_conjugated_view_and_arguments_of_other_kinds(tmp_path):
    rebuild, hooks = name("torch._utils", "_rebuild_tensor_v2"), call(name("collections", "OrderedDict"))
    one = [storage("0", "complex64", 1), number(0), group(number(1)), group(number(1)), b"\x89", hooks]
    conjugated = call(rebuild, *one, mapping({"conj": b"\x88"}))
    path = tmp_path / "a.pth"
    assert "conjugated or negated view" in refusal(write(path, mapping({"w": conjugated})))
    assert read_checkpoint(write(path, mapping({"w": call(rebuild, *one, b"}")}))).tensors["w"].load().size == 1
    for index, wrong in ((0, number(1)), (2, b"]"), (3, b"N")):
        arguments = [wrong if i == index else part for i, part in enumerate(one)]
        assert "no storage, shape or strides" in refusal(write(path, mapping({"w": call(rebuild, *arguments)})))
    parameter = call(name("torch._utils", "_rebuild_parameter"), number(1), b"\x88", hooks)
    assert "a parameter holds no tensor" in refusal(write(path, mapping({"w": parameter})))
    for kind in (name("collections", "OrderedDict"), text("FloatStorage")):
        odd = group(text("storage"), kind, text("0"), text("cpu"), number(1)) + b"Q"
        assert "a storage is not" in refusal(write(path, odd))


def test_a_tensor_takes_its_own_memory_and_no_more(tmp_path):
    array = np.arange(2_000_000, dtype=np.float32)
    body = {
        "all": tensor("0", "float32", array.size, (1000, 2000), (2000, 1)),
        "part": tensor("0", "float32", array.size, (10, 20), (2000, 1), 4000),
    }
    save_file({"a": array, "b": array}, tmp_path / "a.safetensors")
    tensors = read_checkpoint(write(tmp_path / "a.pth", mapping(body), {"0": array.tobytes()})).tensors
    tensors |= read_checkpoint(tmp_path / "a.safetensors").tensors
    for key, limit in (("part", 5e6), ("all", 8.5e6), ("a", 8.5e6)):
        tracemalloc.start()
        found = tensors[key].load()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < limit, key
        assert found.sum(dtype=np.float64) > 0
    assert np.array_equal(tensors["part"].load(), array.reshape(1000, 2000)[2:12, :20])


# Files that are none


def test_files_that_are_none(tmp_path):
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "empty.pth").touch()
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "dangling.pt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "page.pth").write_bytes(b"<html>not found</html>")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    (tmp_path / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(100))
    os.mkfifo(tmp_path / "pipe.pth")
    for file, named in {
        "missing.pth": "there is no such file",
        "missing.safetensors": "there is no such file",
        "dangling.pt": "there is no such file",
        "folder.pth": "it is a folder without a checkpoint",
        "pipe.pth": "it is a device or a pipe",
        "empty.pth": "it is empty",
        "empty.safetensors": "it is empty",
        "page.pth": "it begins with b'<htm'",
        "old.pth": "saved by PyTorch before 1.6",
        "pointer.safetensors": "it is a pointer of Git LFS",
        "model.gguf": "it is a GGUF file",
    }.items():
        assert named in refusal(tmp_path / file), file


def test_a_link_is_followed(tmp_path):
    (tmp_path / "blobs").mkdir()
    write(tmp_path / "blobs" / "0123", mapping(ONE))
    (tmp_path / "a.pth").symlink_to("blobs/0123")
    assert read_checkpoint(tmp_path / "a.pth").tensors["w"].load().tolist() == [1, 2]


def test_archives_that_torch_save_does_not_make(tmp_path):
    path = tmp_path / "a.pth"
    assert "is compressed or encrypted" in refusal(write(path, mapping(ONE), compress=zipfile.ZIP_DEFLATED))
    assert "its byte order is b'middle'" in refusal(write(path, mapping(ONE), byteorder="middle"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "with 0 FOLDER/data.pkl" in refusal(path)
    with zipfile.ZipFile(write(path, mapping(ONE)), "a") as archive:
        archive.writestr("other/data.pkl", b"N.")
    assert "with 2 FOLDER/data.pkl" in refusal(path)
    with zipfile.ZipFile(write(path, mapping(ONE)), "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", bytes(8))
    assert "two records of one name" in refusal(path)
    write(path, mapping(ONE), {"0": bytes(8), "big": b""})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/1", bytes(80))
    body = mapping({"w": tensor("1", "float32", 2, (2,), (1,))})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        archive.writestr("archive/data/1", bytes(80), zipfile.ZIP_DEFLATED)
    assert "its record data/1 is compressed" in refusal(path)


def test_a_pickle_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("pidsampler.export.torch_file._PICKLE_BYTES", 100)
    assert "expected up to 100" in refusal(write(tmp_path / "a.pth", mapping(ONE)))


def test_a_file_that_changes_after_it_was_read(tmp_path):
    write(tmp_path / "a.pth", mapping(ONE))
    save_file({"w": np.ones(3)}, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.pth", tmp_path / "a.safetensors"):
        load = read_checkpoint(path).tensors["w"].load
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(PidSamplerError, match=rf"cannot read {path}: .*(truncated|shorter)"):
            load()
        path.unlink()
        with pytest.raises(PidSamplerError, match=f"cannot read {path}: No such file"):
            load()


# safetensors


def test_safetensors_of_every_type(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in ("f8", "f4", "f2", "i8", "i4", "i2", "i1")}
    arrays |= {kind: np.arange(6).reshape(3, 2).astype(kind) for kind in ("u8", "u4", "u2", "u1", "?")}
    arrays |= {str(kind): np.ones((2, 2), kind) for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)}
    arrays |= {"scalar": np.float32(3), "empty": np.zeros((2, 0), np.float32)}
    save_file({key: np.asarray(value) for key, value in arrays.items()}, path, {"made": "by hand"})
    tensors = read_checkpoint(path).tensors
    assert set(tensors) == set(arrays)
    for key, array in arrays.items():
        found = tensors[key].load()
        assert (found.dtype, found.shape) == (array.dtype, array.shape) == (tensors[key].dtype, tensors[key].shape)
        assert np.array_equal(found, array)


def by_hand(path, header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def entry(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_a_header_that_no_real_file_has(tmp_path):
    """JSON takes many times its size in memory."""
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 95_000_000))
        file.truncate(95_000_008)
    assert "its header has 95000000 bytes, more than the 8000000 that any real file has" in refusal(path)


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (b"{", "its header is not JSON of safetensors"),
        (b"\xff\xfe", "its header is not JSON of safetensors"),
        (b"[" * 100_000, "its header is not JSON of safetensors"),
        (b"[1]", "its header is a list"),
        (b'{"a": {}, "a": {}}', "it has the name 'a' twice"),
        ({"a": 1}, "no dtype, shape and two data_offsets"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}, "no dtype, shape and two data_offsets"),
        ({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, "no dtype, shape and two data_offsets"),
        ({"a": entry(0, 8, dtype="F8_E8M0")}, "its tensor a is F8_E8M0, expected F64, F32"),
        ({"a": entry(0, 8, [-2])}, "no whole numbers from 0"),
        ({"a": entry(0, 8, [2.0])}, "no whole numbers from 0"),
        ({"a": entry(0, 8, [True, 2])}, "no whole numbers from 0"),
        ({"a": entry(-8, 0)}, "no whole numbers from 0"),
        ({"a": entry(0, 8, [1] * 40 + [2])}, "no whole numbers from 0"),
        ({"a": entry(0, 4)}, "bytes 0 to 4, which is not the size of F32 [2]"),
        ({"a": entry(8, 0)}, "bytes 8 to 0, which is not the size"),
        ({"a": entry(0, 0, [0, 2**61, 2**61])}, "which is not the size"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, "its tensor b begins at byte 4, but the one before it ends at 8"),
        ({"a": entry(0, 8), "b": entry(12, 20)}, "its tensor b begins at byte 12"),
        ({"a": entry(0, 2**40, [2**38])}, "take 1099511627776 bytes, 8 are there"),
        ({}, "take 0 bytes, 8 are there"),
    ],
    ids=str,
)
def test_headers_that_are_wrong(tmp_path, header, named):
    assert named in refusal(by_hand(tmp_path / "a.safetensors", header, bytes(8)))


def test_safetensors_that_are_no_file_of_theirs(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\x01\x02")
    assert "truncated or another kind" in refusal(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert "damaged or truncated zip archive" in refusal(path)
    assert "holds no tensors" in refusal(by_hand(path, {"__metadata__": {"a": "b"}}))


# Any file at all


@st.composite
def strided(draw):
    """A base array, and a view of it that a strided tensor can have."""
    dtype = draw(st.sampled_from(sorted(STORAGES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    seed = draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 100, math.prod(shape))
    base = values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).reshape(shape)
    view = base.transpose(draw(st.permutations(range(base.ndim))))
    for axis in range(view.ndim):
        start, step = draw(st.integers(0, 2)), draw(st.integers(1, 3))
        view = np.moveaxis(np.moveaxis(view, axis, 0)[start::step], 0, axis)
    if draw(st.booleans()):
        view = np.broadcast_to(view, (draw(st.integers(1, 3)), *view.shape))
    return base, view


def as_tensor(key, base, view):
    offset = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) if view.size else 0
    strides = [stride // base.itemsize for stride in view.strides]
    return tensor(key, str(base.dtype), base.size, view.shape, strides, offset // base.itemsize)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text("abc._0é", min_size=1), strided(), min_size=1, max_size=4), st.sampled_from([2, 4]))
def test_any_views_come_back(tmp_path, arrays, protocol):
    body = mapping({key: as_tensor(str(i), *pair) for i, (key, pair) in enumerate(arrays.items())})
    records = {str(i): base.tobytes() for i, (base, _) in enumerate(arrays.values())}
    tensors = read_checkpoint(write(tmp_path / "a.pth", body, records, protocol=protocol)).tensors
    assert list(tensors) == list(arrays)
    for key, (_, view) in arrays.items():
        found = tensors[key].load()
        assert (found.shape, found.dtype) == (view.shape, view.dtype)
        assert np.array_equal(found, view)


def loaded(path):
    return {key: stored.load() for key, stored in read_checkpoint(path).tensors.items()}


def tried(read, source):
    """What was read, or None if it was refused, in one line."""
    try:
        return read(source)
    except PidSamplerError as error:
        if not str(error).isprintable():
            raise AssertionError from error
        return None


ORIGINAL = (PARITY / "checkpoint_wrapped.pth").read_bytes()
RIGHT = loaded(PARITY / "checkpoint_wrapped.pth")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_pth_gives_the_right_data_or_an_error(tmp_path, data):
    """Bytes changed, cut off or put in, anywhere: the checksums of the zip archive hold the rest together."""
    damaged = bytearray(ORIGINAL)
    place = data.draw(st.integers(0, len(damaged) - 1))
    match data.draw(st.sampled_from(["change", "change", "cut", "insert", "remove"])):
        case "change":
            damaged[place] ^= data.draw(st.integers(1, 255))
        case "cut":
            del damaged[place:]
        case "insert":
            damaged[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        case "remove":
            del damaged[place : place + data.draw(st.integers(1, 100))]
    path = tmp_path / "a.pth"
    path.write_bytes(damaged)
    found = tried(loaded, path)
    if found is None:
        return
    assert found.keys() == RIGHT.keys()
    assert all(np.array_equal(found[key], RIGHT[key]) for key in found)


PICKLE = zipfile.ZipFile(io.BytesIO(ORIGINAL)).read("checkpoint_wrapped/data.pkl")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(PICKLE) - 1), st.integers(0, 255)), max_size=8), st.binary(max_size=20))
def test_any_pickle_is_read_or_refused(changes, more):
    """Without checksums between: what is read stays inside its storage, the rest is a PidSamplerError."""
    changed = bytearray(PICKLE)
    for place, byte in changes:
        changed[place] = byte
    for data in (bytes(changed), b"\x80\x04" + more, PICKLE[: len(PICKLE) // 2] + more):
        tried(read_pickle, data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_safetensors_are_read_or_refused(tmp_path, data):
    """There are no checksums in these: the header is what can be checked."""
    path = tmp_path / "a.safetensors"
    save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)}, path)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(1, 3 * len(damaged)))])
    found = tried(loaded, path)
    if found is None:
        return
    assert sum(array.nbytes for array in found.values()) == 32


# PiD's names

NETWORK = {
    "pixel_embedder.proj.weight": np.ones((2, 3)),
    "patch_blocks.0.attn.qkv_x.weight": np.ones((6, 2)),
    "pixel_blocks.0.adaLN_modulation.0.weight": np.arange(4 * 6 * 2 * 3.0).reshape(48, 3),
    "pixel_blocks.0.adaLN_modulation.0.bias": np.arange(48.0),
    "y_pos_embedding": np.ones((1, 4)),
    "lq_proj.latent_proj.0.weight": np.ones((2, 2)),
}
TRAINING = ["fake_score", "discriminator", "teacher", "repa_loss"]


def stored(arrays):
    return {key: Stored.of(np.asarray(array, np.float32)) for key, array in arrays.items()}


def below(prefix, arrays=NETWORK):
    return {prefix + key: array for key, array in arrays.items()}


def check_network(arrays, network=NETWORK):
    found = network_tensors(stored(arrays))
    assert set(found) == set(network)
    for key, array in network.items():
        assert found[key].shape == array.shape
        assert np.array_equal(found[key].load(), array)


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize("prefix", ["net.", "", "core.", "model.diffusion_model.", "net_ema."])
def test_the_layouts_of_pid(prefix, wrapper):
    arrays = below(prefix)
    arrays |= below(prefix, {"lq_proj.lq_aux_rgb_head.0.weight": np.zeros(2)})
    arrays |= {"pos_embed": np.zeros(1), "_repa_projector.0.weight": np.zeros(1)}
    for other in TRAINING:
        arrays |= below(other + ".", {key: np.zeros(1) for key in NETWORK})
    check_network(below(wrapper, arrays))


def test_what_is_not_known_keeps_its_name():
    arrays = below("net.") | {"vae.decoder.weight": np.ones(1), "text_encoders.gemma.weight": np.ones(1)}
    check_network(arrays)
    check_network(arrays | {"extra.weight": np.ones(2)}, NETWORK | {"extra.weight": np.ones(2)})


def test_modulations_that_comfyui_splits_are_joined():
    """The rows are (pixels of a patch, 6 parts, width): three parts are attention's, three the MLP's."""
    split = {key: array for key, array in NETWORK.items() if "adaLN" not in key}
    for kind in ("weight", "bias"):
        whole = NETWORK[f"pixel_blocks.0.adaLN_modulation.0.{kind}"]
        parts = whole.reshape(4, 6, 2, *whole.shape[1:])
        split[f"pixel_blocks.0.adaLN_modulation_msa.{kind}"] = parts[:, :3].reshape(24, *whole.shape[1:])
        split[f"pixel_blocks.0.adaLN_modulation_mlp.{kind}"] = parts[:, 3:].reshape(24, *whole.shape[1:])
    check_network(below("model.diffusion_model.", split))
    for change in (
        {"pixel_blocks.0.adaLN_modulation_msa.bias": np.ones(18)},
        {"pixel_embedder.proj.weight": np.ones((5, 3))},
        {"pixel_embedder.proj.weight": np.ones(())},
        {f"pixel_blocks.0.adaLN_modulation_{half}.bias": np.ones(()) for half in ("msa", "mlp")},
    ):
        odd = split | change
        assert set(odd) & {key for key in network_tensors(stored(odd)) if "_m" in key}


def test_layouts_that_do_not_fit_are_listed():
    arrays = below("first_stage_model.") | {"scale": np.ones(1), "net.x": np.ones(1)}
    with pytest.raises(PidSamplerError) as caught:
        network_tensors(stored({key.replace("patch_blocks", "blocks"): array for key, array in arrays.items()}))
    assert "no PiD network among 8 tensors, whose names begin with first_stage_model. (6), scale (1), net. (1)" in str(
        caught.value
    )
    assert "alone or below net., core., model.diffusion_model., net_ema., ema., model., module., " in str(caught.value)
    with pytest.raises(PidSamplerError, match="and 8 more: expected"):
        network_tensors(stored({f"{n}.w": np.ones(1) for n in range(20)}))
    with pytest.raises(PidSamplerError, match=r"proj\.weight is there twice, as net\.pixel"):
        network_tensors(stored(below("net.") | NETWORK))


def test_quantized_and_integer_weights_are_refused():
    """As Comfy-Org publishes them beside bf16: int8 and mxfp8, with scales. Of fp8, see test_layouts.py."""
    arrays = stored(below("net."))
    scaled = arrays | {"net.patch_blocks.0.attn.qkv_x.weight_scale": Stored.of(np.ones(1, np.float32))}
    with pytest.raises(
        PidSamplerError, match=r"7 weights are 1 scales of quantized ones, such as patch_blocks\.0.*bf16"
    ):
        network_tensors(scaled)
    integers = arrays | {"net.patch_blocks.0.attn.qkv_x.weight": Stored.of(np.ones((6, 2), np.int8))}
    with pytest.raises(PidSamplerError, match=r"1 that are no floats, such as .*\(int8\): take the bf16"):
        network_tensors(integers)
