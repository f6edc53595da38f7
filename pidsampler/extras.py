"""Optional packages, imported when they are first used, so that `import pidsampler` and its command line stay fast."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import missing_extra


def optional(module: str, package: str, extra: str = "study") -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Such as "scipy.special".
        package: What to install for it, such as "scipy".
        extra: The extra of pidsampler that brings it.

    Raises:
        PidSamplerError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise missing_extra(package, extra) from None
