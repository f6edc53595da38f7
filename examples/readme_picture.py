"""Make the README's picture: a piece of the input, as it is and enlarged by the bundled model.

python examples/readme_picture.py examples/readme.jpg
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pidsampler import Upscaler

LEFT, TOP, WIDTH, HEIGHT = 96, 16, 112, 84


def main(target):
    """Write the picture."""
    source = Path(__file__).with_name("chameleon.jpg")
    large = Image.fromarray(Upscaler.load("tiny")(source).array)
    with Image.open(source) as image:
        box = (LEFT, TOP, LEFT + WIDTH, TOP + HEIGHT)
        pixels = image.crop(box).resize((4 * WIDTH, 4 * HEIGHT), Image.Resampling.NEAREST)
    piece = large.crop(tuple(4 * n for n in box))
    Image.fromarray(np.concatenate([np.asarray(pixels), np.asarray(piece)], axis=1)).save(target, quality=90)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/readme_picture.py TARGET.jpg")
    main(sys.argv[1])
