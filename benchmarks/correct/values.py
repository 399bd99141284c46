"""Random fills of every magnitude: tiny and huge, equal and mixed, signed zeros, NaN and infinities."""

from __future__ import annotations

import math

import numpy as np

from harness.spec.language.case import Fill, Layout, TensorSpec

# The powers of ten of each dtype, from its smallest subnormal to its largest number.
SPANS = {"float16": (-7, 4), "bfloat16": (-40, 38), "float32": (-44, 38), "float64": (-323, 307)}
ZEROS = (0.0, -0.0, 1.0, -1.0)


def fill(rng: np.random.Generator, dtype: str, *, below: float = 0.0, specials: bool = False) -> Fill:
    """Return a random fill for a tensor of ``dtype``.

    Values stay ``below`` powers of ten below the largest number. ``specials`` allows NaN and infinities.
    """
    low, high = SPANS[dtype]
    scale = 10.0 ** rng.uniform(low, high - below)
    kind = rng.choice(["plain", "scaled", "ties", "mixed", "constant", "zeros", "special"])
    match str(kind):
        case "scaled":
            return Fill("uniform", (-scale, scale))
        case "ties":
            return Fill("choice", tuple(float(value) for value in rng.integers(-3, 4, 4)))
        case "mixed":
            powers = 10.0 ** rng.uniform(low, high - below, 6)
            return Fill("choice", tuple(float(power) for power in powers * rng.choice([-1.0, 1.0], 6)))
        case "constant":
            return Fill("full", (float(rng.choice([-scale, scale])),))
        case "zeros":
            return Fill("choice", ZEROS)
        case "special" if specials:
            return Fill("choice", (math.nan, math.inf, -math.inf, 0.0, -0.0, 1.5, -1.5, scale, -scale))
        case _:
            return Fill("normal")


def tensor(
    rng: np.random.Generator, label: str, shape: tuple[int, ...], dtype: str, values: Fill, layout: Layout | None = None
) -> TensorSpec:
    """Return an input, by default in a random layout."""
    layouts: tuple[Layout, ...] = ("contiguous", "contiguous", "channels_last", "strided")
    drawn = layout or layouts[int(rng.integers(len(layouts)))]
    return TensorSpec(label, dtype, shape, fill=values, layout=drawn, seed=int(rng.integers(2**62)))


def weight(rng: np.random.Generator, name: str, dtype: str, values: Fill) -> TensorSpec:
    """Return a parameter that takes its shape from the layer."""
    return TensorSpec(name, dtype, (), fill=values, seed=int(rng.integers(2**62)), takes_shape=True)
