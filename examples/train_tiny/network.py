"""The network: a 4x flow student with PiD's contract that works on the grid of the small picture.

x is folded 4x4 into channels, so that every convolution runs at the small picture's size. The clean image is the
Catmull-Rom enlargement of the latent's picture plus what the network adds, and the velocity (x - x0)/t.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE = 4
STUDENT_TIMES = (0.999, 0.866, 0.634, 0.342)


def enlarging_weights() -> Tensor:
    """Return (16, 5, 5): the Catmull-Rom weights of each of the 4x4 output pixels of an input pixel."""
    taps = torch.zeros(SCALE, 5, dtype=torch.float64)
    for phase in range(SCALE):
        d = (torch.arange(-2, 3, dtype=torch.float64) - ((phase + 0.5) / SCALE - 0.5)).abs()
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        taps[phase] = torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
    return torch.einsum("pi,qj->pqij", taps, taps).reshape(16, 5, 5).float()


class Conv(nn.Module):
    """A 3x3 convolution whose weight is a matrix (out, in*9), as Muon takes them."""

    def __init__(self, inputs: int, outputs: int, zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else (9 * inputs) ** -0.5
        self.weight = nn.Parameter(torch.empty(outputs, 9 * inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, h: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        weight = self.weight.view(len(self.bias), -1, 3, 3).contiguous(memory_format=torch.channels_last)
        return functional.conv2d(h, weight, self.bias, padding=1)


class Block(nn.Module):
    """A residual block whose features are scaled and shifted by the condition."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.first = Conv(width, width)
        self.second = Conv(width, width, zero=True)
        self.modulation = nn.Linear(condition, 2 * width)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        """Return h plus its change; (B, width, H, W)."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        return h + self.second(functional.silu(self.first(h) * (1 + scale) + shift))


class TinyPiD(nn.Module):
    """x, t, picture, sigma -> x0.

    Args:
        width: Channels inside.
        blocks: Residual blocks.
    """

    def __init__(self, width: int = 96, blocks: int = 6) -> None:
        super().__init__()
        self.width, self.depth = width, blocks
        self.embed = nn.Sequential(nn.Linear(4, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.enter = Conv(3 * SCALE**2 * 2 + 3, width)
        self.blocks = nn.ModuleList(Block(width, width) for _ in range(blocks))
        self.leave = Conv(width, 3 * SCALE**2, zero=True)
        self.register_buffer("enlarging", enlarging_weights().repeat(3, 1, 1)[:, None], persistent=False)

    def forward(self, x: Tensor, t: Tensor, picture: Tensor, sigma: Tensor) -> Tensor:
        """Return x0.

        Args:
            x: (B, 3, 4h, 4w), the noisy image at noise level t.
            t: (B,), 0..1.
            picture: (B, 3, h, w) in -1..1, the latent's picture, with noise of level sigma.
            sigma: (B,), 0..1.
        """
        with torch.autocast("cpu", enabled=False):
            base = functional.conv2d(functional.pad(picture, (2, 2, 2, 2), mode="replicate"), self.enlarging, groups=3)
        condition = self.embed(torch.stack([t, t.square(), sigma, sigma.sqrt()], dim=1))
        folded = functional.pixel_unshuffle(x, SCALE)
        # What x says beyond the base, at any t, is noise and detail: the network need not learn to subtract.
        beyond = folded - (1 - t)[:, None, None, None] * base
        h = self.enter(torch.cat([folded, beyond, picture], dim=1))
        for block in self.blocks:
            h = block(h, condition)
        return functional.pixel_shuffle(base + self.leave(h), SCALE)
