"""What a target's answer is held against: arrays alone, so that it can be recorded and read where torch is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """The answers that a target's answer is held against, at one set of input shapes.

    ``eager`` are eager torch's outputs by name, ``oracle`` the float64 ones (None where the case
    is stochastic or float64 has no kernel). ``magnitudes`` and ``undefined`` are per output, as in
    :class:`harness.layers.Answer`. ``stochastic`` is True where eager answers differently under
    another seed, so that values cannot be compared. ``at`` names the shapes, where there are several.
    """

    inputs: Mapping[str, Array]
    eager: Mapping[str, Array]
    oracle: Mapping[str, Array] | None
    magnitudes: Sequence[Array | None]
    undefined: Sequence[Array | None]
    stochastic: bool
    at: str | None = None
