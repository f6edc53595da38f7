"""`pidsampler bench`: what a step costs, as a share of a plain copy and beside what others write in its place.

A row of a table is timed by kind: family of the scheduler, saved tensors, eta, clipping, noise, element types, size.
Its speed is that of the bytes it must move, m and x in, x out, and saved tensors in or out; the copy that it is
compared with, on all cores or by the card, and the peers are timed in turn with it. Before, each is checked against the
formula. Launches go through so many buffers that all caches hold a quarter of them at most. Warmed up, and compiled
before; median, interquartile range and number of samples.

On a GPU the stream is held until a sample's launches are all queued, so that events time the card alone; the host's
time for a launch stands beside it.
"""

from .. import moved
from .measurement import BenchPlan, measure
from .samplers import steps  # takes the place of the module's name here; `pidsampler.bench.steps` can be imported still
from .steps import variants

__all__ = ["BenchPlan", "measure", "steps", "variants"]


__getattr__ = moved.names(__name__)
