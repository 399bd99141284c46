"""One way to write ONNX nodes, for both exporters: a lowering is written once and serves both.

Every operator is written as ONNX has it from opset 13 to 18, where the inputs and attributes that
the lowerings use did not change; the dynamo exporter converts from 18 to the opset asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Value = Any  # an onnxscript value, or a node output of a TorchScript graph
Attribute = int | float | str | Sequence[int]

# ONNX's own numbers (TensorProto.DataType), which no release will change.
_NUMBER = {
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
_NUMPY = {"FLOAT": np.float32, "DOUBLE": np.float64, "INT32": np.int32, "INT64": np.int64}
_TORCHSCRIPT_DTYPE = {
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
INTEGERS = frozenset({"UINT8", "INT8", "INT16", "INT32", "INT64"})
"""ONNX's names of the integer types that torch has."""


class Builder(Protocol):
    """Writes nodes into the graph that is being exported."""

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Attribute) -> Any:
        """One node of the default domain: its output, or the tuple of them where ``outputs`` is more than one."""
        ...

    def constant(self, array: NDArray[Any]) -> Value:
        """A constant with ``array``'s dtype and shape."""
        ...

    def dtype(self, value: Value) -> str:
        """ONNX's name of the element type: ``FLOAT``, ``DOUBLE``, ``FLOAT16``, ``BFLOAT16``, ``INT64``, ..."""
        ...

    def sizes(self, value: Value) -> tuple[int | None, ...]:
        """The shape, with None for an axis that is open."""
        ...

    def items(self, value: Any) -> list[int | Value]:
        """The entries of an argument that is a list of integers, each a number where it is known."""
        ...


class DynamoBuilder:
    """Writes through onnxscript, inside a function of a ``custom_translation_table``."""

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Attribute) -> Any:
        """See :class:`Builder`."""
        from onnxscript import opset18

        made = getattr(opset18, kind)(*inputs, **attributes)
        several = tuple(made) if isinstance(made, Sequence) else (made,)
        return several[:outputs] if outputs > 1 else several[0]

    def constant(self, array: NDArray[Any]) -> Value:
        """See :class:`Builder`."""
        from onnxscript import ir, opset18

        return opset18.Constant(value=ir.tensor(array))  # type: ignore[arg-type]  # an ir tensor serves

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
    """Writes into the graph context that a symbolic function is given."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def op(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Attribute) -> Any:
        """See :class:`Builder`."""
        suffixed = {f"{name}_{_suffix(value)}": value for name, value in attributes.items()}
        made = self._graph.op(kind, *inputs, outputs=outputs, **suffixed)
        return tuple(made) if outputs > 1 else made

    def constant(self, array: NDArray[Any]) -> Value:
        """See :class:`Builder`."""
        import torch

        return self._graph.op("Constant", value_t=torch.from_numpy(np.array(array)))

    def dtype(self, value: Value) -> str:
        """See :class:`Builder`."""
        name = value.type().scalarType()
        return _TORCHSCRIPT_DTYPE.get(name, str(name).upper())

    def sizes(self, value: Value) -> tuple[int | None, ...]:
        """See :class:`Builder`."""
        sizes = value.type().varyingSizes()
        if sizes is None:
            from harness.errors import Unsupported

            raise Unsupported("the corrected lowerings need to know how many axes a tensor has, and this one is open")
        return tuple(sizes)

    def items(self, value: Any) -> list[int | Value]:
        """See :class:`Builder`."""
        node = value.node()
        if node.kind() == "prim::ListConstruct":
            return [_number(item) for item in node.inputs()]
        known = node.t("value").tolist() if node.kind() == "onnx::Constant" else value.toIValue()
        return list(known)


def _number(value: Value) -> int | Value:
    known = value.node().t("value") if value.node().kind() == "onnx::Constant" else value.toIValue()
    return value if known is None else int(known)


def _suffix(value: Attribute) -> str:
    """What TorchScript's graph wants at the end of an attribute's name, for its type."""
    return "s" if isinstance(value, str) else "f" if isinstance(value, float) else "i"


def cast(builder: Builder, value: Value, dtype: str) -> Value:
    """``value`` as ``dtype`` (ONNX's name)."""
    return builder.op("Cast", value, to=_NUMBER[dtype])


_COMPUTES_IN = {"FLOAT16": "FLOAT", "BFLOAT16": "FLOAT", "UINT8": "INT32", "INT8": "INT32", "INT16": "INT32"}


def widened(builder: Builder, value: Value) -> tuple[Value, str]:
    """``value`` in a dtype that every runtime has kernels for, and that dtype.

    It is the one that torch computes in on the CPU for the half types (float32), and one that
    holds every value of the short integers.
    """
    dtype = builder.dtype(value)
    compute = _COMPUTES_IN.get(dtype, dtype)
    return (value if compute == dtype else cast(builder, value, compute)), compute


def narrowed(builder: Builder, value: Value, like: str) -> Value:
    """What :func:`widened` made of dtype ``like``, back in it: rounded once, as torch does."""
    return cast(builder, value, like) if like in _COMPUTES_IN else value


def number(builder: Builder, value: float, dtype: str) -> Value:
    """A scalar constant of a dtype that :func:`widened` gives."""
    return builder.constant(np.array(value, dtype=_NUMPY[dtype]))


def in_float32(builder: Builder, kind: str, x: Value) -> Value | None:
    """The operator computed in float32, for what the runtime has no kernel for: bfloat16, and integers.

    A bfloat16 answer is rounded once; integers give float32, as in torch. None for the other dtypes.
    """
    dtype = builder.dtype(x)
    if dtype not in INTEGERS | {"BFLOAT16"}:
        return None
    y = builder.op(kind, cast(builder, x, "FLOAT"))
    return cast(builder, y, dtype) if dtype == "BFLOAT16" else y


def integers(builder: Builder, items: Sequence[int | Value]) -> Value:
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
