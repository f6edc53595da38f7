"""Train the tiny PiD: python examples/train_tiny/train.py PHOTOS --dev DEV -o checkpoint.pt

    pip install torch numpy pillow

Any folder of photographs will do. A run is seeded, and goes on where its checkpoint is; `--steps` is where it ends.

The loss is the squared error of x0 (the velocity's, weighted by t^2): half of the batch at the four times of PiD's
students and half at any t in 0..1, so that it is a flow at every t. The latent's noise level is 0 for most pictures.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from data import Patches, bicubic, low_resolution
from network import STUDENT_TIMES, TinyPiD
from PIL import Image
from torch import Tensor


def to_tensor(images: np.ndarray) -> Tensor:
    """Return uint8 as float32 in -1..1."""
    return torch.from_numpy(images).float() / 127.5 - 1


def noised(clean: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
    """Return (1 - t)*clean + t*eps, t of shape (B,)."""
    t = t[:, None, None, None]
    return (1 - t) * clean + t * torch.randn(clean.shape, generator=generator)


def loss_of(network: TinyPiD, large: Tensor, small: Tensor, generator: torch.Generator) -> Tensor:
    """Return the loss of a batch."""
    count, half = len(large), len(large) // 2
    sigma = torch.rand(count, generator=generator) * 0.8
    sigma = torch.where(torch.rand(count, generator=generator) < 0.7, torch.zeros(()), sigma)
    picture = noised(small, sigma, generator)
    t = torch.rand(count, generator=generator).clamp(0.02, 1.0)
    t[:half] = torch.tensor(STUDENT_TIMES)[torch.randint(len(STUDENT_TIMES), (half,), generator=generator)]
    x0 = network(noised(large, t, generator), t, picture, sigma)
    # Each picture's error relative to what its latent's noise leaves open, so that clean ones count as much.
    return ((x0 - large).square().mean(dim=(1, 2, 3)) / (0.02 + sigma.square())).mean() * 0.02


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
    parser.add_argument(
        "--dev", type=Path, help="folder of PNG pictures that are never trained on, measured on the way"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("checkpoint.pt"))
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 3], help="reductions of the photographs")
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    network = TinyPiD(arguments.width, arguments.blocks)
    average = torch.optim.swa_utils.AveragedModel(network, avg_fn=averaged)
    optimizer = torch.optim.AdamW(network.parameters(), arguments.rate, betas=(0.9, 0.99), weight_decay=0.0)
    warm, total = 200, arguments.steps

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    begin = 0
    if arguments.output.exists():
        state = torch.load(arguments.output, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["step"]
        schedule.last_epoch = begin
    patches = Patches(arguments.photos, tuple(arguments.factors), arguments.seed)
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters} parameters, {len(patches)} places for patches, from step {begin}", flush=True)
    began, losses = time.perf_counter(), []
    for step in range(begin, arguments.steps):
        # Each step is a function of (seed, step), so that a resumed run is the run that was not interrupted.
        generator = torch.Generator().manual_seed(arguments.seed * 1_000_003 + step)
        large, small = map(to_tensor, patches.batch(step, arguments.batch))
        loss = loss_of(network, large, small, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        losses.append(loss.item())
        if (step + 1) % arguments.every == 0 or step + 1 == arguments.steps:
            state = {"network": network.state_dict(), "average": average.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "step": step + 1}
            temporary = arguments.output.with_suffix(".new")
            torch.save(state, temporary)
            temporary.replace(arguments.output)
            line = f"step {step + 1}: loss {np.mean(losses):.5f}, {(time.perf_counter() - began) / len(losses):.2f} s"
            if arguments.dev is not None:
                rows = psnr_of(average.module, arguments.dev)
                gains = [ours - theirs for _, theirs, ours in rows]
                line += f", {np.mean(gains):+.3f} dB over bicubic, worst {min(gains):+.3f}"
            print(line, flush=True)
            began, losses = time.perf_counter(), []


if __name__ == "__main__":
    main()
