"""`pidsampler export`: a checkpoint, or random weights, becomes a model folder."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, optional
from ..io import captions
from ..noise.philox import check_number
from ..values import shown
from .output import say, tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..export.folder import ExportPlan
    from ..export.layers import Form
    from ..export.published import Published
    from ..export.tensors import Stored

_LONGEST = 400  # characters of what a description says of one file
_DTYPES = {
    "ort-cpu": "float32",
    "ort-cuda": "bfloat16",
    "ort-cuda-sm90": "bfloat16",
    "tensorrt": "bfloat16",
    "onnx": "float32",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    untold = "; needed where a checkpoint's name, path and shapes do not tell"
    parser.add_argument("--backbone", metavar="NAME", help=f"sdxl, flux, flux2, sd3, qwenimage, ...{untold}")
    parser.add_argument(
        "--type",
        dest="kind",
        metavar="TYPE",
        help=f"2k, 2kto4k, 2kto4k_v1pt5, 2kto4k_v1pt5_undistilled or 2kto4k_2606{untold}",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--checkpoint", type=Path, metavar="PATH", help="NVIDIA's .pth, or another file or folder of it"
    )
    source.add_argument("--random-weights", type=int, metavar="SEED", help="the same network without a checkpoint")
    source.add_argument("--from-hub", action="store_true", help="download NVIDIA's from Hugging Face (extra 'hub')")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="the new model folder")
    parser.add_argument("--vae", type=Path, metavar="PATH", help="its encoder's weights; without them latents only")
    accept = ("--accept-license", "--accept-licence")
    parser.add_argument(*accept, action="store_true", help="accept the license of what --from-hub downloads")
    parser.add_argument("--reduced", action="store_true", help="a small network of the same kind, of random weights")
    parser.add_argument(
        "--target",
        default="ort-cpu",
        help="ort-cpu; ort-cuda, for any card; ort-cuda-sm90, for H100 or newer with CUDA 13, where cuDNN computes the "
        "attention; tensorrt or onnx (default: %(default)s)",
    )
    parser.add_argument("--dtype", help="float32, float16 or bfloat16 (default: float32, on a GPU bfloat16)")
    parser.add_argument(
        "--float32-residual", action="store_true", help="keep a bfloat16 network's sums over its blocks in float32"
    )
    parser.add_argument("--size", metavar="WxH", help="fixed size of the result (default: any)")
    parser.add_argument("--whole", action="store_true", help="the latent's projection inside the network, at each step")
    parser.add_argument(
        "--caption", type=Path, metavar="FILE", help="its embedding's .npy, or 'input' (default: zeros)"
    )
    parser.add_argument("--null-caption", type=Path, metavar="FILE", help="with --caption input: where none is given")
    parser.add_argument(
        "--position-limit", type=int, metavar="N", help="scale pixel positions of sides beyond N pixels"
    )
    parser.add_argument("--verify", action="store_true", help="compare with an evaluation in numpy and float64")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and print its license.

    Raises:
        PidSamplerError: An argument is wrong, a file cannot be read, or the folder cannot be written.
    """
    optional("onnx_ir", "onnx-ir", extra="export")
    from ..export.folder import check_target, write_folder

    if arguments.reduced and arguments.random_weights is None:
        raise ConfigError("--reduced makes a network of random weights: pass --random-weights SEED with it")
    if arguments.random_weights is not None:
        check_number("random_weights", arguments.random_weights, bits=64)
    given = (arguments.checkpoint, arguments.vae, arguments.caption, arguments.null_caption)
    check_target(arguments.output, arguments.overwrite, inputs=[path for path in given if path is not None])
    began = time.perf_counter()
    plan, assumed = _plan(arguments)
    if not arguments.quiet:
        for line in assumed:
            tell(f"pidsampler: assumed: {line}")

    def note(name: str) -> None:
        if not arguments.quiet:
            say(f"{arguments.output / name} ...", flush=True)

    off: list[float] = []

    def check(folder: Path) -> None:
        from ..export.recover import Network
        from ..export.verify import verify

        made_of = Network(plan.architecture, plan.tensors, plan.form.dtype, plan.form.caption)
        off.append(verify(folder, made_of, name=arguments.output))

    write_folder(
        plan, arguments.output, overwrite=arguments.overwrite, note=note, check=check if arguments.verify else None
    )
    if not arguments.quiet:
        seconds = time.perf_counter() - began
        say(f"{arguments.output}: {plan.manifest.name}, {plan.size / 1e9:.2f} GB in {seconds:.0f} s")
        say(f"license: {plan.manifest.license}")
        if plan.form.caption is None and plan.null_caption is None:
            where = "where no caption is given" if plan.form.takes_caption else "in the graph"
            say(f"caption: zeros {where}, which NVIDIA's inference never uses: see examples/caption.py")
    if off:
        say(f"{arguments.output}: {off[0]:.1e} off its evaluation in float64")
    return 0


def _plan(arguments: argparse.Namespace) -> tuple[ExportPlan, list[str]]:
    """What is to be written, and what of it was assumed because nothing in the files tells it."""
    from ..export.architecture import random_tensors
    from ..export.build import TYPES
    from ..export.checkpoint import network_tensors, read_checkpoint
    from ..export.folder import ExportPlan
    from ..export.identify_vae import check_vae
    from ..export.layers import check_form
    from ..export.published import LICENSE
    from ..export.tensors import check_tensors, check_values
    from ..export.vae import ENCODERS, canonical, encoder_shapes, random_encoder
    from ..onnx.manifest import Manifest

    noted: list[str] = []
    published, tensors, assumed = _recognized(arguments, noted)
    architecture = published.architecture
    encoder = ENCODERS[published.encoder] if published.encoder is not None else None
    if arguments.reduced:
        architecture = architecture.reduced()
        encoder = encoder and encoder.reduced()
    architecture = replace(architecture, position_limit=arguments.position_limit)
    if encoder is None and arguments.vae is not None:
        raise ConfigError(
            f"{published.backbone}'s encoder is no convolutional VAE: export it by its own project, and give latents"
        )
    form = _form(arguments)
    check_form(architecture, form)
    null_caption = None if arguments.null_caption is None else captions.read(arguments.null_caption)
    if arguments.verify:
        from ..export.verify import check_verifiable

        check_verifiable(form.size)
    name, license_line, files = published.name, LICENSE, (arguments.checkpoint, arguments.vae)
    origin = None
    if arguments.from_hub:
        files, origin = _downloaded(arguments, published)
    if arguments.random_weights is not None:
        name, license_line = f"random {'reduced ' * arguments.reduced}{name}", "none: random weights"
        tensors = random_tensors(architecture, arguments.random_weights)
    else:
        if tensors is None:
            note = _noting(files[0], noted, quiet=arguments.quiet)
            tensors = network_tensors(read_checkpoint(files[0], note=note).tensors, note=note)
        where = f"{files[0]} as {published.backbone} {published.type}"
        check_tensors(tensors, architecture.shapes(), where=where)
        check_values(tensors, dtype=TYPES[form.dtype], where=where)
    encoder_tensors = None
    if encoder is not None and files[1] is not None:
        note = _noting(files[1], noted, quiet=arguments.quiet)
        found = read_checkpoint(files[1], note=note)
        if arguments.vae is not None and (assumption := check_vae(found.path, encoder)) is not None:
            assumed.append(assumption)
        encoder_tensors = canonical(found.tensors, encoder, where=str(files[1]), note=note)
        where = f"{files[1]} as the encoder of {published.backbone}"
        check_tensors(encoder_tensors, encoder_shapes(encoder), where=where)
        check_values(encoder_tensors, dtype=TYPES["float32"], where=where)
    elif encoder is not None and arguments.random_weights is not None:
        encoder_tensors = random_encoder(encoder, arguments.random_weights)
    manifest = Manifest(
        name=name,
        description="; ".join([published.description, *map(_cut, [*assumed, *noted])]),
        license=license_line,
        origin=origin,
        prediction="velocity",
        timescale=1000.0,
        timesteps=published.timesteps,
        sampler=published.sampler,
        guidance=published.guidance,
        noise_frame=published.noise_frame,
        scale=architecture.scale,
        vae_factor=architecture.latent_factor,
        drifts=published.drifts,
    )
    plan = ExportPlan(
        architecture=architecture,
        tensors=tensors,
        form=form,
        manifest=manifest,
        encoder=encoder,
        encoder_tensors=encoder_tensors,
        null_caption=null_caption,
    )
    return plan, assumed


def _recognized(
    arguments: argparse.Namespace, noted: list[str]
) -> tuple[Published, Mapping[str, Stored] | None, list[str]]:
    """Which published checkpoint is meant, the tensors of the user's file, and what was assumed of it."""
    from ..export.checkpoint import network_tensors, read_checkpoint
    from ..export.identify import identify
    from ..export.published import get_published

    if arguments.checkpoint is not None:
        note = _noting(arguments.checkpoint, noted, quiet=arguments.quiet)
        read = read_checkpoint(arguments.checkpoint, note=note)
        tensors = network_tensors(read.tensors, note=note)
        found = identify(read.path, tensors, backbone=arguments.backbone, kind=arguments.kind)
        return found.published, tensors, [] if found.assumption is None else [found.assumption]
    if arguments.backbone is None or arguments.kind is None:
        raise ConfigError("pass --backbone and --type: only a checkpoint that is given can tell them")
    return get_published(arguments.backbone, arguments.kind), None, []


def _noting(path: Path, noted: list[str], *, quiet: bool) -> Callable[[str], object]:
    """Return what takes a line about a checkpoint: it is for the manifest, and printed unless all is to be quiet."""

    def note(text: str) -> None:
        noted.append(f"{path.name}: {text}")
        if not quiet:
            tell(f"pidsampler: {path}: {text}")

    return note


def _cut(text: str) -> str:
    """What a description has room for: names in the text may be a stranger's."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _form(arguments: argparse.Namespace) -> Form:
    from ..export.layers import Form

    dtype = arguments.dtype or _DTYPES.get(arguments.target, "float32")
    size = None if arguments.size is None else _size(arguments.size)
    return Form(
        target=arguments.target,
        dtype=dtype,
        size=size,
        split=not arguments.whole,
        float32_residual=arguments.float32_residual,
        **_caption(arguments.caption),
    )


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(text) < 20):
        raise ConfigError(f"--size {shown(text)} is not WIDTHxHEIGHT in pixels, such as 4096x4096")
    return int(height), int(width)


def _caption(asked: Path | None) -> dict[str, Any]:
    if asked == Path("input"):
        return {"takes_caption": True}
    return {"caption": None if asked is None else captions.read(asked)}


def _downloaded(arguments: argparse.Namespace, published: Published) -> tuple[tuple[Path, Path | None], str]:
    """The checkpoint and, where there is one, the encoder's weights, from the hub or its cache; and of which commit."""
    from ..export.published import LICENSE, REPOSITORY, VAE_FILES
    from ..onnx.hub import current_commit, download_file

    if not arguments.accept_license:
        raise ConfigError(f"{REPOSITORY} has the license: {LICENSE}; pass --accept-license if you accept it")
    commit, vae = current_commit(REPOSITORY), arguments.vae
    checkpoint = download_file(REPOSITORY, published.file, commit=commit)
    if vae is None and published.encoder is not None:
        vae = download_file(REPOSITORY, VAE_FILES[published.encoder], commit=commit)
    return (checkpoint, vae), f"{REPOSITORY}@{commit}"
