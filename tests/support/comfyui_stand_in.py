"""What stands in for ComfyUI: its KSAMPLER, its folders, and how it calls a node.

tests/parity/comfyui.json, made of its source, has the signatures that this must have (test_comfyui.py compares them).
"""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class ModelSampling:
    """Scales noise as the type of a model says; a subclass has the type's name."""

    def begin(self, sigma: Any, noise: Any) -> Any:
        """Noise without an image, at the first sigma."""
        return sigma * noise if self.is_flow() else (1 + sigma**2) ** 0.5 * noise

    def end(self, sigma: Any, x: Any) -> Any:
        """The image, at the last sigma."""
        return x / (1 - sigma) if self.is_flow() else x

    def is_flow(self) -> bool:
        """Whether sigma is the time."""
        return any(cls.__name__ == "CONST" for cls in type(self).__mro__)


class KSamplerX0Inpaint:
    """The model that a sampler function is given."""

    def __init__(self, model: Any, sigmas: Any) -> None:
        self.inner_model, self.sigmas = model, sigmas

    def __call__(self, x: Any, sigma: Any, denoise_mask: Any, model_options: Any = {}, seed: Any = None) -> Any:  # noqa: B006
        """x0."""
        return self.inner_model(x, sigma, model_options=model_options, seed=seed)


class KSAMPLER:
    """What a node of the type SAMPLER returns."""

    def __init__(self, sampler_function: Any, extra_options: Any = {}, inpaint_options: Any = {}) -> None:  # noqa: B006
        self.sampler_function, self.extra_options = sampler_function, extra_options

    def sample(
        self,
        model_wrap: Any,
        sigmas: Any,
        extra_args: Any,
        callback: Any,
        noise: Any,
        latent_image: Any = None,
        denoise_mask: Any = None,
        disable_pbar: bool = False,
    ) -> Any:
        """Call the sampler function."""
        kind, steps = model_wrap.inner_model.model_sampling, len(sigmas) - 1
        x = self.sampler_function(
            KSamplerX0Inpaint(model_wrap, sigmas),
            kind.begin(sigmas[0], noise),
            sigmas,
            extra_args={**extra_args, "denoise_mask": denoise_mask},
            callback=None if callback is None else lambda d: callback(d["i"], d["denoised"], d["x"], steps),
            disable=disable_pbar,
            **self.extra_options,
        )
        return kind.end(sigmas[-1], x)


def modules(models: Path) -> dict[str, Any]:
    """The modules that a node pack may import, with a folder for models."""

    def get_filename_list(folder_name: str) -> list[str]:
        folders, endings = paths.folder_names_and_paths[folder_name]
        return sorted(file.name for folder in folders for file in Path(folder).glob("*") if file.suffix in endings)

    def get_full_path_or_raise(folder_name: str, filename: str) -> str:
        for folder in paths.folder_names_and_paths[folder_name][0]:
            if Path(folder, filename).is_file():
                return str(Path(folder, filename))
        raise FileNotFoundError(filename)

    comfy, samplers, paths = (ModuleType(name) for name in ("comfy", "comfy.samplers", "folder_paths"))
    samplers.KSAMPLER = KSAMPLER  # type: ignore[attr-defined]
    comfy.samplers = samplers  # type: ignore[attr-defined]
    paths.models_dir, paths.folder_names_and_paths = str(models), {}  # type: ignore[attr-defined]
    paths.get_filename_list = get_filename_list  # type: ignore[attr-defined]
    paths.get_full_path_or_raise = get_full_path_or_raise  # type: ignore[attr-defined]
    return {"comfy": comfy, "comfy.samplers": samplers, "folder_paths": paths}


def execute(node: Any, **inputs: Any) -> dict[str, Any]:
    """Check the inputs of a workflow as `validate_inputs` does, call the node, and return its outputs by type."""
    wanted = node.INPUT_TYPES()["required"]
    assert set(inputs) == set(wanted)
    for name, (kind, *extra) in wanted.items():
        options = extra[0] if extra else {}
        if isinstance(kind, list):
            assert inputs[name] in kind, f"{name}: {inputs[name]!r} not in {kind}"
        else:
            inputs[name] = {"INT": int, "STRING": str}[kind](inputs[name])
            assert options.get("min", inputs[name]) <= inputs[name] <= options.get("max", inputs[name])
    found = getattr(node(), node.FUNCTION)(**inputs)
    assert isinstance(found, tuple)
    return dict(zip(node.RETURN_TYPES, found, strict=True))


def guided(kind: ModelSampling, network: Any) -> Any:
    """A guided model around network(x, sigma), with its type where ComfyUI has it."""

    class Guider(SimpleNamespace):
        def __call__(self, x: Any, sigma: Any, model_options: Any, seed: Any) -> Any:
            return network(x, sigma)

    return Guider(inner_model=SimpleNamespace(model_sampling=kind))
