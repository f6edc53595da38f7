"""Make comfyui.json: what the node pack and `interop.k_diffusion` rely on, read from ComfyUI's source.

    python tests/parity/comfyui_facts.py COMFYUI

COMFYUI is a clone of that repository. Nothing of it is imported: its sources are parsed.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path


def git(clone, *arguments):
    """What git says."""
    return subprocess.run(["git", "-C", clone, *arguments], capture_output=True, text=True, check=True).stdout


def find(tree, *names):
    """A function or class by its name, within the classes before it."""
    for name in names:
        tree = next(node for node in tree.body if getattr(node, "name", None) == name)
    return tree


def arguments(tree, *names):
    """A function's arguments, as written."""
    return ast.unparse(find(tree, *names).args)


def nodes(tree, kind):
    """All nodes of a kind, as written."""
    return [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, kind)]


def facts(read):
    """All of them; read(path) is a file's text."""
    parsed = {name: ast.parse(read(f"comfy/{name}.py")) for name in ("samplers", "k_diffusion/sampling", "model_base")}
    samplers, sampling, base = parsed.values()
    types, paths = ast.parse(read("comfy/model_sampling.py")).body, ast.parse(read("folder_paths.py"))
    euler, sample = find(sampling, "sample_euler"), find(samplers, "KSAMPLER", "sample")
    words = r"\b(INPUT_TYPES|RETURN_TYPES|FUNCTION|IS_CHANGED|NODE_CLASS_MAPPINGS|NODE_DISPLAY_NAME_MAPPINGS)\b"
    return {
        "KSAMPLER.__init__": arguments(samplers, "KSAMPLER", "__init__"),
        "KSAMPLER.sample": arguments(samplers, "KSAMPLER", "sample"),
        "KSAMPLER.sample calls": [call for call in nodes(sample, ast.Call) if "sampler_function" in call],
        "its callback": nodes(sample, ast.Lambda),
        "KSamplerX0Inpaint.__call__": arguments(samplers, "KSamplerX0Inpaint", "__call__"),
        "sample_euler": ast.unparse(euler.args),
        "sample_euler_ancestral": arguments(sampling, "sample_euler_ancestral"),
        "sample_euler calls": [call for call in nodes(euler, ast.Call) if call.startswith(("model(", "callback("))],
        "a noise sampler": nodes(find(sampling, "default_noise_sampler"), ast.Lambda)[0].split(":")[0],
        "where the model's type is": ast.unparse(find(sampling, "sample_euler_ancestral").body[0].test),
        "its bases": {
            node.name: [ast.unparse(parent) for parent in node.bases]
            for node in types
            if isinstance(node, ast.ClassDef) and not node.name.startswith("ModelSampling")
        },
        "those of models": sorted(
            set(re.findall(r"c = comfy\.model_sampling\.(\w+)", ast.unparse(find(base, "model_sampling"))))
        ),
        "get_filename_list": arguments(paths, "get_filename_list"),
        "get_full_path_or_raise": arguments(paths, "get_full_path_or_raise"),
        "folder_names_and_paths": [a for a in nodes(paths, ast.AnnAssign) if a.startswith("folder_names_and_paths")],
        "of a node pack are read": sorted(set(re.findall(words, read("execution.py") + read("nodes.py")))),
    }


if __name__ == "__main__":
    clone = sys.argv[1]
    found = {
        "commit": git(clone, "rev-parse", "HEAD").strip(),
        **facts(lambda path: git(clone, "show", f"HEAD:{path}")),
    }
    Path(__file__).with_name("comfyui.json").write_text(json.dumps(found, indent=1) + "\n")
