"""The network: ONNX Runtime sessions, IO binding on the backend's memory, and model folders."""

from .folders import bundled_models, check_model, model_has_null_caption, model_hashes, model_manifest, model_tables
from .model import Model
from .providers import CudaOptions

__all__ = [
    "CudaOptions",
    "Model",
    "bundled_models",
    "check_model",
    "model_has_null_caption",
    "model_hashes",
    "model_manifest",
    "model_tables",
]
