"""How ONNX Runtime uses a device: execution providers and their options, stated and never left to its defaults."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import attrs

from .. import moved
from ..backends import Backend
from ..errors import MissingDependencyError, missing_extra
from ..io.files import user_cache
from ..values import field, flag, whole, word

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


_SILENT = "ORT_DISABLE_TELEMETRY"
_ERRORS = 3  # and worse, of ONNX Runtime's levels of severity
_SHARED = ("libcurand.so.10", "libcudnn.so.9")
LIBRARIES = {
    12: ("libcudart.so.12", "libcublasLt.so.12", "libcublas.so.12", "libcufft.so.11", *_SHARED),
    13: ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", *_SHARED),
}
"""What the CUDA provider is linked with, by CUDA's version, in an order to load; and cuDNN, which each graph needs."""


@moved.keywords()
@attrs.frozen
class CudaOptions:
    """Options of ONNX Runtime on the GPU.

    Args:
        provider: "cuda", or "tensorrt": it builds an engine for each graph and size, which takes minutes once and is
            kept in the user's cache folder; the network in bfloat16, the encoder in float32.
        tf32: Let float32 products round their factors to 10 bits, which is faster and less exact.
        memory_limit: Bytes that a session's own memory may take, or None.
        cuda_graph: Record the network's launches at its first step and replay them, for many small ones. x and the
            velocity go through buffers that stay in place.
        one_at_a_time: Hold the encoder, or the network with its projection, and never both: the peak is the larger
            one's memory and not the sum, and each picture loads all again.

    Raises:
        PidSamplerError: The provider is unknown, or the limit is not above 0.
    """

    provider: str = field(word, choices=("cuda", "tensorrt"), default="cuda")
    tf32: bool = field(flag, default=False)
    memory_limit: int | None = field(whole, low=1, default=None, optional=True, kw_only=True)
    cuda_graph: bool = field(flag, default=False, kw_only=True)
    one_at_a_time: bool = field(flag, default=False, kw_only=True)


def import_onnxruntime() -> Any:
    """Return the onnxruntime module, with its telemetry off unless the user has it on, and without its warnings.

    Those of no session's own are left out where nobody imported it before: 1.31 says on stderr of each session on CUDA
    that there is no plugin for it.

    Since 1.29 its builds for Linux and macOS write an identifier of the machine into the user's cache folder and report
    to Microsoft. The environment variable ORT_DISABLE_TELEMETRY, which is set to 1 here where it is not set, keeps them
    from it if it is there before the import; its builds for Windows know `disable_telemetry_events` alone.

    Raises:
        PidSamplerError: onnxruntime is not installed; the message names the extra.

    Source: microsoft/onnxruntime, docs/Privacy.md.
    """
    silent, first = os.environ.setdefault(_SILENT, "1") == "1", "onnxruntime" not in sys.modules
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error
    if first:
        onnxruntime.set_default_logger_severity(_ERRORS)
    if silent:
        _disable_events()
    return onnxruntime


@cache  # once: who turns them on afterwards by ONNX Runtime's own function has them on
def _disable_events() -> None:
    import onnxruntime

    onnxruntime.disable_telemetry_events()


def check_cuda() -> None:
    """Check that the onnxruntime which is installed was built for CUDA, and load CUDA's libraries for it.

    Raises:
        PidSamplerError: onnxruntime is not installed, or is the one for the CPU.
    """
    runtime = import_onnxruntime()
    if CUDA not in runtime.get_available_providers():
        raise MissingDependencyError(
            "the onnxruntime that is installed is the one for the CPU: pip uninstall onnxruntime, then "
            "pip install 'pidsampler[cuda13]' (or [cuda12] for an older driver)"
        )
    if hasattr(runtime, "preload_dlls"):
        with redirect_stdout(StringIO()):  # it prints what it cannot find; a session that needs it says so
            runtime.preload_dlls()
    # It looks for NVIDIA's packages beside itself alone: installed with `pip install --target` it finds none.
    packaged = nvidia_libraries()
    for name in LIBRARIES.get(int((getattr(runtime, "cuda_version", None) or "0").split(".")[0]), ()):
        if name in packaged:
            try:
                ctypes.CDLL(name)  # it is loaded already, or the system has its own
            except OSError:
                with suppress(OSError):  # a session that needs it says so
                    ctypes.CDLL(str(packaged[name]))


def nvidia_libraries() -> dict[str, Path]:
    """Return the shared libraries in NVIDIA's packages by file name, such as "libcublas.so.13"."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    return {path.name: path for folder in folders for path in Path(folder).glob("*/lib/lib*.so.*")}


def providers(
    backend: Backend, options: CudaOptions, *, network: bool, tf32: bool = False
) -> Sequence[tuple[str, dict[str, str]]]:
    """Return the providers of a session, the one asked for first.

    Args:
        backend: Backend whose device and stream it shares.
        options: Options of the GPU; without effect on the CPU, which has none.
        network: Whether it is the network's session, not the encoder's.
        tf32: Whether products are TF32's whatever the options say.

    Source of what "EXHAUSTIVE" does: microsoft/onnxruntime, core/providers/cuda/nn/conv.cc.
    """
    if backend.device == "cpu":
        return [(CPU, {})]
    shared = {"device_id": str(backend.device_id), "user_compute_stream": str(backend.stream_pointer)}
    cuda = {
        **shared,
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles
        # cuDNN's heuristics B, though nothing is searched: by A it takes an FFT of 555 GB for PiD's projection.
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": str(int(options.tf32 or tf32)),
        "enable_cuda_graph": str(int(options.cuda_graph and network)),
    }
    if options.memory_limit is not None:
        cuda["gpu_mem_limit"] = str(options.memory_limit)
    if options.provider == "cuda":
        return [(CUDA, cuda)]
    folder = user_cache() / "tensorrt"
    tensorrt = {
        **shared,
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_bf16_enable": str(int(network)),  # in half precision the VAE of SDXL overflows
        "trt_cuda_graph_enable": str(int(options.cuda_graph and network)),
    }
    return [(TENSORRT, tensorrt), (CUDA, {**cuda, "enable_cuda_graph": "0"})]
