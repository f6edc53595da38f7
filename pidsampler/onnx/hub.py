"""Models and checkpoints from Hugging Face, downloaded when asked for and never before their license was accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs

from ..errors import ConfigError, FileError, PidSamplerError, optional
from ..io import atomic
from ..io.files import user_cache
from ..values import file_path, word

PREFIX = "hf:"
_FILES = ["*.onnx", "*.onnx.data", "*.onnx_data", "*.data", "pidsampler.json", "null_caption.npy", "tables/*.json"]
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
_PIN = "pidsampler-commit.txt"  # beside the graphs: the commit, and "complete" once all is here
_PINNED = re.compile(rb"([0-9a-f]{40})( complete)?\n")


@attrs.frozen
class _Asked:
    """What "hf:OWNER/NAME@REVISION" asks for; the revision is None where it has none."""

    repository: str
    revision: str | None

    @property
    def folder(self) -> Path:
        """Where it lies on this machine: each revision for itself."""
        revision = "" if self.revision is None else f"@{self.revision.replace('/', '%2F')}"
        return user_cache() / f"{self.repository}{revision}"


def model_folder(model: str) -> Path:
    """Return where the model "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION" lies on this machine.

    It is a folder of real files: ONNX Runtime refuses external data behind the links of the hub's own cache.

    Raises:
        PidSamplerError: The name is none such, or it was not downloaded; the message says its license.
    """
    asked = _asked(model)
    pin = _pin(asked.folder)
    if not asked.folder.is_dir() or (pin is not None and pin[1] is None):
        raise FileError(f"{model} is not on this machine; {_license(asked)}: pass accept_license=True to download it")
    return asked.folder


def hub_origin(folder: Path) -> dict[str, str]:
    """Return where a folder was downloaded from, {"repository": ..., "commit": ...}; {} for any other folder."""
    folder = file_path("folder", folder)
    pin = _pin(folder) if folder.is_relative_to(user_cache()) else None
    if pin is None:
        return {}
    return {"repository": folder.relative_to(user_cache()).as_posix().partition("@")[0], "commit": pin[0].decode()}


def download_model(model: str) -> None:
    """Download the graphs of "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION", their data, manifest and tables.

    The revision, "main" where none is given, is resolved to a commit the first time. The commit is kept beside the
    graphs, and a later call completes what is missing of the same commit. What is here already is not fetched again.

    Raises:
        PidSamplerError: The name is none such, huggingface_hub is not installed, or the hub does not give them.
    """
    asked = _asked(model)
    target = asked.folder
    try:
        pin = _pin(target)
        commit = _commit(asked) if pin is None else pin[0].decode()
        target.mkdir(parents=True, exist_ok=True)
        if pin is None:
            _keep(target, commit)
        _hub().snapshot_download(asked.repository, revision=commit, local_dir=target, allow_patterns=_FILES)
        _keep(target, f"{commit} complete")
    except Exception as error:  # the hub's, the network's, and the system's
        raise _not_had(asked.repository, error) from error


def current_commit(repository: str) -> str:
    """Return the commit that a repository's main branch is at now, 40 hex digits.

    Raises:
        PidSamplerError: huggingface_hub is not installed, or the hub does not say it.
    """
    try:
        return _commit(_Asked(word("repository", repository), None))
    except Exception as error:
        raise _not_had(repository, error) from error


def download_file(repository: str, name: str, *, commit: str) -> Path:
    """Download one file of a commit to the hub's cache, and return its path.

    Raises:
        PidSamplerError: huggingface_hub is not installed, or the hub does not give it.
    """
    try:
        return Path(_hub().hf_hub_download(repository, name, revision=commit))
    except Exception as error:
        raise _not_had(f"{repository}: {name}", error) from error


def _hub() -> Any:
    return optional("huggingface_hub", "huggingface_hub", extra="hub")


def _asked(model: str) -> _Asked:
    named = _NAME.fullmatch(model.removeprefix(PREFIX))
    if named is None or ".." in model:
        raise ConfigError(
            f"{model!r} is no model of Hugging Face: pass {PREFIX}OWNER/NAME, or {PREFIX}OWNER/NAME@REVISION"
        )
    return _Asked(*named.groups())


def _commit(asked: _Asked) -> str:
    """The commit that a revision is now."""
    commit = _hub().model_info(asked.repository, revision=asked.revision).sha
    if not isinstance(commit, str) or not re.fullmatch("[0-9a-f]{40}", commit):
        raise FileError(f"Hugging Face says that {asked.repository} is at {commit!r}, expected a commit of 40 digits")
    return commit


def _pin(folder: Path) -> tuple[bytes, bytes | None] | None:
    """The commit of a folder, and " complete" once all of it is here; None where nothing says so."""
    try:
        with (folder / _PIN).open("rb") as file:
            found = _PINNED.fullmatch(file.read(100))
    except OSError:
        return None
    return None if found is None else (found[1], found[2])


def _keep(folder: Path, text: str) -> None:
    atomic.place(folder / _PIN, lambda file: file.write(f"{text}\n".encode()), overwrite=True)


def _license(asked: _Asked) -> str:
    try:
        card = _hub().model_info(asked.repository, revision=asked.revision).card_data or {}
    except Exception as error:
        raise _not_had(asked.repository, error) from error
    named = [card.get(key) for key in ("license", "license_name", "license_link")]
    return f"its license is {', '.join(str(part) for part in named if part) or 'not stated'}"


def _not_had(what: str, error: Exception) -> PidSamplerError:
    if isinstance(error, PidSamplerError):
        return error
    return FileError(f"{what} cannot be had from Hugging Face: {' '.join(str(error).split())}")
