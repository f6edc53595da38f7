"""The model card: what the model is, what it was trained on, and what it reaches."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from data import SUFFIXES

QUALITY = Path(__file__).parents[2] / "bench" / "quality.py"
STUDENT = """\
on the states that the 4-step sampler (FlowSDE over 0.999, 0.866, 0.634, 0.342) itself makes, at and around
  its four times: four steps, or one, stay near the mean, with the least error and the least invented. Below t = 0.3 it
  is flow matching: samplers that go there, such as 32 steps of an ODE, make detail where the input leaves it open,
  other with each seed, and converge as steps grow."""
TEACHER = """\
by flow matching at all t: as steps grow, solvers converge to samples of what the input leaves open. In few
  steps it has more error than its student, `tiny`, which is the one to enlarge pictures with."""
TEXT = """# {name}

A 4x flow {kind} with the contract of NVIDIA's PiD and none of its weights: it has {parameters:,} of its own, in
{megabytes:.1f} MB. It enlarges photographs visibly better than bicubic does, in seconds on two CPU cores, and is a
subject for experiments with samplers. It is not NVIDIA's model, and invents far less.

- **In**: `x` (1, 3, 4h, 4w), `t` 0..1000, `lq_latent` (1, 192, h/8, w/8), `degrade_sigma` 0..0.8. **Out**: the velocity
  `(x - x0)/t` with x = (1 - t)*x0 + t*noise. The latent is the picture in -1..1, folded 8x8 into channels.
- **Network**: {blocks} residual blocks of 3x3 convolutions of {width} channels on the small picture's grid, x folded
  4x4 into channels; t and sigma scale and shift each block's features. x0 is the Catmull-Rom enlargement and what the
  network adds.
- **Trained** {learnt}
- **Limits**: photographs only; made for inputs that are sharp at their size. Noise and JPEG marks of an input are
  taken for detail, unless `degrade_sigma` says otherwise.

## Figures

{count} photographs that it was not trained on, reduced 4x by Pillow's bicubic filter and enlarged again: by Pillow's
bicubic filter, by four steps, and by 32 steps of an ODE. PSNR (dB) and SSIM over RGB, higher is better; LPIPS
(AlexNet), lower is better; `again`: the result reduced again against the input, in dB; `drift`: of a channel's mean, of
255. By `{command}`.

{table}

## Training

    {training}

{steps:,} steps of {batch} patches of 128x128, Muon and AdamW, seed {seed}, in bfloat16 with PyTorch {torch} on the CPU.

## Data

{photographs} photographs, each used reduced 2x and 3x if it is large, as it is if it is small. The weights' license is
Apache-2.0.

| photograph | author | license | from |
|---|---|---|---|
{credits}
"""


def credits_of(photos: Path, file: Path | None) -> list[str]:
    """Return a row of the table for each photograph of a folder; what the file does not say stays empty."""
    entries = json.loads(file.read_text(encoding="utf-8")) if file is not None else []
    known = {Path(entry["file"]).name: entry for entry in entries}
    rows = []
    for path in sorted(path for path in photos.iterdir() if path.suffix.lower() in SUFFIXES):
        entry = known.get(path.name, {})
        told = " | ".join(entry.get(key, "") for key in ("author", "licence", "package"))
        rows.append(f"| {path.stem.split('__')[-1]} | {told} |")
    return rows


def write_card(arguments: argparse.Namespace, parameters: int) -> None:
    """Measure the model folder `arguments.output` on `arguments.dev` and write its MODEL_CARD.md.

    Args:
        arguments: Arguments of train.py.
        parameters: How many the network has.
    """
    schedulers = ["flow-sde", "flow-ode@uniform:32"]
    words = [str(arguments.dev), "--model", str(arguments.output), "--scheduler", *schedulers, "--lpips"]
    table = subprocess.run([sys.executable, str(QUALITY), *words], check=True, stdout=subprocess.PIPE, text=True).stdout
    credits_ = credits_of(arguments.photos, arguments.credits)
    size = sum(path.stat().st_size for path in arguments.output.glob("*.onnx"))
    text = TEXT.format(
        name=arguments.output.name,
        kind="teacher" if arguments.teacher else "student",
        learnt=TEACHER if arguments.teacher else STUDENT,
        parameters=parameters,
        megabytes=size / 1e6,
        width=arguments.width,
        blocks=arguments.blocks,
        count=len(list(arguments.dev.glob("*.png"))),
        command=f"python bench/quality.py DEV --scheduler {' '.join(schedulers)} --lpips",
        table=table.strip(),
        training=f"python examples/train_tiny/train.py PHOTOS --dev DEV -o {arguments.output.name} --steps "
        f"{arguments.steps}{' --teacher' if arguments.teacher else ''}",
        steps=arguments.steps,
        batch=arguments.batch,
        seed=arguments.seed,
        torch=version("torch").partition("+")[0],
        photographs=len(credits_),
        credits="\n".join(credits_),
    )
    (arguments.output / "MODEL_CARD.md").write_text(text, encoding="utf-8")
