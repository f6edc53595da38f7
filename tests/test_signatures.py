"""The public signatures are those of signatures.txt; `python tests/test_signatures.py` writes it anew."""

import difflib
import importlib
import inspect
import re
import sys
import types
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "docs"))
from reference import MODULES, public

STORED = Path(__file__).with_name("signatures.txt")


def signature(thing):
    """Parameters with their types and defaults, without the addresses in them."""
    found = inspect.signature(thing)
    if inspect.isclass(thing):
        found = found.replace(return_annotation=inspect.Signature.empty)
    return re.sub(r" at 0x[0-9a-f]+", "", str(found))


def described(name, thing):
    """Yield a line for a function; for a class one more for each public method and property."""
    if isinstance(thing, types.ModuleType):
        return
    if not inspect.isclass(thing):
        yield f"{name}{signature(thing)}" if inspect.isroutine(thing) else name
        return
    made = not issubclass(thing, BaseException) and not getattr(thing, "_is_protocol", False)
    yield f"class {name}{signature(thing) if made else ''}"
    for member, static in sorted(inspect.getmembers_static(thing)):
        if member.startswith("_") and member != "__call__":
            continue
        value = getattr(thing, member, static)
        if isinstance(static, property) or type(static).__name__ == "cached_property":
            yield f"  {name}.{member}"
        elif callable(value) and not any(member in vars(base) for base in (object, BaseException, tuple)):
            yield f"  {name}.{member}{signature(value)}"


def signatures():
    lines = []
    for path in MODULES:
        module = importlib.import_module(f"pidsampler.{path}".rstrip("."))
        for name in public(module):
            lines += described(f"{path}.{name}".lstrip("."), getattr(module, name))
    return list(dict.fromkeys(lines))


def test_the_public_signatures_are_those_stored():
    stored = STORED.read_text(encoding="utf-8").splitlines()
    changes = "\n".join(difflib.unified_diff(stored, signatures(), "stored", "now", lineterm="", n=0))
    assert not changes, f"the public signatures changed; if they are meant to: python {__file__}\n{changes}"


if __name__ == "__main__":
    STORED.write_text("\n".join(signatures()) + "\n", encoding="utf-8")
