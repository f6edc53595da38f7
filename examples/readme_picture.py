"""Make the README's picture: a piece of a photo's pixels, enlarged 4x by bicubic, and by the bundled model.

python examples/readme_picture.py examples/readme.jpg

The photo, reduced 4x first, is none that the model was trained on.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pidsampler import Upscaler

LEFT, TOP, WIDTH, HEIGHT = 18, 2, 76, 70


def main(target):
    """Write the picture."""
    with Image.open(Path(__file__).with_name("cat.jpg")) as photo:
        small = photo.resize((photo.width // 4, photo.height // 4), Image.Resampling.BICUBIC)
    size = 4 * small.width, 4 * small.height
    pixels, bicubic = (small.resize(size, by) for by in (Image.Resampling.NEAREST, Image.Resampling.BICUBIC))
    ours = Image.fromarray(Upscaler.load("tiny")(np.asarray(small)).array)
    box = tuple(4 * n for n in (LEFT, TOP, LEFT + WIDTH, TOP + HEIGHT))
    pieces = [np.asarray(image.crop(box)) for image in (pixels, bicubic, ours)]
    Image.fromarray(np.concatenate(pieces, axis=1)).save(target, quality=92)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/readme_picture.py TARGET.jpg")
    main(sys.argv[1])
