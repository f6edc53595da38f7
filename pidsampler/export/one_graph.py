"""A whole sampler in one ONNX graph: encoder, projection, and a network's call for each row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..io import captions
from ..noise.philox import DEGRADE
from ..onnx.contract import CAPTION, LATENT
from ..onnx.whole import Port, Whole, read_whole
from ..schedulers.making import SamplerLike
from ..table import Row, StepTable
from ..upscale.guidance import negative_for
from ..upscale.learnt import warn_of_another_model
from ..upscale.options import Options
from ..upscale.record import sampler_record
from ..upscale.resolve import Resolved, resolve
from ..values import file_path, flag, shown, word
from .build import FLOAT, Graph, Value, data_type
from .frame import AnyFrame, Axes, FixedFrame, Frame, as_size
from .model_files import LEAST_OPSET, GraphFile, ModelFiles, loaded, tensor
from .one_file import check_target, write
from .philox import Philox
from .rows import unrolled

NOISES = ("input", "philox")
OUTPUT_TYPES = ("uint8", "float32")
_PIXELS = "RGB pixels, row by row"
INPUT = "input"  # in place of a caption: it is given to each run
_MOST_ROWS = 250
_MOST_DRAWS = 8  # that a row mixes: more are a Brownian path's


def compile(
    model: str | Path,
    sampler: SamplerLike | None = None,
    *,
    size: Sequence[int] | str,
    output: str | Path,
    noise: str = "input",
    output_type: str = "uint8",
    caption: NDArray[Any] | str | None = None,
    guidance: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Compile a model and a sampler into one ONNX file for any ONNX runtime; docs/one-graph.md has its tensors.

    Args:
        model: Bundled name, model folder, or "hf:OWNER/NAME".
        sampler: A sampler that ends at 0, in any form of `get_scheduler`; None is the model's own.
        size: (height, width) of the result in pixels, multiples of the model's scale; the graph makes no other. "any":
            each picture's own, by a model whose graphs are of any size.
        output: The file. In the model's own folder it refers to the weights there. Elsewhere they are copied to
            OUTPUT.data, or into the file itself up to 128 MB.
        noise: "input": each draw is an input. "philox": the seed is an input, and the graph makes the noise, by bit
            operations that ONNX Runtime has on the CPU alone.
        output_type: Type of the result: "uint8" for pixels (height, width, 3), or "float32" for (1, 3, height, width)
            in -1..1, as it was sampled.
        caption: For a network that takes one: its embedding (tokens, width); "input" makes it an input of the graph;
            None is the model's null caption, or zeros where it has none.
        guidance: As in `Upscaler`; two calls of the network a row.
        overwrite: Whether files that exist are replaced.

    Returns:
        The file.

    Raises:
        PidSamplerError: An argument is not as described, the model cannot make that size or cannot be put in one graph,
            or the files cannot be written.
    """
    path, overwrite = file_path("output", output), flag("overwrite", overwrite)
    word("noise", noise, choices=NOISES)
    word("output_type", output_type, choices=OUTPUT_TYPES)
    wanted = as_size(size)
    if isinstance(caption, str) and caption != INPUT:
        raise ConfigError(f"caption={shown(caption)} must be an embedding (tokens, width), or {INPUT!r}")
    is_input = isinstance(caption, str)
    options = Options(sampler, caption=None if isinstance(caption, str) else caption, guidance=guidance)
    files = ModelFiles(model)
    check_target(path, files, overwrite=overwrite)
    maker = _Maker(files, _frame(files, wanted), noise=noise, output_type=output_type)
    graph, record = maker.made(options, is_input=is_input)
    warn_of_another_model(record.get("learnt_for"), stacklevel=2)
    write(graph, path, files=files)
    return path


def sampled_size(model: str | Path, *, size: Sequence[int] | str) -> tuple[int, int] | None:
    """Return the (height, width) that is sampled for a result: padded to what the model's graphs take.

    Args:
        model: As in `compile`, and so is the size.
        size: (height, width) of the result; for "any" there is none.

    Raises:
        PidSamplerError: The model cannot make that size at once.
    """
    frame = _frame(ModelFiles(model), as_size(size))
    return frame.sampled if isinstance(frame, FixedFrame) else None


def described(path: str | Path) -> Whole:
    """Return what a file that `compile` made says of itself, without loading its weights.

    Raises:
        PidSamplerError: The file is none, or its tensors are not those that it says.
    """
    model = loaded(path := file_path("path", path))
    inputs, outputs = ([tensor(path, value) for value in of] for of in (model.graph.inputs, model.graph.outputs))
    return read_whole(model.metadata_props, path=path, inputs=inputs, outputs=outputs)


def _frame(files: ModelFiles, size: tuple[int, int] | None) -> Frame:
    encodes = files.encoder is not None
    return (
        AnyFrame(files.contract, encodes=encodes) if size is None else FixedFrame(files.contract, size, encodes=encodes)
    )


class _Maker:
    """Makes the graph of one model, for one size or any."""

    def __init__(self, files: ModelFiles, frame: Frame, *, noise: str, output_type: str) -> None:
        self.files, self.contract, self.frame = files, files.contract, frame
        self.noise, self.output_type = noise, output_type
        self.shape: Axes = (1, 3, *frame.sampled)
        self.latent_shape: Axes = (1, self.contract.latent_channels, *frame.latent)
        opset = max(LEAST_OPSET, *(graph.opset for graph in files.graphs))
        for file in files.graphs:
            file.check_opset(opset)
        self.g = Graph("sampler", opset)
        self.inputs: list[Port] = []
        self.drawn: dict[tuple[int, int], Value] = {}
        self.philox: Philox | None = None

    def made(self, options: Options, *, is_input: bool) -> tuple[Graph, dict[str, Any]]:
        """The graph, and what it says of model and sampler."""
        contract, g = self.contract, self.g
        if is_input and contract.caption is not None:  # one that stands for all
            options = attrs.evolve(options, caption=np.zeros(contract.caption, np.float32))
        if is_input or options.caption is not None:
            self._check_caption(options.caption)
        resolved = resolve(options, contract, size=self.frame.sampled if isinstance(self.frame, FixedFrame) else None)
        table = resolved.table
        _check(table)
        if self.files.encoder is not None:
            source = self._input("picture", np.uint8, (*self.frame.picture, 3), _PIXELS)
        else:
            source = self._input("latent", FLOAT, self.latent_shape, "with the noise of degrade_sigma in it already")
        self.frame.measure(g, source, axis=2 if self.files.encoder is None else 0)
        sigma = self._input("degrade_sigma", FLOAT, (1,), "noise level of the latent, 0..0.8")
        texts = self._captions(options, resolved, is_input=is_input)
        self._noises(sorted({0, *(draw for row in table for draw in row.draws)}))
        conditions = self._conditions(source, sigma)

        def network(x: Value, row: Row) -> Value:
            if resolved.guidance is None:
                return self._call(x, row, conditions, texts[row.net] if texts else None)
            untold = self._call(x, row, conditions, texts[1])
            if resolved.guidance == 0.0:
                return untold
            told = self._call(x, row, conditions, texts[0])
            return g("Add", g("Mul", g("Sub", told, untold), g.constant(resolved.guidance, FLOAT)), untold)

        x = unrolled(g, table, network=network, noise=self._normal)
        self._picture(x)
        return g, self._describe(options, resolved, is_input=is_input)

    def _input(self, name: str, dtype: Any, shape: Axes, what: str) -> Value:
        self.inputs.append(Port(name, type=np.dtype(dtype).name, shape=shape, what=what))
        return self.g.input(name, np.dtype(dtype), shape=shape)

    def _check_caption(self, caption: NDArray[Any] | None) -> None:
        name, taken = self.contract.name, self.contract.caption
        if taken is None or caption is None:
            raise ConfigError(f"{name} takes no caption: leave it out, or export the model with caption=input")
        captions.check_shape(caption, taken, taker=name)

    def _captions(self, options: Options, resolved: Resolved, *, is_input: bool) -> list[Value]:
        """The caption, and what guidance leads away from; nothing for a network that takes none."""
        shape = self.contract.caption
        if shape is None:
            return []
        if is_input:
            first = self._input(CAPTION, FLOAT, (1, *shape), "embedding of the caption")
        else:
            first = self._embedding(self.files.null_caption if options.caption is None else options.caption, shape)
        if resolved.guidance is None and not resolved.table.asks_both:
            return [first]
        return [first, self._embedding(negative_for(options, self.files), shape)]

    def _embedding(self, values: NDArray[Any] | None, shape: tuple[int, int]) -> Value:
        if values is None:
            return self.g("Expand", self.g.constant(0.0, FLOAT), self.g.constant([1, *shape]))
        return self.g.constant(values[None], FLOAT)

    def _noises(self, draws: Sequence[int]) -> None:
        if self.noise == "philox":
            self.philox = Philox(self.g, self._input("seed", np.uint64, (1,), "seed of the noise"))
            return
        for draw in draws:
            what = "standard normal: x begins as it" if draw == 0 else "standard normal"
            self.drawn[0, draw] = self._input(f"noise_{draw}", FLOAT, self.shape, what)
        if self.files.encoder is not None:
            what = "standard normal, times degrade_sigma: zeros where that is 0"
            self.drawn[DEGRADE, 0] = self._input("noise_latent", FLOAT, self.latent_shape, what)

    def _normal(self, draw: int, stream: int = 0) -> Value:
        if (stream, draw) not in self.drawn:
            assert self.philox is not None
            latent = stream == DEGRADE
            shape = self.frame.extent(self.g, self.contract.latent_channels if latent else 3, latent=latent)
            self.drawn[stream, draw] = self.philox.normal(draw, shape, stream=stream)
        return self.drawn[stream, draw]

    def _conditions(self, source: Value, sigma: Value) -> dict[str, Value]:
        """What the network takes beside x, t and the caption, by name."""
        g, network = self.g, self.files.network
        latent = source if self.files.encoder is None else self._encoded(source, sigma, self.files.encoder)
        level = next(tensor for tensor in network.inputs if tensor.name == "degrade_sigma")
        found = {"degrade_sigma": self._cast(sigma if level.shape else g("Squeeze", sigma), level.dtype)}
        takes_latent = self.files.projection or network
        dtype = next(tensor.dtype for tensor in takes_latent.inputs if tensor.name == LATENT)
        latent = self._cast(latent, dtype)
        if self.files.projection is None:
            return found | {LATENT: latent}
        features = g.call(self.files.projection.graph, {LATENT: latent}, name="projection")
        return found | {
            tensor.name: value for tensor, value in zip(self.files.projection.outputs, features, strict=True)
        }

    def _encoded(self, picture: Value, sigma: Value, encoder: GraphFile) -> Value:
        """The picture's latent, with the noise of degrade_sigma."""
        g, ((image,), (made,)) = self.g, (encoder.inputs, encoder.outputs)
        pixels = g("Mul", self._cast(picture, FLOAT, np.uint8), g.constant(np.float32(2.0 / 255.0), FLOAT))
        x = g("Sub", pixels, g.constant(1.0, FLOAT))
        x = g("Unsqueeze", g("Transpose", x, perm=[2, 0, 1]), g.constant([0]))
        x = self.frame.padded(g, x)
        (latent,) = g.call(encoder.graph, {image.name: self._cast(x, image.dtype)}, name="encoder")
        latent = self._cast(latent, FLOAT, made.dtype)
        one = g.constant(1.0, FLOAT)
        if self.contract.noise_frame == "flow":
            keep = g("Sub", one, sigma)
        else:
            keep = g("Sqrt", g("Sub", one, g("Mul", sigma, sigma)))
        noise = self._normal(0, DEGRADE)
        return g("Add", g("Mul", latent, keep), g("Mul", noise, sigma))

    def _call(self, x: Value, row: Row, conditions: Mapping[str, Value], caption: Value | None) -> Value:
        """The network's output in float32."""
        g, network = self.g, self.files.network
        types = {tensor.name: tensor for tensor in network.inputs}
        told, time = types["t"], row.at * self.contract.timescale
        value = round(time) if told.dtype.kind == "i" else time
        taken = {
            **conditions,
            "x": self._cast(x, types["x"].dtype),
            "t": g.constant(np.full((1,) * len(told.shape), value), told.dtype),
        }
        if caption is not None:
            taken[CAPTION] = self._cast(caption, types[CAPTION].dtype)
        (m,) = g.call(network.graph, taken, name="network")
        return self._cast(m, FLOAT, network.outputs[0].dtype)

    def _picture(self, x: Value) -> None:
        g, (height, width) = self.g, self.frame.size
        x = self.frame.cropped(g, x)
        if self.output_type == "float32":
            g.output("result", x, dtype=FLOAT, shape=(1, 3, height, width))
            return
        half = g.constant(127.5, FLOAT)
        levels = g("Add", g("Mul", x, half), half)
        levels = g("Round", g("Clip", levels, g.constant(0.0, FLOAT), g.constant(255.0, FLOAT)))
        pixels = g(
            "Squeeze", g("Transpose", self._cast(levels, np.dtype(np.uint8)), perm=[0, 2, 3, 1]), g.constant([0])
        )
        g.output("result", pixels, dtype=np.dtype(np.uint8), shape=(height, width, 3))

    def _cast(self, value: Value, dtype: Any, of: Any = FLOAT) -> Value:
        dtype = np.dtype(dtype)
        return value if dtype == np.dtype(of) else self.g("Cast", value, to=data_type(dtype))

    def _describe(self, options: Options, resolved: Resolved, *, is_input: bool) -> dict[str, Any]:
        """Say in the file what it is; what it says of model and sampler."""
        record = sampler_record(options, resolved=resolved, model=self.files)
        del record["table"]
        if is_input:
            record |= {"caption": None, "caption_source": "input"}
        height, width = self.frame.size
        if self.output_type == "uint8":
            result = Port("result", type="uint8", shape=(height, width, 3), what=_PIXELS)
        else:
            result = Port("result", type="float32", shape=(1, 3, height, width), what="RGB in -1..1, not clipped")
        self.g.metadata = Whole(
            record=record,
            table=resolved.table,
            inputs=tuple(self.inputs),
            outputs=(result,),
            scale=self.contract.scale,
            vae_factor=self.contract.vae_factor,
            drifts=self.contract.drifts,
            domains=tuple(sorted({domain for graph in self.files.graphs for domain in graph.domains})),
        ).to_metadata()
        return record


def _check(table: StepTable) -> None:
    if len(table) > _MOST_ROWS:
        raise ConfigError(
            f"the sampler has {len(table)} rows, and one graph holds at most {_MOST_ROWS}: use fewer steps"
        )
    for i, row in enumerate(table):
        if len(row.draws) > _MOST_DRAWS:
            raise ConfigError(
                f"row {i} mixes {len(row.draws)} draws of noise, as Brownian noise does, and a graph takes "
                f"{_MOST_DRAWS} at most: compile the sampler with independent or fixed noise"
            )
