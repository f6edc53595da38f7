"""The kernels' variants that tests build."""

from dataclasses import replace
from itertools import product

from pidsampler import get_scheduler, list_schedulers, timesteps
from pidsampler.backends.kernels import StepVariant

REGISTERED = sorted(
    {
        StepVariant.of(row)
        for info in list_schedulers()
        for row in get_scheduler(info.name, timesteps=timesteps.uniform(7)).table().rows
    },
    key=str,
)


FULL = StepVariant(0, 0, reads_x=True, clip=False, slots=2, saves=2, draws=1, cast=-1, vector=True)


VARIANTS = [
    *REGISTERED,
    *(replace(v, clip=True) for v in REGISTERED[::4]),
    replace(FULL, slots=3, saves=3, draws=3, clip=True),
    replace(FULL, slots=6, saves=6, draws=-1, clip=True),
    *(replace(FULL, x=x, m=m, slots=6, saves=5, draws=0) for x, m in [(0, 0), (0, 1), (1, 1), (2, 2)]),
    replace(FULL, x=1, m=1, slots=6, saves=6, draws=-1, clip=True),
    replace(FULL, draws=-1),
    replace(FULL, draws=-1, slots=0, saves=0),
    replace(FULL, reads_x=False, slots=0, saves=0),
    replace(FULL, reads_x=False, slots=1, saves=1, draws=0),
    *(replace(FULL, x=x, m=m, slots=1, saves=1) for x, m in [(0, 1), (0, 2), (1, 1), (2, 2), (1, 0), (2, 0)]),
    *(replace(FULL, x=x, m=m, cast=cast) for x, m, cast in [(0, 1, 1), (0, 2, 2), (0, 0, 0), (1, 1, 2)]),
]


VARIANTS += [replace(v, vector=False) for v in VARIANTS[-12:]]


FILLS = [(x, keep, vector) for x in (0, 1, 2) for keep in (0, 1) for vector in (0, 1)]


IMAGES = [(p, c, bgr, x) for p, c, bgr, x in [(8, 3, 0, 0), (16, 3, 0, 0), (8, 4, 1, 0), (16, 4, 0, 1), (8, 3, 1, 2)]]

COLOURS = [(x, correct, powers) for x in (0, 1, 2) for correct, powers in ((0, 1), (0, 2), (1, 1))]

TILES = [(x, m, vector) for x, m, vector in product((0, 1, 2), (0, 1, 2), (1, 0)) if vector or m == (0, 2, 1)[x]]
