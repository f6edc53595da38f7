"""Made again: a picture's record taken as what to do.

A record is data of whoever wrote the file. The table in it is checked as any other, and of all else only values of
known kinds and ranges are taken: no name in it is looked up, no file opened, nothing imported or downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ..errors import ConfigError
from ..image.host import MOST_SIDE
from ..image.size import Size
from ..io.captions import described
from ..io.records import read_record
from ..onnx.folders import bundled_models, model_hashes
from ..table import StepTable
from ..values import mapping, shown, whole, word
from .finish import Finish
from .memory import Tiling
from .options import Options
from .record import SAME
from .resolve import RecordedSampler
from .source import ImageLike, read
from .tiles import Axis, Grid
from .upscaler import Result, Upscaler

NOISES = ("independent", "fixed", "brownian", "torch")  # that a record can name: of others it does not hold the values
_LONGEST = 1000  # characters of a sampler's name that are kept


def _sides(held: object, name: str) -> dict[str, int]:
    given = mapping(name, held, words="sides of tiles in pixels, and their numbers")
    keys = ("width", "height") if name == "of" else ("width", "height", "columns", "rows")
    return {key: whole(f"{key} of {name}", given.get(key), low=1, high=MOST_SIDE) for key in keys}


def _tiles(name: str, held: object) -> dict[str, dict[str, int]]:
    given = mapping(name, held, words="tiles")
    return {
        "of": _sides(given.get("of"), "of"),
        "network": _sides(given, name),
        "encoder": _sides(given.get("encoder"), "encoder"),
    }


@attrs.frozen
class RecordedTiling(Tiling):
    """The tiles of a record, for a result of the same size; another one is cut up as memory allows.

    Args:
        tiles: The record's entry.
    """

    tiles: dict[str, dict[str, int]] = attrs.field(kw_only=True, hash=False)

    def told(self, size: tuple[int, int], *, unit: int, scale: int) -> tuple[Grid, Grid] | None:
        """Return the record's tiles of the network and of the encoder, or None for a result of another size.

        Raises:
            PidSamplerError: They do not cover it, or do not begin where the network's tiles can.
        """
        of = self.tiles["of"]
        if (of["height"], of["width"]) != size:
            return None
        small = (size[0] // scale, size[1] // scale)
        return _grid(size, self.tiles["network"], unit), _grid(small, self.tiles["encoder"], unit // scale)


@attrs.frozen(eq=False, kw_only=True)
class Recipe:
    """What a record says of how to make its picture, checked.

    Args:
        options: Options of the result, captions among them.
        tiling: Its tiles, where it was made in tiles.
        hashes: SHA-256 of the model's files, by name.
        record: The record.
    """

    options: Options
    tiling: Tiling
    hashes: dict[str, str]
    record: dict[str, Any]

    @classmethod
    def of(cls, record: Mapping[str, Any], *, caption: Any = None, negative: Any = None) -> Recipe:
        """Take a record as what to do.

        Args:
            record: As `read_record` returns it.
            caption: The embedding of the caption, where the record says that one was given: it holds its hash alone.
            negative: The embedding of the negative caption, where the record says that one was given.

        Raises:
            PidSamplerError: The record does not hold all that is needed, an entry is not as described, or an embedding
                is missing or another one.
        """
        record = mapping("record", record, words="a picture's record, as read_record returns it")
        for name in ("table", "model", "seed", "noise"):
            if name not in record:
                raise ConfigError(f"the record has no entry {name!r}, without which its picture cannot be made again")
        table = _table(record["table"])
        if (noise := record["noise"]) not in NOISES:
            raise ConfigError(
                f"the record's noise is {shown(noise)}, whose values it does not hold: expected {', '.join(NOISES)}"
            )
        model = mapping("model", record["model"], words="a model's name and hashes")
        hashes = mapping("sha256", model.get("sha256"), words="hashes by file name")
        for name, given in (("caption", caption), ("negative", negative)):
            _check_embedding(name, record, given)
        guidance = record.get("guidance")
        times = record.get("timesteps", table.times)
        options = Options(
            RecordedSampler(steps=table, name=str(record.get("scheduler"))[:_LONGEST], timesteps=times),
            seed=record["seed"],
            degrade_sigma=record.get("degrade_sigma", 0.0),
            noise=noise,
            caption=caption,
            # Where none is told the network was called once a row, whatever the model's own guidance is.
            guidance=None if table.asks_both else 1.0 if guidance is None else guidance,
            negative=negative,
            start=record.get("start"),
            finish=_finish(record.get("finish", {})),
        )
        hashes = {word("sha256", name): word("sha256", digest) for name, digest in hashes.items()}
        return cls(options=options, tiling=_tiling(record.get("tiles")), hashes=hashes, record=record)

    @property
    def sampler(self) -> RecordedSampler:
        """The record's sampler."""
        sampler = self.options.sampler
        assert isinstance(sampler, RecordedSampler)
        return sampler

    @property
    def input_hash(self) -> str | None:
        """SHA-256 of the record's input: of a file's bytes, or of an array's; None where it has none."""
        held = _entry(self.record, "input")
        return held.get("sha256") or held.get("array_sha256")

    def model(self, given: str | Path | None = None) -> str | Path:
        """Return the model to make it by: the one given, or else a bundled one, if its files are the record's.

        Raises:
            PidSamplerError: The model is another; or none is given, and the record's is not bundled.
        """
        if given is not None:
            self._check_model(given)
            return given
        if (found := self.bundled()) is None:
            raise ConfigError(
                f"the record's model, {shown(self.record['model'].get('name'))}, is not bundled: pass "
                "model=FOLDER, where its files are"
            )
        return found

    def bundled(self) -> str | None:
        """Return the name of the bundled model whose files are the record's; None where it is none of them."""
        return next((name for name in bundled_models() if model_hashes(name) == self.hashes), None)

    def _check_model(self, model: str | Path) -> None:
        found = model_hashes(model)
        if other := sorted(name for name in {*found, *self.hashes} if found.get(name) != self.hashes.get(name)):
            raise ConfigError(f"{model} is not the model of the record: by SHA-256 {', '.join(other[:4])} differ")

    def unlike(self, made: Mapping[str, Any]) -> list[str]:
        """Return the entries in which another record differs, of those that say how a picture was made."""
        made = json.loads(json.dumps(mapping("made", made, words="a record")))
        names = [name for name in SAME if name not in ("model", "table") and name in self.record]
        return [name for name in names if _told(made.get(name)) != _told(self.record[name])]


def make_again(
    image: ImageLike,
    record: str | Path | Mapping[str, Any],
    *,
    model: str | Path | None = None,
    device: str = "auto",
    caption: Any = None,
    negative: Any = None,
) -> Result:
    """Make a picture again from its record: the same bits on the same machine with the same versions.

    Args:
        image: The input, as in `Upscaler.__call__`.
        record: The picture's file, see `read_record`; or its record.
        model: The folder of the record's model; None for a bundled one, which is found by its hashes.
        device: "auto", "cpu" or "cuda".
        caption: The caption's embedding, where the record says that one was given.
        negative: The negative's embedding, likewise.

    Returns:
        The picture and its new record.

    Raises:
        PidSamplerError: The record does not hold all that is needed; the input, the model or an embedding is not the
            record's; or as `Upscaler.__call__`.
    """
    told = record if isinstance(record, Mapping) else read_record(record)
    recipe, source = Recipe.of(told, caption=caption, negative=negative), read(image)
    model = recipe.model(model)
    up = Upscaler.load(model, device, tiling=recipe.tiling)
    options = recipe.options.keywords()
    if unlike := recipe.unlike(up.record(source, **options)):
        raise ConfigError(f"the {unlike[0]} is not the record's: {shown(recipe.record[unlike[0]])}")
    return up(source, **options)


def needs(record: Mapping[str, Any]) -> list[str]:
    """Return what making a record's picture again takes that has to be given, a line each: model, input, embeddings.

    Raises:
        PidSamplerError: The record does not hold all that is needed, so that its picture cannot be made again.
    """
    recipe = Recipe.of({**mapping("record", record, words="a record"), "caption_source": None})
    lines = []
    if recipe.bundled() is None:
        hashes = ", ".join(f"{name} {digest}" for name, digest in sorted(recipe.hashes.items()))
        lines.append(f"the folder of the model {shown(record['model'].get('name'))}, of SHA-256 {hashes}")
    held = _entry(record, "input")
    digest = recipe.input_hash
    named = f" {shown(held['name'])}" if "name" in held else ""
    lines.append(f"the input{named}, {f'of SHA-256 {digest}' if digest else 'of which the record has no hash'}")
    if record.get("caption_source") == "given":
        lines.append(f"the caption's embedding, of SHA-256 {_entry(record, 'caption').get('sha256')}")
    if record.get("negative") is not None:
        digest = _entry(record, "negative").get("sha256")
        lines.append(f"the negative's embedding, of SHA-256 {digest}, unless it is the model's null caption")
    return lines


def _told(entry: Any) -> Any:
    """An entry without a file's name, which is no part of what it holds."""
    return {key: value for key, value in entry.items() if key != "name"} if isinstance(entry, dict) else entry


def _entry(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An entry that holds names and values; an empty one where it is anything else."""
    found = record.get(name)
    return found if isinstance(found, dict) else {}


def _table(held: object) -> StepTable:
    if not isinstance(held, dict):
        raise ConfigError(f"the record's table is {shown(held)}, expected rows of numbers")
    return StepTable.from_json(json.dumps(held))


def _check_embedding(name: str, record: Mapping[str, Any], given: Any) -> None:
    held, asked = record.get(name), record.get("caption_source") == "given" and name == "caption"
    if given is None:
        if asked:
            raise ConfigError(
                f"the record's picture was made with a {name}, of which it holds the hash: pass {name}=EMBEDDING"
            )
        return
    if held is None or described(given) != held:
        raise ConfigError(f"the {name} is not the record's: {shown(held)}")


def _finish(held: object) -> Finish:
    given = mapping("finish", held, words="post-processing by name")
    if (size := given.get("size")) is not None:
        size = word("size", size)
        scale = size.removeprefix("scale ") if size.startswith("scale ") else None
        fit = size.endswith(" fit")
        size = Size.parse(scale, None if scale else size.removesuffix(" fit"), fit=fit)
    strength = given.get("color_strength")
    return Finish(
        given.get("color"),
        1.0 if strength is None else strength,
        size=size,
        despeckle=given.get("despeckle"),
    )


def _tiling(held: object) -> Tiling:
    return Tiling() if held is None else RecordedTiling(tiles=_tiles("tiles", held))


def _grid(size: tuple[int, int], tiles: Mapping[str, int], unit: int) -> Grid:
    height, width = size
    return Grid(
        _axis(height, tiles["height"], tiles["rows"], unit), _axis(width, tiles["width"], tiles["columns"], unit)
    )


def _axis(length: int, size: int, count: int, unit: int) -> Axis:
    """So many tiles spread evenly over a side, as `tiles.axis` spreads them."""
    if count == 1:
        return Axis(length, length, starts=(0,))
    if length % unit or size % unit or not count <= length // unit:
        raise ConfigError(
            f"the record's {count} tiles of {size} pixels do not suit the model's, of multiples of {unit}"
        )
    return Axis(length, size, starts=tuple(unit * (k * (length - size) // unit // (count - 1)) for k in range(count)))
