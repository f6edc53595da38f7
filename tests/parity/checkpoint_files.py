"""Make checkpoint_wrapped.pth and checkpoint_plain.pth: files of torch.save with everything that a .pth reader meets.

    pip install torch && python tests/parity/checkpoint_files.py

Their numbers are written again, with numpy, in test_checkpoint.py.
"""

from collections import OrderedDict
from pathlib import Path

import torch


def main():
    """Write both files beside this script."""
    folder = Path(__file__).parent
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "net.float32": base,
        "net.tied": base,
        "net.transposed": base.T,
        "net.slice": base[1:3, 1::2],
        "net.expanded": torch.tensor([1.0, 2.0, 3.0])[:, None].expand(3, 4),
        "net.bfloat16": torch.arange(5.0).bfloat16() / 3,
        "net.float16": torch.arange(5.0).half() / 3,
        "net.float64": torch.arange(5.0, dtype=torch.float64) / 3,
        "net.int64": torch.arange(-2, 3),
        "net.uint8": torch.arange(250, 255, dtype=torch.uint8),
        "net.bool": torch.arange(5) % 2 == 0,
        "net.complex64": torch.arange(3.0) + 1j,
        "net.scalar": torch.tensor(1.609375),
        "net.empty": torch.zeros(0, 3),
        "net.parameter": torch.nn.Parameter(torch.full((2, 2), 0.5)),
    }
    others = {
        "epoch": 3,
        "betas": (0.9, 0.95, 2**70),
        "size": torch.Size([4, 6]),
        "tags": {"a"},
        "raw": b"\x00\xff",
        "none": None,
        "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 1e-4}]},
    }
    torch.save({"state_dict": tensors, **others}, folder / "checkpoint_wrapped.pth")

    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.arange(float(parameter.numel())).reshape(parameter.shape))
    state = module.state_dict(prefix="net.")
    assert isinstance(state, OrderedDict)  # its _metadata is an attribute, which the pickle sets by BUILD
    assert state._metadata
    torch.serialization.set_crc32_options(False)
    torch.save(state, folder / "checkpoint_plain.pth", pickle_protocol=4)


if __name__ == "__main__":
    main()
