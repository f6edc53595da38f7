"""Whose VAE a file is: what a config.json beside it, its name, its folders and its metadata tell.

VAEs of equal shapes give different latents: Stable Diffusion 1's in place of SDXL's (a scaling_factor of 0.18215 stands
against 0.13025: the latent is 28 % too small, and of other features), and SD3's in place of FLUX.1's. Sources of the
keys and their defaults: the config.json files of diffusers' layout, and `models/autoencoders/` of diffusers 0.42.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .. import values
from ..errors import ConfigError, PidSamplerError
from ..io.data import read_json
from .identify import COPY, backbones_in, metadata_texts, name_parts
from .pickles import printable
from .vae import ENCODERS, Encoder

_CONFIG = "config.json"
_CONFIG_BYTES = 1_000_000
_LARGEST = 1e6  # of a factor; a whole number of JSON may be too large for a float
_CLASSES = {
    "kl": ("AutoencoderKL",),
    "flux2": ("AutoencoderKLFlux2",),
    "wan": ("AutoencoderKLQwenImage", "AutoencoderKLWan"),
}
_DEFAULTS = {  # of diffusers' AutoencoderKL, also where the file has null
    "latent_channels": 4,
    "scaling_factor": 0.18215,
    "shift_factor": 0.0,
    "latents_mean": None,
    "latents_std": None,
}
_OLD = "Stable Diffusion 1 or 2"
_IS_OLD = re.compile(
    r"(?<![a-z0-9])(?:sd[^a-z0-9]?v?[12](?:[^a-z0-9]?[0145])?(?![0-9a-z])|stable[^a-z0-9]?diffusion[^a-z0-9]?v?[12]"
    r"|ft[^a-z0-9](?:mse|ema)|kl[^a-z0-9]f8)|^v[12]-[0145][-_]"
)
_IS_FLUX = re.compile(r"ae\.(?:safetensors|sft)")  # Black Forest Labs' name of FLUX.1's
_ALIKE = {"sdxl": _OLD, "flux": "sd3", "sd3": "flux"}  # of equal shapes


def vae_named(path: str | os.PathLike[str]) -> str | None:
    """Return whose VAE the names in a path say a file is.

    These are the file's own name, its folder's, that of the folder above a folder "vae", and a repository in Hugging
    Face's cache. A folder that names no VAE counts where the file's own name tells nothing.

    Args:
        path: Path of a VAE's weights.

    Returns:
        A name in `ENCODERS`, "Stable Diffusion 1 or 2", or None where the names tell nothing, or several.

    Raises:
        PidSamplerError: The path is no path.
    """
    found = {whose for whose, _ in _by_names(path)}
    return found.pop() if len(found) == 1 else None


def check_vae(path: str | os.PathLike[str], encoder: Encoder) -> str | None:
    """Check that a file is the VAE of an encoder, as far as anything tells.

    Args:
        path: Path of the VAE's weights. Its own name counts, the metadata of a .safetensors file, and a config.json
            beside it. Where there is none, its folders count too, see `vae_named`.
        encoder: Encoder that the file is to be.

    Returns:
        What was assumed because nothing tells, as a part of a sentence; None where something tells, or no other VAE
        has these shapes.

    Raises:
        PidSamplerError: The file is another model's VAE, by one of these.
    """
    file = values.file_path("path", path)
    config = _config(file)
    if config is not None:
        _check_config(file, config, encoder)
    names = _by_names(file.name if config is not None else os.path.abspath(file))
    rename = "or if the name is wrong, rename it"
    told = [(whose, f"by the name {part!r}; pass the VAE of {encoder.name}, {rename}") for whose, part in names]
    for text in metadata_texts(file):
        if (whose := _whose(text)) is not None:
            told.append((whose, f"by its metadata; pass the VAE of {encoder.name}, or save it without its metadata"))
    for whose, why in told:
        if whose != encoder.name:
            raise ConfigError(f"{file} is the VAE of {whose}, not of {encoder.name}, {why}")
    if config is None and not told and encoder.name in _ALIKE:
        return f"the VAE is taken for that of {encoder.name}: that of {_ALIKE[encoder.name]} has the same shapes"
    return None


def _by_names(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Return whose VAE a path's names say, each with the name that does."""
    found: list[tuple[str, str]] = []
    parts = name_parts(path)
    for i, part in enumerate(parts):
        holds = i == 0 or (i == 1 and ("vae" in part or not found)) or parts[i - 1] == "vae"
        if (holds or part.startswith("models--")) and (whose := _whose(part)) is not None:
            found.append((whose, part))
    return found


def _whose(text: str) -> str | None:
    """Return whose VAE one name says; None where it tells nothing, or several."""
    said = [backbones] if (backbones := backbones_in(text)) is not None else []
    said += [frozenset({_OLD})] if _IS_OLD.search(text) else []
    said += [frozenset({"flux"})] if _IS_FLUX.fullmatch(COPY.sub("", text)) else []
    whose = frozenset.intersection(*said) if said else ()
    return next((name for name in whose if name in (*ENCODERS, _OLD)), None) if len(whose) == 1 else None


def _config(file: Path) -> dict[str, Any] | None:
    """Return the config.json beside a file, or in a folder; None where there is none of a VAE."""
    try:
        path = (file if file.is_dir() else file.parent) / _CONFIG
        found = read_json(path, expected="a config", most=_CONFIG_BYTES)
    except (OSError, PidSamplerError):
        return None
    if not isinstance(found, dict):
        return None
    name = found.get("_class_name")
    is_vae = name.startswith("Autoencoder") if isinstance(name, str) else "scaling_factor" in found
    return found if is_vae else None


def _check_config(file: Path, config: dict[str, Any], encoder: Encoder) -> None:
    where = f"{_CONFIG} beside {file}"
    way = f"pass the VAE of {encoder.name}, or if it is of another file, move that {_CONFIG} away"
    name = config.get("_class_name")
    if isinstance(name, str) and name not in _CLASSES[encoder.kind]:
        raise ConfigError(
            f"{where} is of an {printable(name)}, expected {' or '.join(_CLASSES[encoder.kind])} for {encoder.name}: "
            f"{way}"
        )
    if encoder.kind == "flux2":  # its normalization lies with the weights
        return
    for key, expected in _expected(encoder).items():
        found = config.get(key)
        if found is None:
            found = _DEFAULTS[key] if encoder.kind == "kl" else expected
        if not _equal(found, expected):
            raise ConfigError(
                f"{where} has {key} {_short(found)}, expected {_short(expected)} for {encoder.name}: it is the VAE of "
                f"another model, so {way}"
            )


def _expected(encoder: Encoder) -> dict[str, Any]:
    """Return the keys of the config that say what a latent is, with an encoder's values."""
    if encoder.kind == "kl":
        factors = {"scaling_factor": encoder.scale, "shift_factor": encoder.shift}
        return {"latent_channels": encoder.latent, **factors, "latents_mean": None, "latents_std": None}
    assert isinstance(encoder.scale, tuple)
    return {"z_dim": encoder.latent, "latents_mean": encoder.shift, "latents_std": [1.0 / n for n in encoder.scale]}


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, list | tuple):
        same = isinstance(found, list) and len(found) == len(expected)
        return same and all(_equal(one, other) for one, other in zip(found, expected, strict=True))
    if not isinstance(expected, int | float) or not isinstance(found, int | float):
        return found is expected
    return abs(found) < _LARGEST and abs(found - expected) <= 1e-3 * abs(expected)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else printable(json.dumps(value))
