"""Writing a whole sampler: its file, and its weights where they are too large for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..errors import FileError, reason
from ..io.atomic import real_path, remove_leftovers, temporary_folder
from ..io.files import check_outputs
from .build import Graph
from .model_files import ModelFiles

_INLINE = 128_000_000  # bytes of weights that the file itself holds
_MOST_INLINE = 1_000_000_000  # of a file beside its model: Protocol Buffers end at 2 GB


def check_target(path: Path, files: ModelFiles, *, overwrite: bool) -> None:
    """Check that a whole sampler can be written.

    Args:
        path: The file.
        files: Model that it is made of, whose files are never replaced.
        overwrite: Whether files that exist are replaced.

    Raises:
        PidSamplerError: The file is one of the model's, exists and `overwrite` is false, has another ending than .onnx,
            or cannot be there.
    """
    if path.suffix != ".onnx":
        raise FileError(f"cannot write {path}: expected a name that ends in .onnx")
    if not real_path(path).parent.is_dir() or path.is_dir():
        raise FileError(f"cannot write {path}: expected a file's name in a folder that exists")
    both = (path, _data(path))
    check_outputs(both, inputs=[file for file in files.path.iterdir() if file.is_file() and file.name in files.hashes])
    for file in both:
        if os.path.lexists(file) and not overwrite:
            raise FileError(f"{file} exists already: pass overwrite=True to replace it")


def write(graph: Graph, path: Path, *, files: ModelFiles) -> None:
    """Write a graph under a temporary name, and rename it when it is whole.

    Beside its model it refers to the weights there. Elsewhere it holds weights of up to 128 MB, and more are copied to
    `path`.data: ONNX's checker refuses files with a hard link, and then the model's own too.

    Raises:
        PidSamplerError: The file cannot be written.
    """
    target = real_path(path)
    model = graph.model()
    for node in model.graph:
        node.name = None  # a tenth of the file
    outside = sum(tensor.nbytes for _, tensor in _external(model))
    inside = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None
    )
    inside -= outside
    beside = target.parent == real_path(files.path) and inside < _MOST_INLINE
    remove_leftovers(target.parent)
    try:
        with temporary_folder(target) as folder:
            if beside:
                ir.save(model, folder / target.name)
            elif outside + inside <= _INLINE:
                for value, tensor in _external(model):
                    value.const_value = ir.Tensor(np.array(tensor.numpy()), dtype=tensor.dtype, name=tensor.name)
                ir.save(model, folder / target.name)
            else:
                ir.save(model, folder / target.name, external_data=_data(target).name)
            if (folder / _data(target).name).exists():
                os.replace(folder / _data(target).name, _data(target))
            else:
                _data(target).unlink(missing_ok=True)  # of the file that is replaced
            os.replace(folder / target.name, target)
    except OSError as error:
        raise FileError(f"cannot write {path}: {reason(error)}") from error


def _data(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")


def _external(model: ir.Model) -> Iterator[tuple[ir.Value, ir.ExternalTensor]]:
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            yield value, value.const_value
