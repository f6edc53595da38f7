"""What a whole sampler in one ONNX file says of itself, in its metadata: written by `export`, read by `upscale`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ..errors import ConfigError, ModelError, PidSamplerError
from ..io.data import parse_json
from ..table import StepTable
from ..values import field, flag, instance, items, mapping, shape, shown, whole, word, words
from .session import Tensor

RECORD, TABLE, LICENSE = "pidsampler.sampler", "pidsampler.table", "license"  # keys of the file's metadata
_FORMAT = "pidsampler.sampler/1"
_MOST_SCALE = 64
_MOST_FACTOR = 256
# Names of sizes that a run decides: of the picture, of its latent, of what is sampled, and of the result.
PICTURE_SIDES, LATENT_SIDES = ("height", "width"), ("latent_height", "latent_width")
SAMPLED_SIDES, RESULT_SIDES = ("sampled_height", "sampled_width"), ("result_height", "result_width")
_SIDES = (*PICTURE_SIDES, *LATENT_SIDES, *SAMPLED_SIDES, *RESULT_SIDES)
_ENTRIES = ("model", "scheduler", "timesteps", "caption", "guidance", "negative", "noise_frame")


def _shape(name: str, value: object) -> tuple[int | str, ...]:
    sizes = items(name, value, words="sizes")
    shape(name, [n for n in sizes if not isinstance(n, str)])
    return tuple(word(name, n, choices=_SIDES) if isinstance(n, str) else int(n) for n in sizes)


@attrs.frozen
class Port:
    """An input or output of a whole sampler.

    Args:
        name: Name in the graph.
        type: numpy's name of the element type.
        shape: Sizes of its axes; a name, such as "height", where a run decides.
        what: What it is, in words.
    """

    name: str = field(word)
    type: str = field(word, kw_only=True)
    shape: tuple[int | str, ...] = field(_shape, kw_only=True)
    what: str = field(word, kw_only=True)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape in numbers; see `Whole.at` for those of names.

        Raises:
            PidSamplerError: A size has a name still.
        """
        if named := [n for n in self.shape if isinstance(n, str)]:
            raise ModelError(f"the tensor {self} is of any {named[0]}, where one size was expected")
        return tuple(n for n in self.shape if isinstance(n, int))

    def __str__(self) -> str:
        return f"{self.name} {self.type} [{', '.join(map(str, self.shape))}]: {self.what}"


def _ports(name: str, value: object) -> tuple[Port, ...]:
    return tuple(instance(name, port, kind=Port, words="a Port") for port in items(name, value, words="Port"))


def _record(name: str, value: object) -> dict[str, Any]:
    record = mapping(name, value, words="entries of a record")
    if missing := [entry for entry in _ENTRIES if entry not in record]:
        raise ConfigError(f"{name}={shown(value)} has no entry {missing[0]!r}")
    return record


@attrs.frozen(kw_only=True)
class Whole:
    """A whole sampler, as its file describes it.

    Args:
        record: What a picture's record says of model and sampler, without the table.
        table: Rows that are in the graph.
        inputs: What it takes.
        outputs: What it makes.
        scale: Pixels of the result for each of the input, along a side.
        vae_factor: Pixels of the input for each of its latent, along a side.
        drifts: Whether the model's colors are known to drift.
        domains: Operator domains beside ONNX's own that the model's graphs use.
    """

    record: dict[str, Any] = field(_record, hash=False)
    table: StepTable = field(instance, kind=StepTable, words="a StepTable")
    inputs: tuple[Port, ...] = field(_ports)
    outputs: tuple[Port, ...] = field(_ports)
    scale: int = field(whole, low=1, high=_MOST_SCALE)
    vae_factor: int = field(whole, low=1, high=_MOST_FACTOR)
    drifts: bool = field(flag)
    domains: tuple[str, ...] = field(words)

    @property
    def calls(self) -> int:
        """Calls of the network."""
        return len(self.table) * (1 if self.record.get("guidance") in (None, 0) else 2)

    def at(self, height: int, width: int) -> Whole:
        """Return it with the sizes of one run in place of names.

        Args:
            height: Height in pixels of the picture, or of the one that the latent stands for.
            width: Its width.

        Raises:
            PidSamplerError: A tensor would have more than 2^40 elements.
        """
        small = (whole("height", height, low=1), whole("width", width, low=1))
        latent = [-(-n // self.vae_factor) for n in small]
        sides = dict(zip(PICTURE_SIDES, small, strict=True)) | dict(zip(LATENT_SIDES, latent, strict=True))
        sides |= {name: n * self.vae_factor * self.scale for name, n in zip(SAMPLED_SIDES, latent, strict=True)}
        sides |= {name: n * self.scale for name, n in zip(RESULT_SIDES, small, strict=True)}

        def sized(port: Port) -> Port:
            return attrs.evolve(port, shape=tuple(sides[n] if isinstance(n, str) else n for n in port.shape))

        return attrs.evolve(self, inputs=tuple(map(sized, self.inputs)), outputs=tuple(map(sized, self.outputs)))

    def check_tensors(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Check that a graph's inputs and outputs are those that its file describes.

        Raises:
            PidSamplerError: They are others.
        """
        for name, said, found in (("inputs", self.inputs, inputs), ("outputs", self.outputs, outputs)):
            tensors = [instance(name, one, kind=Tensor, words="Tensors") for one in items(name, found, words="Tensor")]
            if [(port.name, port.type, port.shape) for port in said] != [
                (t.name, t.dtype.name, t.shape) for t in tensors
            ]:
                raise ModelError("its tensors are not those of its description: it was changed")

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of the file."""
        said = {f.name: getattr(self, f.name) for f in attrs.fields(Whole) if f.name != "table"}
        said |= {name: [attrs.asdict(port) for port in said[name]] for name in ("inputs", "outputs")}
        model = self.record.get("model")
        license_line = model.get("licence") if isinstance(model, dict) else None
        return {
            RECORD: json.dumps({"format": _FORMAT, **said}),
            TABLE: self.table.to_json(),
            LICENSE: str(license_line or "not stated"),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Whole:
        """Read what `to_metadata` wrote. It is data of whoever wrote the file: nothing in it is looked up or run.

        Raises:
            PidSamplerError: There is no such entry, or a value is not as described.
        """
        metadata = mapping("metadata", metadata, words="texts by name")
        if RECORD not in metadata or TABLE not in metadata:
            raise ModelError("it is no whole sampler: make one by `pidsampler compile`, or pass a model's folder")
        said = mapping(RECORD, parse_json(metadata[RECORD], expected="a whole sampler's description"), words="entries")
        if (found := said.pop("format", None)) != _FORMAT:
            raise ModelError(f"its description has the format {found!r}, expected {_FORMAT!r}")
        names = {f.name for f in attrs.fields(Whole)} - {"table"}
        if said.keys() != names:
            raise ModelError(f"its description has the entries {sorted(said)}, expected {sorted(names)}")
        for name in ("inputs", "outputs"):
            said[name] = [_port(held) for held in items(name, said[name], words="tensors")]
        return cls(**said, table=StepTable.from_json(word(TABLE, metadata[TABLE])))


def _port(held: object) -> Port:
    given = mapping("a tensor", held, words="its name, type, shape and use")
    if given.keys() != {f.name for f in attrs.fields(Port)}:
        raise ConfigError(f"a tensor has the entries {sorted(given)}, expected name, shape, type and what")
    return Port(**given)


def read_whole(
    metadata: Mapping[str, str], *, path: object, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> Whole:
    """Return what a file says of itself, checked against its tensors; what it raises names the file."""
    try:
        whole = Whole.from_metadata(metadata)
        whole.check_tensors(inputs, outputs)
    except PidSamplerError as error:
        raise ModelError(f"{path}: {error}") from error
    return whole
