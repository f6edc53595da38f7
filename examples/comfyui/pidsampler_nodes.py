"""Nodes for ComfyUI: copy this file into custom_nodes, and `pip install pidsampler` into ComfyUI's Python.

A workflow may come from a stranger: its texts are names and data, never files to import.
"""

import os

import comfy.samplers
import folder_paths
import torch

import pidsampler as ps
from pidsampler.interop import k_diffusion
from pidsampler.io.tables import read_table
from pidsampler.schedulers.spec import names_file

# Tables, such as `pidsampler learn` writes, lie in models/pidsampler.
TABLES = os.path.join(folder_paths.models_dir, "pidsampler")
folder_paths.folder_names_and_paths.setdefault("pidsampler", ([TABLES], {".json"}))
SPACES = list(k_diffusion.SPACES)  # "flow": FLUX, SD3, Qwen-Image and others; "ve": Stable Diffusion 1, 2 and XL


def _name(text):
    if names_file(text):
        raise ps.PidSamplerError(f"{text!r} names a file: put a table into models/pidsampler and load it by its node")
    return text


def _sigmas(times, space):
    if space == "ve":
        if times[0] == 1.0:
            raise ps.PidSamplerError("the list begins at time 1, which is no sigma of a ve model: take another list")
        times = [t / (1.0 - t) for t in times]
    return torch.tensor(list(times), dtype=torch.float32)


def _of_table(table, space):
    times = sorted(set(table.times), reverse=True)  # a level is told once, however many rows begin there
    return comfy.samplers.KSAMPLER(k_diffusion.sampler(table)), _sigmas(times, space)


class PidSampler:
    """A sampler by its spec, such as "unipc", over the sigmas that SamplerCustom is given."""

    CATEGORY, FUNCTION, RETURN_TYPES = "sampling/pidsampler", "make", ("SAMPLER",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"spec": ("STRING", {"default": "unipc"})}}

    def make(self, spec):
        return (comfy.samplers.KSAMPLER(k_diffusion.sampler(_name(spec))),)


class PidSigmas:
    """A list of times by its name; "pid" is PiD's exact list."""

    CATEGORY, FUNCTION, RETURN_TYPES = "sampling/pidsampler", "make", ("SIGMAS",)

    @classmethod
    def INPUT_TYPES(cls):
        steps = ("INT", {"default": 4, "min": 1, "max": 1000})
        return {"required": {"list": ("STRING", {"default": "pid"}), "steps": steps, "space": (SPACES,)}}

    def make(self, list, steps, space):
        return (_sigmas(ps.get_scheduler(f"flow-ode@{_name(list)}:{steps}").timesteps.tolist(), space),)


class PidTableFile:
    """A table of models/pidsampler, such as a learnt one, with its sigmas."""

    CATEGORY, FUNCTION, RETURN_TYPES = "sampling/pidsampler", "make", ("SAMPLER", "SIGMAS")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"table": (folder_paths.get_filename_list("pidsampler"),), "space": (SPACES,)}}

    @classmethod
    def IS_CHANGED(cls, table, space):
        return os.stat(folder_paths.get_full_path_or_raise("pidsampler", table)).st_mtime_ns

    def make(self, table, space):
        return _of_table(read_table(folder_paths.get_full_path_or_raise("pidsampler", table)), space)


class PidTableText:
    """A table as JSON in the workflow itself, such as a learnt one, with its sigmas."""

    CATEGORY, FUNCTION, RETURN_TYPES = "sampling/pidsampler", "make", ("SAMPLER", "SIGMAS")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"table": ("STRING", {"multiline": True}), "space": (SPACES,)}}

    def make(self, table, space):
        return _of_table(ps.StepTable.from_json(table), space)


NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in (PidSampler, PidSigmas, PidTableFile, PidTableText)}
NODE_DISPLAY_NAME_MAPPINGS = {
    "PidSampler": "PiD sampler",
    "PidSigmas": "PiD sigmas",
    "PidTableFile": "PiD table (file)",
    "PidTableText": "PiD table (text)",
}
