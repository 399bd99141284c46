"""Write ONNX nodes for both exporters: a lowering is written once, against :class:`Builder`.

The operators have the form of opsets 13 to 18: the inputs and attributes that the lowerings use did not change in them.
The dynamo exporter converts from opset 18 to the target's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.deprecated import accept_old_names

Value = Any  # an onnxscript value, or a node output of a TorchScript graph
Attribute = int | float | str | Sequence[int]

INTEGER_TYPES = frozenset({"UINT8", "INT8", "INT16", "INT32", "INT64"})
"""ONNX's names of the integer types that torch has."""


class Builder(Protocol):
    """Writes nodes into the graph that is being exported. Element types have ONNX's names, as ``FLOAT``."""

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Attribute) -> Any:
        """One node of the default domain: its output, or a tuple of outputs if ``outputs`` is more than one."""
        ...

    def constant(self, array: NDArray[Any]) -> Value:
        """A constant with ``array``'s dtype and shape."""
        ...

    def dtype(self, value: Value) -> str:
        """The element type: ``FLOAT``, ``DOUBLE``, ``FLOAT16``, ``BFLOAT16``, ``INT64``, ..."""
        ...

    def sizes(self, value: Value) -> tuple[int | None, ...]:
        """The shape, with None for a dynamic axis."""
        ...

    def items(self, value: Any) -> list[int | Value]:
        """The items of a list-of-integers argument, as numbers if they are constant."""
        ...


class DynamoBuilder:
    """Writes through onnxscript, inside a function of a ``custom_translation_table``."""

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Attribute) -> Any:
        """See :class:`Builder`."""
        from onnxscript import opset18

        result = getattr(opset18, kind)(*inputs, **attributes)
        values = tuple(result) if isinstance(result, Sequence) else (result,)
        return values[:outputs] if outputs > 1 else values[0]

    def constant(self, array: NDArray[Any]) -> Value:
        """See :class:`Builder`."""
        from onnxscript import ir, opset18

        return opset18.Constant(value=ir.tensor(array))  # type: ignore[arg-type]  # it accepts an ir tensor

    def dtype(self, value: Value) -> str:
        """See :class:`Builder`."""
        return str(value.dtype.name)

    def sizes(self, value: Value) -> tuple[int | None, ...]:
        """See :class:`Builder`."""
        return tuple(size if isinstance(size, int) else None for size in value.shape)

    def items(self, value: Any) -> list[int | Value]:
        """See :class:`Builder`."""
        return list(value)


class TorchScriptBuilder:
    """Writes into the graph context of a symbolic function."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Attribute) -> Any:
        """See :class:`Builder`."""
        suffixed = {f"{name}_{_type_suffix(value)}": value for name, value in attributes.items()}
        result = self._graph.op(kind, *inputs, outputs=outputs, **suffixed)
        return tuple(result) if outputs > 1 else result

    def constant(self, array: NDArray[Any]) -> Value:
        """See :class:`Builder`."""
        import torch

        return self._graph.op("Constant", value_t=torch.from_numpy(np.array(array)))

    def dtype(self, value: Value) -> str:
        """See :class:`Builder`."""
        name = value.type().scalarType()
        return _ONNX_TYPE.get(name, str(name).upper())

    def sizes(self, value: Value) -> tuple[int | None, ...]:
        """See :class:`Builder`."""
        sizes = value.type().varyingSizes()
        if sizes is None:
            from harness.errors import Unsupported

            raise Unsupported("the corrected lowerings need tensors with a known number of axes; this one has none")
        return tuple(sizes)

    def items(self, value: Any) -> list[int | Value]:
        """See :class:`Builder`."""
        node = value.node()
        if node.kind() == "prim::ListConstruct":
            return [_item(item) for item in node.inputs()]
        constant = node.t("value").tolist() if node.kind() == "onnx::Constant" else value.toIValue()
        return list(constant)


def _item(value: Value) -> int | Value:
    constant = value.node().t("value") if value.node().kind() == "onnx::Constant" else value.toIValue()
    return value if constant is None else int(constant)


def _type_suffix(value: Attribute) -> str:
    """The suffix of an attribute's name in a TorchScript graph, by the attribute's type."""
    return "s" if isinstance(value, str) else "f" if isinstance(value, float) else "i"


_ONNX_TYPE = {
    "Float": "FLOAT",
    "Byte": "UINT8",
    "Char": "INT8",
    "Short": "INT16",
    "Int": "INT32",
    "Long": "INT64",
    "Half": "FLOAT16",
    "Double": "DOUBLE",
    "BFloat16": "BFLOAT16",
}
"""ONNX's name for each type of a TorchScript graph."""


def cast(builder: Builder, value: Value, dtype: str) -> Value:
    """``value`` as ``dtype``."""
    return builder.op("Cast", value, to=_TYPE_NUMBER[dtype])


# TensorProto.DataType; no ONNX release changes these numbers.
_TYPE_NUMBER = {
    "FLOAT": 1,
    "UINT8": 2,
    "INT8": 3,
    "INT16": 5,
    "INT32": 6,
    "INT64": 7,
    "FLOAT16": 10,
    "DOUBLE": 11,
    "BFLOAT16": 16,
}


def to_compute_type(builder: Builder, value: Value) -> tuple[Value, str]:
    """``value`` in a type that every runtime has kernels for, and that type.

    For the 16-bit floats it is float32, in which torch computes them on the CPU; for the short integers it is int32,
    which holds all of their values.
    """
    dtype = builder.dtype(value)
    compute = _COMPUTE_TYPE.get(dtype, dtype)
    return (value if compute == dtype else cast(builder, value, compute)), compute


def from_compute_type(builder: Builder, value: Value, dtype: str) -> Value:
    """The reverse of :func:`to_compute_type` for a value that was ``dtype``: rounded once, as torch does."""
    return cast(builder, value, dtype) if dtype in _COMPUTE_TYPE else value


_COMPUTE_TYPE = {"FLOAT16": "FLOAT", "BFLOAT16": "FLOAT", "UINT8": "INT32", "INT8": "INT32", "INT16": "INT32"}


def computed_in_float32(builder: Builder, kind: str, x: Value) -> Value | None:
    """The operator ``kind`` of ``x`` in float32, for bfloat16 and integers, for which the runtime has no kernel.

    A bfloat16 output is rounded once; for integers the output is float32, as in torch. None for the other types.
    """
    dtype = builder.dtype(x)
    if dtype not in INTEGER_TYPES | {"BFLOAT16"}:
        return None
    y = builder.op(kind, cast(builder, x, "FLOAT"))
    return cast(builder, y, dtype) if dtype == "BFLOAT16" else y


def scalar(builder: Builder, value: float, dtype: str) -> Value:
    """A scalar constant of one of the types of :func:`to_compute_type`."""
    return builder.constant(np.array(value, dtype=_NUMPY_TYPE[dtype]))


_NUMPY_TYPE = {"FLOAT": np.float32, "DOUBLE": np.float64, "INT32": np.int32, "INT64": np.int64}


def int64_vector(builder: Builder, items: Sequence[int | Value]) -> Value:
    """A vector of int64 from numbers and from scalars of the graph."""
    if all(isinstance(item, int) for item in items):
        return builder.constant(np.array(items, dtype=np.int64))
    one = builder.constant(np.array([1], dtype=np.int64))
    parts = [
        builder.constant(np.array([item], dtype=np.int64))
        if isinstance(item, int)
        else builder.op("Reshape", cast(builder, item, "INT64"), one)
        for item in items
    ]
    return builder.op("Concat", *parts, axis=0)


accept_old_names(__name__)
