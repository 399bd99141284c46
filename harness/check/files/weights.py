"""The weights that a reference stores, by name, to be compared with those of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from harness.check.files.reference import FileReference

Array = NDArray[Any]


def float_weights_of(reference: Any) -> Mapping[str, Array]:
    """The float tensors that a reference stores, by name: those of an ONNX file, or of a module; else none."""
    if not isinstance(reference, FileReference):
        state = reference.subject.module.state_dict()
        return {name: each.detach().float().numpy() for name, each in state.items() if each.is_floating_point()}
    if reference.file.format != "onnx":
        return {}
    import onnx

    from harness.check.judging.quantized_weights import float_weights

    return float_weights(onnx.load(reference.file.path))
