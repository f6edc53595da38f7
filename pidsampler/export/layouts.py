"""What stands before a model's own names in a checkpoint, and which of several copies of the model is meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from ..errors import FileError
from .pickles import printable
from .tensors import Stored

# torch.compile, FSDP and activation checkpointing put these anywhere into a name.
_INSIDE = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_NAMED = 6  # copies that are left out, in a line
_PLAIN = (
    *("net", "core", "model", "diffusion_model", "module", "online_model"),
    *("state_dict", "model_state_dict", "params"),
)
_AVERAGED = re.compile(r"(?<![a-z])(?:ema|avg|swa|shadow)(?![a-z])|averag")  # in a name of small letters


def is_weights(name: str) -> bool:
    """Return whether a name is one under which files hold a model, or the average of its training.

    A model may stand under several of them, one in another. Names of an average are those that say `ema`, `avg`,
    `average`, `swa` or `shadow`, such as `net_ema`. Capitals do not matter.
    """
    return name.lower() in _PLAIN or averaged(name)


def unwrapped(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Return tensors without the parts of their names that wrappers of PyTorch put in, such as `_orig_mod.`.

    Raises:
        PidSamplerError: Two tensors come to one name.
    """
    found: dict[str, Stored] = {}
    for name, tensor in tensors.items():
        short = _INSIDE.sub("", name)
        if short in found:
            raise FileError(f"{short} is there twice, with and without _orig_mod. or the like: remove one")
        found[short] = tensor
    return found


def copies(names: Iterable[str], mark: str, *, more: Collection[str] = ()) -> list[str]:
    """Return the prefixes below which a model lies, the one that is meant first.

    It is the running average of training where there is one. NVIDIA publishes that, under `net.`
    (scripts/convert_distcp_to_pt.py, option `ema`), and its commands load it (option `load_ema_to_reg`).

    Args:
        names: Names of tensors.
        mark: How some of the model's own names begin, such as "encoder.".
        more: Names that may stand before it beside those of `is_weights`.
    """
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for end, part in enumerate(parts[:-1]):
            if f"{part}." == mark:
                found[".".join([*parts[:end], ""]) if end else ""] = None
            if not is_weights(part) and part not in more:
                break
    return sorted(found, key=lambda prefix: (not averaged(prefix), not prefix))


def averaged(prefix: str) -> bool:
    """Return whether a prefix is that of an average."""
    return _AVERAGED.search(prefix.lower()) is not None


def place(name: str, prefixes: Iterable[str]) -> str | None:
    """Return the longest of some prefixes that a name has; "" is one that each has."""
    return max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default=None)


def say_copies(prefixes: list[str], note: Callable[[str], object]) -> None:
    """Say which copy is taken, if there are several: the first."""
    if len(prefixes) > 1:
        first, *others = (printable(prefix) or "what has no prefix" for prefix in prefixes[: _NAMED + 1])
        others += [f"{len(prefixes) - 1 - _NAMED} more"] * (len(prefixes) > _NAMED + 1)
        why = ", the average of training" if averaged(prefixes[0]) else ""
        note(f"it holds the model more than once: {first} is taken{why}; not {' and '.join(others)}")
