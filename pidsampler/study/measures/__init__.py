"""What a study measures of each run: a number with its unit, its direction and where it comes from.

A measure of your own is a function in a file, taken by name as "path/to/file.py:brightness":

    from pidsampler.study.measures import measure

    @measure(unit="of 255", better="", source="mean of all pixels", needs=("picture",))
    def brightness(sample):
        return sample.picture.mean()
"""

from .base import Measure, Sample, measure
from .registry import MEASURES, get_measure

__all__ = ["MEASURES", "Measure", "Sample", "get_measure", "measure"]
