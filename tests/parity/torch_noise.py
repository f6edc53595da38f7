"""Make torch_noise.json: what torch.manual_seed(seed); torch.randn(shape) gives on the CPU, call after call.

    pip install torch && python tests/parity/torch_noise.py

Small tensors are stored whole, as the hexadecimal digits of their float32 values, large ones as the SHA-256 of theirs.
"""

import hashlib
import json
from pathlib import Path

import torch

CASES = [
    (0, (3, 8, 8)),
    (42, (17,)),  # 16 does not divide it: the last 16 values are drawn again
    (7, (3, 5)),  # fewer than 16: another algorithm, in pairs that run on from call to call
    (2**40 + 3, (4, 9)),  # the generator takes 32 bits of the seed
    (1, (3, 512, 512)),
    (123456789, (3, 331, 77)),
]


def main():
    """Write torch_noise.json beside this script."""
    cases = []
    for seed, shape in CASES:
        torch.manual_seed(seed)
        data = [torch.randn(shape).numpy().astype("<f4").tobytes() for _ in range(3)]
        draws = [d.hex() if len(d) < 2000 else hashlib.sha256(d).hexdigest() for d in data]
        cases.append({"seed": seed, "shape": shape, "draws": draws})
    stored = {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(), "cases": cases}
    Path(__file__).with_name("torch_noise.json").write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
