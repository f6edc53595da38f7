"""Models and checkpoints from Hugging Face, downloaded when asked for and never before their licence was accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import ConfigError, FileError, PidSamplerError, optional
from ..io.files import user_cache

PREFIX = "hf:"
_FILES = ["*.onnx", "*.onnx.data", "*.onnx_data", "*.data", "pidsampler.json", "null_caption.npy"]
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def model_folder(model: str) -> Path:
    """Return where the model "hf:OWNER/NAME" lies on this machine.

    It is a folder of real files: ONNX Runtime refuses external data behind the links of the hub's own cache.

    Raises:
        PidSamplerError: The name is none such, or it was not downloaded; the message says its licence.
    """
    repository = _repository(model)
    folder = user_cache() / repository
    if not folder.is_dir():
        raise FileError(
            f"{model} is not on this machine; {_license(repository)}: pass accept_license=True to download it"
        )
    return folder


def download_model(model: str) -> None:
    """Download the graphs of "hf:OWNER/NAME", their data and manifest; what is here already is not fetched again.

    Raises:
        PidSamplerError: The name is none such, huggingface_hub is not installed, or the hub does not give them.
    """
    repository = _repository(model)
    target = user_cache() / repository
    try:
        _hub().snapshot_download(repository, local_dir=target, allow_patterns=_FILES)
    except Exception as error:  # the hub's, the network's, and the system's
        raise _not_had(repository, error) from error


def download_file(repository: str, name: str) -> Path:
    """Download one file to the hub's cache, and return its path.

    Raises:
        PidSamplerError: huggingface_hub is not installed, or the hub does not give it.
    """
    try:
        return Path(_hub().hf_hub_download(repository, name))
    except Exception as error:
        raise _not_had(f"{repository}: {name}", error) from error


def _hub() -> Any:
    return optional("huggingface_hub", "huggingface_hub", extra="hub")


def _repository(model: str) -> str:
    repository = model.removeprefix(PREFIX)
    if not _NAME.fullmatch(repository) or ".." in repository:
        raise ConfigError(f"{model!r} is no model of Hugging Face: pass {PREFIX}OWNER/NAME")
    return repository


def _license(repository: str) -> str:
    try:
        card = _hub().model_info(repository).card_data or {}
    except Exception as error:
        raise _not_had(repository, error) from error
    named = [card.get(key) for key in ("license", "license_name", "license_link")]
    return f"its licence is {', '.join(str(part) for part in named if part) or 'not stated'}"


def _not_had(what: str, error: Exception) -> PidSamplerError:
    if isinstance(error, PidSamplerError):
        return error
    return FileError(f"{what} cannot be had from Hugging Face: {' '.join(str(error).split())}")
