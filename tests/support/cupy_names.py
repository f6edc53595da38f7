"""What CuPy's modules and classes offer: read from the package, which imports without a driver, or as it was stored.

python tests/support/cupy_names.py      with CuPy installed: writes cupy_names.json beside this file anew
"""

import ast
import inspect
import json
import re
from pathlib import Path

FILE = Path(__file__).with_suffix(".json")
# The modules and classes that the package's code reaches, by their path below `cupy`; "" is the module itself.
PLACES = (
    "",
    "ndarray",
    "RawModule",
    "cuda",
    "cuda.Device",
    "cuda.Event",
    "cuda.MemoryPointer",
    "cuda.MemoryPool",
    "cuda.Stream",
    "cuda.runtime",
)


def read(cupy):
    """Return {"version": ..., "names": {place: set of names}, "signatures": {path: text}} of an installed CuPy."""
    names, signatures = {}, {}
    for place in PLACES:
        at = _at(cupy, place)
        # A stream's attributes are its instances': the one there is without a driver shows them.
        names[place] = {*dir(at), *(dir(at.null) if place == "cuda.Stream" else ())}
        for name in names[place]:
            text = None if name.startswith("_") or place == "cuda.runtime" else _signature(getattr(at, name, None))
            if text is not None:
                signatures[f"{place}.{name}".lstrip(".")] = text
    return {"version": cupy.__version__, "names": names, "signatures": signatures}


def stored():
    """Return what `read` found when the file was made."""
    found = json.loads(FILE.read_text())
    return found | {"names": {place: set(names.split()) for place, names in found["names"].items()}}


def signature(text):
    """Return a stored signature as inspect's."""
    scope = {}
    exec(f"def f{text}: ...", scope)
    return inspect.signature(scope["f"])


def _at(cupy, place):
    for name in filter(None, place.split(".")):
        cupy = getattr(cupy, name)
    return cupy


def _signature(thing):
    """Return the parameters of a callable without self and types, defaults as "...": None where it does not tell."""
    if not callable(thing):
        return None
    try:
        parameters = list(inspect.signature(thing).parameters.values())
        if parameters and parameters[0].name == "self":
            parameters = parameters[1:]
        bare = [p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else ...) for p in parameters]
        return str(inspect.Signature(bare)).replace("Ellipsis", "...")
    except (TypeError, ValueError):
        return _documented(thing)


def _documented(thing):
    """Return what the first line of its documentation says, as Cython writes it: name(self, int a=-1, *, b) -> int."""
    first = (thing.__doc__ or "").partition("\n")[0]
    if (found := re.match(r"[\w.]+\((.*)\)(?: -> .*)?$", first)) is None:
        return None
    words = [word.strip() for word in re.split(r",\s*(?![^()\[\]]*[)\]])", found[1]) if word.strip()]
    bare = []
    for word in words:
        name, has_default, _ = word.partition("=")
        name = name.replace("\\", "").split()[-1]
        if name != "self":
            bare.append(name + "=..." * bool(has_default))
    text = f"({', '.join(bare)})"
    try:
        ast.parse(f"def f{text}: ...")
    except SyntaxError:
        return None
    return text


if __name__ == "__main__":
    import cupy

    found = read(cupy)
    found["names"] = {place: " ".join(sorted(names)) for place, names in found["names"].items()}
    FILE.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
