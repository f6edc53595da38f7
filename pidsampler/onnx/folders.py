"""Model folders before they are loaded: where they are, their manifests, own tables and hashes; the bundled ones."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from .. import values
from ..errors import FileError, ModelError, did_you_mean, reason
from ..io.files import sha256
from .contract import ENCODER, NETWORK, NULL_CAPTION, PROJECTION, has_null_caption
from .hub import PREFIX, model_folder
from .manifest import NAME as MANIFEST
from .manifest import Manifest, own_tables, read_manifest

BUNDLED_FOLDER = Path(__file__).parent.parent / "models"
_BUNDLED = ("tiny", "tiny-teacher", "gaussian")


def model_path(model: str | Path) -> Path:
    """Return the folder of a bundled name, of "hf:OWNER/NAME", which is downloaded, or of a path.

    Raises:
        PidSamplerError: The model is no path, or cannot be downloaded.
    """
    values.file_path("model", model)
    if str(model).startswith(PREFIX):
        return model_folder(str(model))
    return BUNDLED_FOLDER / str(model) if str(model) in _BUNDLED else Path(model)


def check_model(model: str | Path) -> Manifest:
    """Return the manifest of a bundled model or a folder whose graphs are there, without loading them.

    Raises:
        PidSamplerError: There is no such folder, a graph is missing, or the manifest is not valid.
    """
    path = model_path(model)
    if not os.path.isdir(path):  # False for a name that is too long, where Path raises
        meant = did_you_mean(str(path), known=_BUNDLED)
        raise ModelError(
            f"no model {str(path)!r}: {meant}pass a folder with {ENCODER} and {NETWORK}, or one of "
            f"{', '.join(_BUNDLED)}"
        )
    missing = [name for name in (ENCODER, NETWORK) if not (path / name).is_file()]
    manifest = read_manifest(path)
    if NETWORK in missing or (missing and manifest.vae_factor is None):
        raise ModelError(f"{path} has no {' and no '.join(missing)}: a model folder holds both")
    return manifest


def model_manifest(model: str | Path) -> Manifest:
    """Return the manifest of a bundled model or a folder, without loading its graphs.

    Raises:
        PidSamplerError: The manifest is not valid; see `manifest.read_manifest`.
    """
    return read_manifest(model_path(model))


def model_tables(model: str | Path) -> dict[str, Path]:
    """Return the files of the own step tables of a bundled model or a folder by name, without loading its graphs.

    Raises:
        PidSamplerError: The manifest is not valid; see `manifest.read_manifest`.
    """
    folder = model_path(model)
    return own_tables(folder, read_manifest(folder))


def model_has_null_caption(model: str | Path) -> bool:
    """Return whether a bundled model or a folder has a null caption, without loading its graphs.

    Raises:
        PidSamplerError: There is no such model.
    """
    return has_null_caption(model_path(model))


def model_hashes(model: str | Path) -> dict[str, str]:
    """Return the SHA-256 of each file that makes a model, external data included, by file name.

    Raises:
        PidSamplerError: A file cannot be read.
    """
    folder = model_path(model)
    try:
        graphs = [folder / NETWORK, *(folder / name for name in (ENCODER, PROJECTION) if (folder / name).is_file())]
        others = [p for p in folder.iterdir() if p.is_file() and p not in graphs]
        # External data is the files that a graph names.
        own = (MANIFEST, NULL_CAPTION)
        parts = [p for p in others if p.name in own or any(_mentions(graph, p.name) for graph in graphs)]
        result = {path.name: sha256(path) for path in sorted([*graphs, *parts])}
    except OSError as error:
        raise FileError(f"cannot read the model {folder}: {reason(error)}") from error
    return result


def bundled_models() -> dict[str, Manifest]:
    """Return the manifests of the models in the package, by each name that `Model.load` takes."""
    return {name: model_manifest(name) for name in _BUNDLED}


def check_bundled(model: str | Path) -> bool:
    """Compare a bundled model with the SHA-256 that the package lists of its files.

    Returns:
        Whether it is a bundled model, of which no file differs; False for any other.

    Raises:
        PidSamplerError: A file of it was changed or is missing; the message names it.
    """
    folder = model_path(model).resolve()
    if folder.parent != BUNDLED_FOLDER.resolve():
        return False
    for line in (BUNDLED_FOLDER / "SHA256SUMS").read_text("utf-8").splitlines():
        digest, path = line.split()
        name, _, path = path.partition("/")
        if name == folder.name and (not (folder / path).is_file() or sha256(folder / path) != digest):
            raise ModelError(f"{folder / path} is not as in the package: install pidsampler again")
    return True


def _mentions(graph: Path, name: str) -> bool:
    if not graph.stat().st_size:  # which no system maps
        return False
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(name.encode()) >= 0
