"""The table of the inverse normal distribution, computed from the standard library alone.

Run as a program it writes the table that ships with initplug; a test compares the two.
"""

from __future__ import annotations

import statistics
import sys

import numpy as np
from numpy.typing import NDArray

SEGMENTS = 512
OCTAVES = 31
QUANTILE = statistics.NormalDist().inv_cdf


def table() -> NDArray[np.float32]:
    """Intercepts and slopes of z over the float of a signed word w, (2, 2, 31·512 + 1): by part, sign and segment.

    Word w >= 0 stands for the probability (w + 1/2) / 2^32 above z, w < 0 for (|w| - 1/2) / 2^32 below. The floats of
    words are cut into octaves and 512 segments of each; the line through both ends of a segment is shifted by half of
    what it misses at the middle. Beyond the last segment lies the float 2^31 alone.
    """
    found = np.zeros((2, 2, OCTAVES * SEGMENTS + 1))
    for sign, (factor, shift) in enumerate(((1.0, 0.5), (-1.0, -0.5))):

        def z(word: float, shift: float = shift) -> float:
            return -QUANTILE(min((word + shift) / 2**32, 0.5))

        for octave in range(OCTAVES):
            for segment in range(SEGMENTS):
                low = 2.0**octave * (1 + segment / SEGMENTS)
                width = 2.0**octave / SEGMENTS
                # Below 512 words a segment holds one word or none.
                slope = 0.0 if width <= 1 else (z(low + width) - z(low)) / width
                intercept = z(low) - slope * low
                if width > 1:
                    intercept += (z(low + width / 2) - (intercept + slope * (low + width / 2))) / 2
                found[:, sign, octave * SEGMENTS + segment] = factor * intercept, slope
        found[0, sign, -1] = factor * z(2**31 - 64.0)
    return found.astype(np.float32)


if __name__ == "__main__":
    np.save(sys.argv[1], table())
