"""What a file declares about its outputs, to tell a wrong declaration from a runtime that does not keep to it.

A runtime gives the names, dtypes and shapes that the file asks for. So where the answer has another form than the
reference, the file is wrong if it declares that form, or if ONNX's type inference finds it in the file's nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, TypeProto, helper, shape_inference

Answer = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class DeclaredOutput:
    """One output of a graph. ``dtype`` is None if it is not declared; a dimension is None if it is open."""

    dtype: np.dtype[Any] | None
    shape: Sequence[int | None] | None

    def has_shape(self, shape: Sequence[int]) -> bool:
        """True if an output of ``shape`` keeps to the declaration."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            declared is None or declared == actual for declared, actual in zip(self.shape, shape, strict=True)
        )


def has_other_form(answer: Answer, expected: Answer) -> bool:
    """True if two answers differ in the names, dtypes or shapes of their outputs."""
    return list(answer) != list(expected) or any(
        (answer[name].dtype, answer[name].shape) != (values.dtype, values.shape) for name, values in expected.items()
    )


def declared_difference(path: Path, answer: Answer, expected: Answer, reference: str) -> str | None:
    """How the file at ``path`` declares the form of ``answer`` where ``expected`` has another; None if it does not.

    ``reference`` says in a few words whose answer ``expected`` is.
    """
    if not has_other_form(answer, expected):
        return None
    model = onnx.load(str(path), load_external_data=False)
    return next(_differences(model, answer, expected, reference), None)


def _differences(model: ModelProto, answer: Answer, expected: Answer, reference: str) -> Iterator[str]:
    declared = {value.name: _declared_output(value.type) for value in model.graph.output}
    if list(declared) != list(expected) and list(declared) == list(answer):
        yield f"the file declares the outputs {', '.join(declared)}; {reference} has {', '.join(expected)}"
    common = [name for name in expected if name in answer and name in declared]
    for name in common:
        got, wanted = answer[name].dtype, expected[name].dtype
        if got != wanted and declared[name].dtype == got:
            yield f"the file declares {name} as {got}; {reference} has {wanted}"
    for name in common:
        shape, wanted_shape = answer[name].shape, expected[name].shape
        if shape != wanted_shape and declared[name].has_shape(shape) and not declared[name].has_shape(wanted_shape):
            shown = _shown(declared[name])
            yield f"the file declares {name} with the shape {shown}; {reference} has {list(wanted_shape)}"
    if any(answer[name].dtype != expected[name].dtype for name in common):
        inferred = _inferred_dtypes(model)
        for name in common:
            got, wanted = answer[name].dtype, expected[name].dtype
            if got != wanted and inferred.get(name) == got:
                yield f"the file computes {name} as {got}, by ONNX's type inference; {reference} has {wanted}"


def _inferred_dtypes(model: ModelProto) -> Mapping[str, np.dtype[Any] | None]:
    """The dtypes of the outputs that ONNX infers from the nodes, whatever the file declares; empty if it cannot."""
    undeclared = ModelProto()
    undeclared.CopyFrom(model)
    del undeclared.graph.value_info[:]
    for value in undeclared.graph.output:
        value.ClearField("type")
    try:
        graph = shape_inference.infer_shapes(undeclared).graph
    except Exception:  # noqa: BLE001 - an inference that fails is evidence that is missing
        return {}
    return {value.name: _declared_output(value.type).dtype for value in graph.output}


def _declared_output(described: TypeProto) -> DeclaredOutput:
    if not described.HasField("tensor_type"):
        return DeclaredOutput(None, None)
    tensor = described.tensor_type
    dtype = None
    if tensor.elem_type not in {TensorProto.UNDEFINED, TensorProto.STRING}:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not tensor.HasField("shape"):
        return DeclaredOutput(dtype, None)
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in tensor.shape.dim]
    return DeclaredOutput(dtype, dims)


def _shown(output: DeclaredOutput) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in output.shape or ())}]"
