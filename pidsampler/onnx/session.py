"""ONNX Runtime sessions with explicit providers, and IO binding that never loses the memory it points at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from ..backends import Array, Backend
from ..errors import ModelError, OutOfMemoryError, PidSamplerError
from ..threads import core_limit
from .providers import CPU, CudaOptions, import_onnxruntime, providers

# ONNX's own numbers: the binding takes them for every type, also for those numpy has no name for.
_ELEMENT_TYPES = {
    "tensor(float)": (np.dtype(np.float32), 1),
    "tensor(int64)": (np.dtype(np.int64), 7),
    "tensor(float16)": (np.dtype(np.float16), 10),
    "tensor(double)": (np.dtype(np.float64), 11),
    "tensor(bfloat16)": (np.dtype(ml_dtypes.bfloat16), 16),
}
_WHOLE_TYPES = {"tensor(uint8)": (np.dtype(np.uint8), 2), "tensor(uint64)": (np.dtype(np.uint64), 13)}  # pixels, seeds
_ONNX_NUMBER = dict([*_ELEMENT_TYPES.values(), *_WHOLE_TYPES.values()])
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_LEAST_BFLOAT16 = 80  # sm_80: older cards multiply no bfloat16
# A run that waits for the device gives back the pinned memory in which it staged small tables; the others keep theirs.
_WAITS = 32  # every so many runs
_HOST = "Cpu"  # as it names the memory
_NO_CUDNN = "cuDNN is unavailable"  # as ONNX Runtime says from 1.28 on, of the first node that asks for it
# What ONNX Runtime's arenas, the C++ library, CUDA, cuDNN and cuBLAS say.
_NO_MEMORY = re.compile(r"failed to allocate|bad[_ ]alloc|out ?of ?memory|ALLOC_FAILED", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output of a graph.

    Args:
        name: Name in the graph.
        dtype: numpy (or ml_dtypes) type of the elements.
        shape: One int for each fixed axis, the symbol's name or None for each dynamic one.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


class Graph(Protocol):
    """A graph that tells what it takes and makes: a `Session`, or a file of one."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> Sequence[Tensor]:
        """What it makes."""
        ...

    def output_shapes(self, array: Array) -> dict[str, tuple[int, ...]]:
        """Run a graph of one input once, and return the shape of each output, by name."""
        ...


class Session:
    """One graph on one device. It is loaded when made, and again when used after `close`.

    Args:
        path: An .onnx file; its external data lies beside it.
        backend: Backend whose device runs it, and whose arrays are bound.
        options: Options of the GPU.
        network: Whether it is the network: some options are for it alone.
        keep: Hold what a run took of the host's memory for the next one, which is faster.
        tf32: Let float32 products round their factors on a GPU, whatever the options say.
        whole: Whether it is a whole sampler, which takes pixels and seeds.

    Attributes:
        metadata: What the file says of itself, texts by name.
        on_host: Names of numbers that a GPU's graph reads in the host's memory.

    Raises:
        PidSamplerError: onnxruntime is missing, the file or its external data is, the file is no graph, a tensor has
            an element type that cannot be bound, the provider asked for cannot be had, or it would run what takes an
            input or makes an output on the CPU; or the card has no bfloat16.
    """

    def __init__(
        self,
        path: Path,
        backend: Backend,
        *,
        options: CudaOptions | None = None,
        network: bool = False,
        keep: bool = True,
        tf32: bool = False,
        whole: bool = False,
    ) -> None:
        self.path = path
        self._types = {**_ELEMENT_TYPES, **(_WHOLE_TYPES if whole else {})}
        self._backend = backend
        self._keep = keep
        self._providers = providers(backend, options or CudaOptions(), network=network, tf32=tf32)
        self._open: Any = None
        self._runs: Iterator[int] = count(1)
        session = self._opened()
        self.inputs = [self._tensor(node) for node in session.get_inputs()]
        self.outputs = [self._tensor(node) for node in session.get_outputs()]
        self._check_type()
        self.on_host = self._read_on_host(session)
        self.metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map

    def bind(self, graph: int | None = None, shrink: bool = False) -> Binding:
        """Return an empty binding of this session.

        Args:
            graph: Number of the CUDA graph that its runs record and replay.
            shrink: Give memory back to the device after each run.
        """
        return Binding(
            self._opened(),
            self._backend,
            path=self.path,
            graph=graph,
            shrink=shrink,
            on_host=self.on_host,
            runs=self._runs,
        )

    def close(self) -> None:
        """Free the graph's memory once its bindings are gone."""
        self._open = None

    def output_shapes(self, array: Array) -> dict[str, tuple[int, ...]]:
        """Run a graph of one input once, and return the shape of each output, by name.

        Raises:
            PidSamplerError: onnxruntime refused the run.
        """
        binding = self.bind()
        binding.input(self.inputs[0].name, self._backend.adopt(array))
        return binding.run_for_shapes()

    def _opened(self) -> Any:
        if self._open is not None:
            return self._open
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = core_limit() or 0  # 0: as many as it finds good
        options.enable_cpu_mem_arena = self._keep
        options.enable_mem_pattern = False  # it would take as much again from the second run of a size on
        options.log_severity_level = 4  # what fails raises; a line on stderr as well would only repeat it
        # Idle threads of one graph do not keep the cores from the sampler's and the other graph's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        asked = self._providers[0][0]
        try:
            # Else what keeps a provider from being made is printed on stdout, and the CPU tried.
            session = runtime.InferenceSession(
                str(self.path), options, providers=self._providers, enable_fallback=False
            )
        except Exception as error:  # onnxruntime raises a dozen types of its own, and RuntimeError
            raise ModelError(_load_error(self.path, str(error), asked)) from error
        if session.get_providers()[0] != asked:
            raise ModelError(
                f"{self.path}: asked for {asked}, but onnxruntime took {session.get_providers()[0]}: a library that it "
                "needs is missing or of another version; `pidsampler doctor --device cuda` says which of CUDA's, and "
                "'pip install tensorrt-cu13' brings TensorRT's"
            )
        self._open = session
        return session

    def _tensor(self, node: Any) -> Tensor:
        if node.type not in self._types:
            raise ModelError(f"{self.path}: {node.name!r} is a {node.type}, expected one of {', '.join(self._types)}")
        shape = tuple(n if isinstance(n, int) and n > 0 else (n or None) for n in node.shape)
        return Tensor(name=node.name, dtype=self._types[node.type][0], shape=shape)

    def _check_type(self) -> None:
        card = getattr(self._backend, "architecture", _LEAST_BFLOAT16)
        for tensor in (*self.inputs, *self.outputs):
            if tensor.dtype == _BFLOAT16 and card < _LEAST_BFLOAT16:
                raise ModelError(
                    f"{self.path}: {tensor.name!r} is bfloat16, which a card of sm_{card} has not (sm_80 and newer "
                    "have): export float16, by `pidsampler export --dtype float16`"
                )

    def _read_on_host(self, session: Any) -> frozenset[str]:
        """Names of the inputs that are read in the host's memory, which only numbers may be.

        ONNX Runtime copies an input once, when it is bound, where what takes it runs on the CPU: an array on the GPU
        that is written later would be stale, with no word of it.
        """
        if self._backend.device == "cpu":
            return frozenset()
        found = set()
        for tensor, place in zip(self.inputs, session.get_input_memory_infos(), strict=True):
            if place.name == _HOST:
                if len(tensor.shape) > 1:
                    raise self._elsewhere(f"takes {tensor.name!r}")
                found.add(tensor.name)
        for tensor, place in zip(self.outputs, session.get_output_memory_infos(), strict=True):
            if place.name == _HOST:
                raise self._elsewhere(f"makes {tensor.name!r}")
        return frozenset(found)

    def _elsewhere(self, what: str) -> ModelError:
        return ModelError(
            f"{self.path}: this onnxruntime has nothing on the GPU for the operator that {what}, and would run it on "
            "the CPU: export the model with other operators, install another release of onnxruntime-gpu, or pass "
            "device='cpu'"
        )


class Binding:
    """The arrays that one session reads and writes, by address: nothing is copied.

    onnxruntime keeps a raw pointer, so the binding holds each array until another takes its name. On a GPU no run waits
    for the device, but for one in 32 of the session's.
    """

    def __init__(
        self,
        session: Any,
        backend: Backend,
        *,
        path: Path,
        runs: Iterator[int],
        graph: int | None = None,
        shrink: bool = False,
        on_host: frozenset[str] = frozenset(),
    ) -> None:
        self._session, self._backend, self._path = session, backend, path
        self._binding = session.io_binding()
        self._held: dict[str, Array] = {}
        self._runs, self._on_host = runs, on_host
        self._options, self._waiting = (self._run_options(graph, shrink, waits=waits) for waits in (False, True))

    def input(self, name: str, array: Array) -> None:
        """Bind a contiguous array as an input; its values are read at each run."""
        self._binding.bind_input(*self._arguments(name, array))

    def output(self, name: str, array: Array) -> None:
        """Bind a contiguous array as an output; each run writes into it."""
        self._binding.bind_output(*self._arguments(name, array))

    def _run_options(self, graph: int | None, shrink: bool, *, waits: bool) -> Any:
        options = import_onnxruntime().RunOptions()
        if self._backend.device == "cuda":  # all work is on the stream that the session shares: its order is kept
            options.add_run_config_entry("disable_synchronize_execution_providers", str(int(not waits)))
            if graph is not None:
                options.add_run_config_entry("gpu_graph_id", str(graph))
            if shrink:
                device = f"gpu:{self._backend.device_id}"
                options.add_run_config_entry("memory.enable_memory_arena_shrinkage", device)
        return options

    def run(self) -> None:
        """Evaluate the graph.

        Raises:
            PidSamplerError: onnxruntime refused, as for an output of another shape than the bound array's.
        """
        try:
            waits = next(self._runs) % _WAITS == 0
            self._session.run_with_iobinding(self._binding, self._waiting if waits else self._options)
        except Exception as error:  # onnxruntime raises a dozen types of its own, and RuntimeError
            bound = ", ".join(f"{name} {array.shape}" for name, array in self._held.items())
            kind = OutOfMemoryError if _NO_MEMORY.search(str(error)) else PidSamplerError
            advice = "; `pidsampler doctor --device cuda` says the line that brings it" * (_NO_CUDNN in str(error))
            raise kind(f"{self._path} failed to run: {_one_line(str(error))}{advice}; it was given {bound}") from error

    def run_for_shapes(self) -> dict[str, tuple[int, ...]]:
        """Evaluate the graph into memory of onnxruntime's own on the device, and return each output's shape, by name.

        Raises:
            PidSamplerError: onnxruntime refused.
        """
        for name in self._outputs():
            self._binding.bind_output(name, self._backend.device, self._backend.device_id)
        self.run()
        values = self._binding.get_outputs()
        return {name: tuple(value.shape()) for name, value in zip(self._outputs(), values, strict=True)}

    def _outputs(self) -> list[str]:
        return [node.name for node in self._session.get_outputs()]

    def _arguments(self, name: str, array: Array) -> tuple[str, str, int, int, Sequence[int], int]:
        if not array.flags.c_contiguous:
            raise ModelError(f"an array of shape {array.shape} is not contiguous and cannot be bound to {name!r}")
        self._held[name] = array
        number, where = _ONNX_NUMBER[array.dtype], self._backend.device
        if name in self._on_host:
            return name, "cpu", 0, number, array.shape, array.ctypes.data
        return name, where, self._backend.device_id, number, array.shape, self._backend.pointer(array)


def _load_error(path: Path, message: str, asked: str) -> str:
    if "External data path does not exist" in message:
        missing = Path(message.split("does not exist:")[-1].strip().strip('"')).name
        return f"{path}: its external data file {missing!r} is missing: put it beside {path.name}"
    if "External data path validation failed" in message:
        return (
            f"{path} names external data outside its own folder, which a model of others must not read: put real files "
            f"beside {path.name}, no links"
        )
    if "NOT_IMPLEMENTED" in message:
        what = _one_line(message.split("NOT_IMPLEMENTED :")[-1])
        why = "bfloat16, for one, needs a GPU"
        if asked != CPU:  # it does not say whether it went on with the CPU
            why = "if CUDA's libraries are missing, it was the CPU's: `pidsampler doctor --device cuda` says so"
        return f"{path} cannot be run by this provider of ONNX Runtime: {what}; {why}"
    if "graph capture" in message:
        return (
            f"{path} cannot be recorded as a CUDA graph, since part of it runs on the CPU, such as the shapes of a "
            "model that takes any size: export it for one, by `pidsampler export --size`, or pass cuda_graph=False"
        )
    if "rotobuf" in message:
        return f"{path} is not an ONNX graph: it is damaged or not downloaded whole (a Git LFS pointer?)"
    return f"{path} cannot be loaded: {_one_line(message)}"


def _one_line(message: str) -> str:
    return " ".join(message.split())
