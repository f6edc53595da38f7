"""Mutants of valid files, for every reader of files: python tests/support/fuzz.py --mutants 20000 --seed 1

Lengths, offsets and checksums of mutants are made right again; JSON and TOML are changed by structure. A reader
may take a mutant or refuse it by a PidSamplerError. Anything else is a fault: another exception, a RuntimeWarning, more
than 5 s, or more than 1 GB.
"""

import argparse
import copy
import io
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import unicodedata
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx_ir as ir
from pickled import save_torch
from PIL import Image

from pidsampler import PidSamplerError, from_diffusers, get_scheduler, timesteps
from pidsampler.bench.rows import COLUMNS, check_columns
from pidsampler.export.architecture import random_tensors
from pidsampler.export.build import ARCHITECTURE
from pidsampler.export.checkpoint import read_checkpoint
from pidsampler.export.identify_vae import check_vae
from pidsampler.export.layers import Form
from pidsampler.export.network import build_network
from pidsampler.export.published import get_published
from pidsampler.export.recover import recovered
from pidsampler.export.vae import ENCODERS
from pidsampler.io import captions, latents, pictures, records
from pidsampler.io.tables import read_table
from pidsampler.io.times import read_list
from pidsampler.onnx.contract import NETWORK
from pidsampler.onnx.manifest import read_manifest
from pidsampler.study.file import read_study

SECONDS, MEGABYTES = 5, 1000
DEEP = json.loads("[" * 60 + "]" * 60)
JUNK = (None, True, False, 0, 1, -1, 2**63, 10**30, 10**400, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"))
JUNK += ("", "x", "a" * 5000, "\ud800", "\x1b[2J", "../..", [], [[]], [0] * 3000, {}, {"a": {}}, {"shift": 1}, DEEP)
WORDS = (0, 1, 4, 255, 2**15, 2**20, 2**31 - 1, 2**32 - 1)


class Slow(BaseException):
    pass


def mutate_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        if not data:
            break
        at = rng.randrange(len(data) if rng.random() < 0.4 else min(len(data), 260))
        match rng.randrange(6):
            case 0 | 1:
                data[at] = rng.choice([0, 1, 2, 4, 127, 128, 255, rng.randrange(256)])
            case 2:
                data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(WORDS))
            case 3:
                del data[at : at + rng.randrange(1, 30)]
            case 4:
                data[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 5:
                del data[at + 1 :]
    return bytes(data)


def mutate_tree(rng, tree):
    """Change one to three places of what JSON holds; the tree is a fresh copy."""
    tree = [json.loads(json.dumps(tree))]
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = []
        todo = [tree]
        while todo:
            holder = todo.pop()
            for key in holder if isinstance(holder, dict) else range(len(holder)):
                places.append((holder, key))
                if isinstance(holder[key], dict | list) and len(holder[key]) < 1000 and len(places) < 3000:
                    todo.append(holder[key])
        holder, key = rng.choice(places)
        match rng.randrange(6):
            case 0 if holder is not tree:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(["", "x", "\ud800", "seed", "\n"])] = copy.deepcopy(rng.choice(JUNK))
            case 2 if isinstance(holder, list) and holder is not tree:
                holder.insert(key, copy.deepcopy(rng.choice(JUNK)))
            case 3 if isinstance(holder[key], int | float) and abs(holder[key]) < 2**70:
                holder[key] = rng.choice([-holder[key], holder[key] * 1e300, holder[key] + 1, str(holder[key])])
            case _:
                holder[key] = copy.deepcopy(rng.choice(JUNK))
    return tree[0]


def mutate_json(rng, tree):
    text = json.dumps(mutate_tree(rng, tree))
    if rng.random() < 0.1:
        text = text.replace('": ', '": 1, "', 1)
    return mutate_bytes(rng, text.encode()) if rng.random() < 0.15 else text.encode()


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if value is None:
        return "1979-05-27"
    return str(value) if isinstance(value, float) else json.dumps(value)


def mutate_toml(rng, tree):
    tree = mutate_tree(rng, tree)
    text = (
        "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in tree.items())
        if isinstance(tree, dict)
        else "3"
    )
    return mutate_bytes(rng, text.encode()) if rng.random() < 0.15 else text.encode()


def mutate_png(rng, data):
    data = mutate_bytes(rng, data)
    made, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        made += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return made + data[at:]


def mutate_record(rng, record):
    body = b"iTXtpidsampler\0\0\0\0\0" + mutate_json(rng, record)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def mutate_npy(rng, data):
    if rng.random() < 0.3:
        return mutate_bytes(rng, data)
    version, length = data[:8], struct.unpack_from("<H", data, 8)[0]
    header, rest = data[10 : 10 + length], data[10 + length :]
    old, new = rng.choice(
        [(b"<f4", b"<f8"), (b"<f4", b"|O"), (b"<f4", b"<U9"), (b"False", b"True"), (b"(", b"("), (b")", b"")]
    )
    header = header.replace(old, new)
    if rng.random() < 0.6:
        sizes = rng.choice([b"(-1, 4)", b"(99999999999999999999, 2)", b"(2, 2, 2)", b"()", b"(4294967296, 4294967296)"])
        header = header[: header.index(b"(")] + sizes + b", }\n" if b"(" in header else header
    if rng.random() < 0.2:
        header = mutate_bytes(rng, header)
    return version + struct.pack("<H", len(header) & 0xFFFF) + header + rest


def mutate_zip(rng, data, member=mutate_bytes):
    if rng.random() < 0.25:
        return mutate_bytes(rng, data)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w", rng.choice([0, 0, 0, 8])) as new:
        chosen = rng.choice([name for name in old.namelist() for _ in range(5 if name.endswith(".pkl") else 1)])
        for name in old.namelist():
            body = old.read(name)
            new.writestr(name, member(rng, body) if name == chosen else body)
    return made.getvalue()


def mutate_safetensors(rng, data):
    if rng.random() < 0.2:
        return mutate_bytes(rng, data)
    (length,) = struct.unpack_from("<Q", data)
    header = mutate_json(rng, json.loads(data[8 : 8 + length]))
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def mutate_lines(rng, data):
    lines = data.decode().splitlines()
    for _ in range(rng.choice([1, 2, 3])):
        lines[rng.randrange(len(lines))] = str(rng.choice((*JUNK[:22], "# no", "1_0", "0x1p-3", "0,5"))).replace(
            "\ud800", "?"
        )
    return mutate_bytes(rng, data) if rng.random() < 0.2 else "\n".join(lines).encode()


def _encoded(image, kind, **options):
    image.save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def _pictures():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 30, 4), np.uint8))
    modes = {mode: image.convert("RGB").convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK")} | {"RGBA": image}
    yield from (("a.png", _encoded(each, "PNG")) for mode, each in modes.items() if mode != "CMYK")
    yield from (("a.tif", _encoded(each, "TIFF", compression=None)) for each in modes.values())
    yield from (("a.tif", _encoded(modes[m], "TIFF", compression="tiff_lzw")) for m in ("L", "RGB"))
    yield from (("a.jpg", _encoded(modes[mode], "JPEG")) for mode in ("L", "RGB", "CMYK"))
    more = {"save_all": True, "append_images": [modes["L"].resize((12, 15))], "compression": None}
    yield from (("a.tif", _encoded(modes[mode], "TIFF", **more)) for mode in ("RGB", "L"))  # of two pages
    yield from (("a.webp", _encoded(image, "WEBP", lossless=lossless)) for lossless in (False, True))


def _safetensors(**arrays):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _saved(save, *arrays, **named):
    save(buffer := io.BytesIO(), *arrays, **named)
    return buffer.getvalue()


def _read_all(path):
    for tensor in read_checkpoint(path).tensors.values():
        tensor.load()


def _graph(folder):
    """Write a network as small as one of a kind can be, and return it with its sizes."""
    a = get_published("sdxl", "2kto4k").architecture.reduced()
    build_network(a, random_tensors(a, 0), form=Form(split=False)).save(folder / NETWORK)
    model = ir.load(folder / NETWORK)
    return ir.to_proto(model), json.loads(model.metadata_props[ARCHITECTURE])


def _mutate_graph(rng, sizes, proto):
    text = mutate_json(rng, sizes).decode("utf-8", "replace")
    for entry in proto.metadata_props:
        if entry.key == ARCHITECTURE or rng.random() < 0.05:
            entry.value = text
    return proto.SerializeToString()


def mutate_csv(rng, data):
    text = data.decode()
    for _ in range(rng.choice([0, 1, 2])):
        old = rng.choice([",", "device", "share", "\n", "0"])
        text = text.replace(old, rng.choice([";", '"', "\x1b[2J", "\0", "\r", "x" * 200_000, ",,", old]), 1)
    return mutate_bytes(rng, text.encode()) if rng.random() < 0.5 else text.encode()


def subjects(folder):
    """Return by reader: [(file name, mutate(rng) -> bytes)] and what reads a path."""
    array = np.linspace(0, 1, 32, dtype=np.float32).reshape(1, 4, 2, 4)
    save_torch(folder / "a.pth", {"w": array, "net": {"b": array[0]}})
    torch = (folder / "a.pth").read_bytes()
    npy, npz = _saved(np.save, array), _saved(np.savez, latent=array, other=array)
    tensors = _safetensors(w=array, latent_tensor=array)
    tables = [get_scheduler(name).table().to_dict() for name in ("flow-sde", "unipc", "heun")]
    configs = [
        {"_class_name": f"{name}Scheduler", "use_flow_sigmas": True, "prediction_type": "flow_prediction", **more}
        for name in ("FlowMatchEulerDiscrete", "FlowMatchLCM", "UniPCMultistep", "DPMSolverMultistep")
        for more in (
            {"shift": 3.0, "num_train_timesteps": 1000},
            {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.1},
        )
    ]
    study = {
        "preset": {"model": "law", "steps": 4, "seeds": [1, 2]},
        "axes": {"scheduler": ["heun", "unipc"]},
        "title": "t",
    }
    study |= {"flows": {"law": {"means": [0.0, 1.0], "stds": [1, 2]}}, "album": 3, "cells": "grid", "reduce": False}
    manifest = {"name": "n", "prediction": "velocity", "timescale": 1000.0, "timesteps": [0.9, 0.5, 0], "scale": 4}
    manifest |= {"sampler": "dpmpp-2m", "guidance": 2.0, "network_bytes": 1e3, "drifts": True}
    rule = {"timesteps": {"shift": {"base": 6, "size": 2048}, "steps": 25}}
    index = {"metadata": {"total_size": array.nbytes}, "weight_map": dict.fromkeys(("w", "latent_tensor"), "s.sft")}
    (folder / "s.sft").write_bytes(tensors)
    vae = {"_class_name": "AutoencoderKL", "latent_channels": 4, "scaling_factor": 0.13025, "latents_mean": None}
    rows = ",".join(COLUMNS).encode() + b"\n" + b",".join([b"0"] * len(COLUMNS)) + b"\n"
    proto, sizes = _graph(folder)
    graph = proto.SerializeToString()

    def mutate_graph(rng, _):
        return _mutate_graph(rng, sizes, type(proto).FromString(graph))

    def of(mutate, name, *files):
        return [(name, lambda rng, file=file: mutate(rng, file)) for file in files]

    def configured_vae(path):
        check_vae(path.with_name("v.sft"), ENCODERS["sdxl"])

    def configured(path):
        dynamic = b'"use_dynamic_shifting": true' in path.read_bytes()
        from_diffusers(path, steps=4, tokens=1024 if dynamic else None)

    times = "\n".join(map(repr, timesteps.pid().tolist())).encode()
    shown = [
        (name, lambda rng, d=d, m=mutate_png if name == "a.png" else mutate_bytes: m(rng, d)) for name, d in _pictures()
    ]
    in_zip = [("a.npz", lambda rng: mutate_zip(rng, npz, mutate_npy))]
    stored = [*of(mutate_npy, "a.npy", npy), *in_zip, *of(mutate_safetensors, "a.safetensors", tensors)]
    return {
        "pictures": (shown, pictures.read),
        "latents": ([*stored, *of(mutate_safetensors, "a.latent", tensors)], latents.read),
        "captions": (of(mutate_npy, "c.npy", _saved(np.save, array[0, 0]), npy), captions.read),
        "manifests": (of(mutate_json, "pidsampler.json", manifest, rule), lambda path: read_manifest(path.parent)),
        "metadata": (of(mutate_graph, NETWORK, None), lambda path: recovered(path.parent)),
        "tables": (of(mutate_json, "t.json", *tables), read_table),
        "lists": (of(mutate_lines, "t.txt", times), read_list),
        "configs": (of(mutate_json, "c.json", *configs), configured),
        "records": (
            of(mutate_record, "r.png", {"seed": 1, "input": {"name": "a"}, "table": tables[0]}),
            records.find_record,
        ),
        "TOML": (of(mutate_toml, "s.toml", study), read_study),
        ".pth": (of(mutate_zip, "m.pth", torch), _read_all),
        "safetensors": (of(mutate_safetensors, "m.safetensors", tensors), _read_all),
        "indexes": (of(mutate_json, "m.safetensors.index.json", index), _read_all),
        "VAE configs": (
            of(mutate_json, "config.json", vae),
            lambda path: check_vae(folder / "v.sft", ENCODERS["sdxl"]),
        ),
        "rows": (of(mutate_csv, "b.csv", rows), check_columns),
    }


def run(mutants, seed, folder):
    """Feed so many mutants in all; return ({reader: [read, refused]}, [fault])."""
    counts, faults = {}, []
    readers = subjects(folder)
    for reader, (files, read) in readers.items():
        rng = random.Random(f"{reader} {seed}")
        counts[reader] = count = [0, 0]
        for number in range(mutants // len(readers)):
            name, mutate = rng.choice(files)
            path = folder / name
            path.write_bytes(data := mutate(rng))
            fault = _fault(read, path, count)
            if fault:
                (kept := folder / f"fault-{seed}-{number}-{name}").write_bytes(data)
                faults.append(f"{reader}: {fault} ({kept})")
            path.unlink()
    return counts, faults


def _fault(read, path, count):
    def late(*_):
        raise Slow

    before, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(4 * SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)
            read(path)
        count[0] += 1
    except PidSamplerError as error:
        count[1] += 1
        if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in str(error)):
            return f"a message that controls a terminal: {error!r}"
    except (Exception, Slow) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    if (seconds := time.process_time() - before) > SECONDS:
        return f"{seconds:.1f} s"
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    return f"{more:.0f} MB more" if more > MEGABYTES else None


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mutants", type=int, default=2400)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    counts, faults = run(asked.mutants, asked.seed, Path(tempfile.mkdtemp(prefix="fuzz-")))
    for reader, (read, refused) in counts.items():
        print(f"{reader:12} {read:6} read {refused:6} refused")
    print("\n".join(ascii(fault)[1:-1] for fault in faults) or "no fault")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
