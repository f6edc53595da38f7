"""Train the tiny PiD: python examples/train_tiny/train.py PHOTOS --dev DEV -o FOLDER

    pip install '.[cpu]' -r examples/train_tiny/requirements.txt

Any folder of photographs will do. A run is seeded, goes on where its checkpoint FOLDER.pt is, and writes the model
folder and its model card when it ends.

The network learns to predict x0, the clean image. The student, which is what runs by default, learns most of it on the
states that PiD's 4-step sampler itself makes: each picture passes the four times in four consecutive steps of the
training, each time with the network's last x0 noised anew, so that four steps stay near the mean; the rest is flow
matching at t below 0.3, where detail is decided. With `--teacher` all is flow matching, at any t. The loss of a picture
is the logarithm of its mean squared error, so that smooth pictures, rough ones, any t and any noise of the latent count
the same: in decibels.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import export
import numpy as np
import torch
from card import write_card
from data import Patches, bicubic, low_resolution
from network import STUDENT_TIMES, TinyPiD
from PIL import Image
from torch import Tensor

AROUND = (1.0, 0.93, 0.75, 0.49, 0.3)  # between the students' times, and where flow matching begins


def to_tensor(images: np.ndarray) -> Tensor:
    """Return uint8 as float32 in -1..1."""
    return torch.from_numpy(images).float() / 127.5 - 1


def noised(clean: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
    """Return (1 - t)*clean + t*eps, t of shape (B,)."""
    t = t[:, None, None, None]
    return (1 - t) * clean + t * torch.randn(clean.shape, generator=generator)


def fresh(patches: Patches, n: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """Return the n-th new pictures: what to reach, the latent's picture, its noise level, and an x0 to make x from.

    The latent is clean in most of them.
    """
    large, small = map(to_tensor, patches.batch(n, size))
    sigma = torch.rand(size, generator=generator) * 0.8
    sigma = torch.where(torch.rand(size, generator=generator) < 0.8, torch.zeros(()), sigma)
    return [large, noised(small, sigma, generator), sigma, large]


def losses_of(
    network: TinyPiD, batch: list[Tensor], flow: int, top: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the loss of each picture, and the network's x0.

    Args:
        network: The network.
        batch: As of `fresh`: `flow` pictures for flow matching, then a quarter of the rest for each student's time.
        flow: How many.
        top: The largest t of flow matching.
        generator: Source of t and the noise.
    """
    large, picture, sigma, x0 = batch
    t = 0.02 + (top - 0.02) * torch.rand(flow, generator=generator)
    # Half of the passing pictures at the four times, half around them.
    passing = (len(large) - flow) // 4
    bounds = torch.tensor(AROUND)[:, None]
    around = bounds[1:] + (bounds[:-1] - bounds[1:]) * torch.rand(4, passing, generator=generator)
    exactly = torch.rand(4, passing, generator=generator) < 0.5
    t = torch.cat([t, torch.where(exactly, torch.tensor(STUDENT_TIMES)[:, None], around).flatten()])
    x = noised(x0, t, generator).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(x, t, picture, sigma)
    return ((found - large).square().mean(dim=(1, 2, 3)) + 1e-4).log(), found.detach()


def averaged(old: Tensor, new: Tensor, count: Tensor) -> Tensor:
    """Return the running average of a weight, which forgets its beginning quickly at first."""
    return torch.lerp(new, old, min(0.999, (1 + int(count)) / (10 + int(count))))


@torch.no_grad()
def psnr_of(network: TinyPiD, folder: Path) -> list[tuple[str, float, float]]:
    """Return (name, bicubic's PSNR, the 4-step SDE's) of each picture of a folder, RGB, in dB."""
    rows = []
    for path in sorted(folder.glob("*.png")):
        image = np.asarray(Image.open(path).convert("RGB"))
        small = low_resolution(image)
        picture = to_tensor(small.transpose(2, 0, 1)[None].copy())
        generator = torch.Generator().manual_seed(0)
        zero = torch.zeros(1)
        x = torch.randn((1, 3, *image.shape[:2]), generator=generator)
        for t, t_next in zip(STUDENT_TIMES, (*STUDENT_TIMES[1:], 0.0), strict=True):
            x0 = network(x, torch.full((1,), t), picture, zero)
            x = (1 - t_next) * x0 + t_next * torch.randn(x.shape, generator=generator)
        found = ((x[0] + 1) * 127.5).round().clamp(0, 255).byte().numpy().transpose(1, 2, 0)

        def psnr(other: np.ndarray, image: np.ndarray = image) -> float:
            return float(10 * np.log10(255**2 / np.square(image.astype(float) - other).mean()))

        rows.append((path.stem, psnr(bicubic(small)), psnr(found)))
    return rows


def main() -> None:
    """Train, from the checkpoint if there is one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("--dev", type=Path, required=True, help="folder of PNG pictures never trained on, to measure")
    parser.add_argument("--credits", type=Path, help="JSON list of the photographs' file, author, licence and package")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model folder; the checkpoint lies beside it")
    parser.add_argument("--teacher", action="store_true", help="flow matching at any t")
    parser.add_argument("--steps", type=int, default=14_000)
    parser.add_argument("--batch", type=int, default=16, help="a multiple of 16")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 3], help="reductions of the photographs")
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not list(arguments.dev.glob("*.png")):
        parser.error(f"{arguments.dev} holds no PNG pictures to measure with")
    if arguments.batch < 16 or arguments.batch % 16:
        parser.error(f"--batch is {arguments.batch}, expected a multiple of 16")

    torch.manual_seed(arguments.seed)
    network = TinyPiD(arguments.width, arguments.blocks)
    average = torch.optim.swa_utils.AveragedModel(network, avg_fn=averaged)
    inner = [
        value for name, value in network.blocks.named_parameters() if name.endswith(("first.weight", "second.weight"))
    ]
    inside = set(map(id, inner))
    outer = [value for value in network.parameters() if id(value) not in inside]
    optimizers = [
        torch.optim.Muon(inner, 10 * arguments.rate, weight_decay=0.0),
        torch.optim.AdamW(outer, arguments.rate, betas=(0.9, 0.99), weight_decay=0.0),
    ]

    def rate(step: int) -> float:
        """Up, constant for half of the run, down to nothing."""
        return min(1.0, (step + 1) / 200, 2 - 2 * step / arguments.steps)

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    patches = Patches(arguments.photos, tuple(arguments.factors), arguments.seed)
    flow, top = (arguments.batch, 1.0) if arguments.teacher else (arguments.batch // 4, AROUND[-1])
    new = (arguments.batch - flow) // 4
    # Pictures that have passed one to three of the four times; at first none has.
    passing = fresh(patches, 10**9, arguments.batch, torch.Generator().manual_seed(arguments.seed))
    passing = [part[: 3 * new] for part in passing]
    checkpoint, begin = arguments.output.with_suffix(".pt"), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        begin, passing = state["step"], state["passing"]
        for optimizer, schedule, saved in zip(optimizers, schedules, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
            schedule.last_epoch = begin
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters} parameters, {len(patches)} places for patches, from step {begin}", flush=True)
    began, losses = time.perf_counter(), []
    for step in range(begin, arguments.steps):
        # Each step is a function of (seed, step), so that a resumed run is the run that was not interrupted.
        generator = torch.Generator().manual_seed(arguments.seed * 1_000_003 + step)
        batch = fresh(patches, step, flow + new, generator)
        batch = [torch.cat(parts) for parts in zip(batch, passing, strict=True)]
        each, x0 = losses_of(network, batch, flow, top, generator)
        passing = [part[flow : flow + 3 * new] for part in (*batch[:3], x0)]
        loss = each.mean()
        network.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(outer, 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        average.update_parameters(network)
        losses.append(loss.item())
        if (step + 1) % arguments.every == 0 or step + 1 == arguments.steps:
            state = {"network": network.state_dict(), "average": average.state_dict()}
            state |= {"optimizers": [optimizer.state_dict() for optimizer in optimizers]}
            state |= {"step": step + 1, "passing": passing}
            temporary = checkpoint.with_suffix(".new")
            torch.save(state, temporary)
            temporary.replace(checkpoint)
            decibels = 10 * math.log10(4) - 10 / math.log(10) * float(np.mean(losses))
            line = f"step {step + 1}: x0 at {decibels:.2f} dB, {(time.perf_counter() - began) / len(losses):.2f} s"
            gains = [ours - theirs for _, theirs, ours in psnr_of(average.module, arguments.dev)]
            print(f"{line}, {np.mean(gains):+.3f} dB over bicubic, worst {min(gains):+.3f}", flush=True)
            began, losses = time.perf_counter(), []
    kind = "flow matching, the student's counterpart" if arguments.teacher else "a student, best in its four steps"
    name, description = arguments.output.name, f"a small 4x PiD trained by this project: {kind}"
    export.write(average.module, arguments.output, name, description)
    write_card(arguments, parameters)


if __name__ == "__main__":
    main()
