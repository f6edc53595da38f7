"""A loop of one's own around a PyTorch network; its tensors are never copied: python examples/loop_around_torch.py"""

import torch

import pidsampler as ps

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
network = torch.nn.Conv2d(3, 3, 3, padding=1).to(device)

x = torch.randn((1, 3, 256, 256), device=device)
before = x.data_ptr()
with torch.inference_mode():
    run = ps.start(ps.FlowSDE(ps.timesteps.pid()), x, seed=1, inplace=True)  # the state is x's own memory
    for row in run:
        run.step(row.t * network(x))
print(f"{device}: {len(run)} steps, mean {x.mean().item():.4f}")
assert x.data_ptr() == before
assert torch.isfinite(x).all()
