"""What a target's answer is held against: arrays alone, so that it can be recorded and read where torch is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """Of each output every ``every``-th element in row-major order; ``shapes`` are those of the whole outputs."""

    every: int
    shapes: Sequence[tuple[int, ...]]

    def of(self, values: Array) -> Array:
        """The sampled elements of ``values``."""
        return np.ascontiguousarray(values).reshape(-1)[:: self.every]

    def of_answer(self, answer: Mapping[str, Array]) -> dict[str, Array]:
        """The sampled elements of each output; an output of another shape stays whole, so that it is found out."""
        shapes = (*self.shapes, *[None] * len(answer))
        return {
            name: self.of(values) if values.shape == shape else values
            for (name, values), shape in zip(answer.items(), shapes, strict=False)
        }


@dataclass(frozen=True)
class Reference:
    """The answers that a target's answer is held against, at one set of input shapes.

    ``eager`` are eager torch's outputs by name, ``float64`` the float64 ones (None where the case
    is stochastic or float64 has no kernel). ``magnitudes`` and ``undefined`` are per output, as in
    :class:`harness.layers.Answer`. ``stochastic`` is True where eager answers differently under
    another seed, so that values cannot be compared. ``at`` names the shapes, where there are several.
    ``sample`` says of what the outputs are only a part, None where they are whole.
    """

    inputs: Mapping[str, Array]
    eager: Mapping[str, Array]
    float64: Mapping[str, Array] | None
    magnitudes: Sequence[Array | None]
    undefined: Sequence[Array | None]
    stochastic: bool
    at: str | None = None
    sample: Sample | None = None

    def part(self, answer: Mapping[str, Array]) -> Mapping[str, Array]:
        """The part of ``answer`` that is held against this: the whole, but where only a sample is known."""
        return answer if self.sample is None else self.sample.of_answer(answer)


def sampled(whole: Reference, sample: Sample) -> Reference:
    """What is left of ``whole`` where the outputs are known by ``sample`` alone, and the inputs can be drawn anew."""

    def part(each: Array | None) -> Array | None:
        return None if each is None else sample.of(each)

    return replace(
        whole,
        inputs={},
        eager={name: sample.of(values) for name, values in whole.eager.items()},
        float64=None if whole.float64 is None else {name: sample.of(values) for name, values in whole.float64.items()},
        magnitudes=[part(each) for each in whole.magnitudes],
        undefined=[part(each) for each in whole.undefined],
        at=f"one element in {sample.every:,}",
        sample=sample,
    )
