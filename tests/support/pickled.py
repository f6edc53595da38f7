"""Files of torch.save, written by hand: pickles instruction by instruction, in the zip archive that holds them."""

import operator
import pickle
import struct
import zipfile

import numpy as np

STORAGES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def group(*parts):
    return b"(" + b"".join(parts) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def call(function, *arguments):
    return function + group(*arguments) + b"R"


def storage(key, dtype, count):
    return (
        group(text("storage"), name("torch", STORAGES[dtype] + "Storage"), text(key), text("cpu"), number(count)) + b"Q"
    )


def tensor(key, dtype, count, shape, strides, offset=0):
    hooks = call(name("collections", "OrderedDict"))
    sizes = [group(*map(number, values)) for values in (shape, strides)]
    return call(
        name("torch._utils", "_rebuild_tensor_v2"), storage(key, dtype, count), number(offset), *sizes, b"\x89", hooks
    )


def mapping(entries):
    keys = [text(key) if isinstance(key, str) else number(key) for key in entries]
    return b"}(" + b"".join(map(operator.add, keys, entries.values())) + b"u"


ONE = {"w": tensor("0", "float32", 2, (2,), (1,))}


def write(path, body, records=None, byteorder="little", protocol=2, compress=zipfile.ZIP_STORED, folder="archive"):
    records = {"0": np.float32([1, 2]).tobytes()} if records is None else records
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr(f"{folder}/data.pkl", b"\x80" + bytes([protocol]) + body + b".")
        if byteorder:
            archive.writestr(f"{folder}/byteorder", byteorder)
        for key, data in records.items():
            archive.writestr(f"{folder}/data/{key}", data)
        archive.writestr(f"{folder}/version", "3\n")
    return path


def save_torch(path, tree):
    """Write a dict of arrays, or of such dicts and lists, as torch.save does."""
    records = {}

    def body(node):
        if isinstance(node, dict):
            return mapping({key: body(value) for key, value in node.items()})
        if isinstance(node, list):
            return b"](" + b"".join(map(body, node)) + b"e"
        array = np.ascontiguousarray(node)
        key = str(len(records))
        records[key] = array.tobytes()
        strides = [stride // array.itemsize for stride in array.strides]
        return tensor(key, str(array.dtype), array.size, np.shape(node), strides[: np.ndim(node)])

    return write(path, body(tree), records)
