"""Faults of a quantizer: one scale off by a factor, and a layer that is quantized although it was excluded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from harness.registry import plugins
from harness.transforms import Transform, TransformRequest
from harness.transforms.int8 import Int8

FACTOR = 4.0


class WrongScale(Int8):
    """``+int8`` with one weight whose scale is :data:`FACTOR` times what it should be.

    ``which`` is the number of the weight, modulo their number. If ``requantized``, the weight is quantized again to the
    coarser grid, so that its values are right up to rounding; else they are all :data:`FACTOR` times too large.
    """

    def __init__(self, which: int, *, requantized: bool) -> None:
        self.which, self.requantized = which, requantized

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """Quantize, then change one scale."""
        super().apply(source, destination, request)
        model = onnx.load(str(destination))
        stored = {each.name: each for each in model.graph.initializer}
        names = [name.removesuffix("_scale") for name in stored if name.endswith("_scale")]
        weights = [name for name in names if f"{name}_quantized" in stored]
        name = weights[self.which % len(weights)]
        scale, quantized, zero = (stored[f"{name}_{part}"] for part in ("scale", "quantized", "zero_point"))
        if self.requantized:
            values, offset = numpy_helper.to_array(quantized), numpy_helper.to_array(zero).astype(np.int32)
            coarse = np.round((values.astype(np.int32) - offset) / FACTOR) + offset
            quantized.CopyFrom(numpy_helper.from_array(coarse.astype(values.dtype), quantized.name))
        changed = numpy_helper.to_array(scale) * np.float32(FACTOR)
        scale.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), scale.name))
        onnx.save(model, str(destination))


class IgnoresExclude(Int8):
    """``+int8`` that quantizes the excluded nodes too."""

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """Quantize everything."""
        options = {key: value for key, value in request.options.items() if key != "exclude"}
        super().apply(source, destination, TransformRequest(request.word, options, request.samples))


@contextmanager
def in_place_of_int8(transform: Transform) -> Iterator[None]:
    """``transform`` is what ``+int8`` means inside the block."""
    registered: dict[str, Any] = plugins("transforms")
    original = registered["int8"]
    registered["int8"] = transform
    try:
        yield
    finally:
        registered["int8"] = original
