"""MaxUnpool2d: cannot be traced, scripted or exported through TorchScript.

``MaxUnpool2d.forward`` branches on tensor sizes in a way that TorchScript does not accept. The
module here computes the output size itself and calls the operator. In ONNX the values are
scattered into planes of zeros, one scatter axis per plane, so that an index outside its plane is still
an error of the runtime, as in torch. ONNX's own MaxUnpool operator refuses configurations
that torch accepts, and numbers elements over the whole tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.fixes._builder import Builder, Value, cast, int64_vector, scalar
from harness.fixes._lowering import Lowering, Replacement

if TYPE_CHECKING:
    from torch import nn


def lower(builder: Builder, x: Value, indices: Value, output_size: Sequence[int | Value] | Value) -> Value:
    """``aten::max_unpool2d``."""
    axis = len(builder.sizes(x)) - 2
    shape = builder.op("Shape", x)
    leading = _part(builder, shape, 0, axis)
    height, width = builder.items(output_size)[-2:]
    size = int64_vector(builder, [height, width])
    target = builder.op("Concat", leading, size, axis=0)
    if 0 in builder.sizes(x):
        # There is nothing to scatter, and torch's shape inference would divide by zero at the Reshape below. The sum
        # of no indices is the zero to fill with; using it keeps the indices an input of the graph.
        return cast(
            builder, builder.op("Expand", builder.op("ReduceSum", indices, keepdims=0), target), builder.dtype(x)
        )
    flat = builder.op("Concat", leading, _product(builder, _part(builder, shape, axis, axis + 2)), axis=0)
    plane_size = builder.op("Concat", leading, _product(builder, size), axis=0)
    planes = cast(builder, builder.op("Expand", scalar(builder, 0, "FLOAT"), plane_size), builder.dtype(x))
    values, flat_indices = builder.op("Reshape", x, flat), builder.op("Reshape", indices, flat)
    return builder.op("Reshape", builder.op("ScatterElements", planes, flat_indices, values, axis=axis), target)


def _part(builder: Builder, vector: Value, start: int, end: int) -> Value:
    return builder.op("Slice", vector, int64_vector(builder, [start]), int64_vector(builder, [end]))


def _product(builder: Builder, vector: Value) -> Value:
    """The product of a vector of two, as a vector of one."""
    return builder.op("Mul", _part(builder, vector, 0, 1), _part(builder, vector, 1, 2))


def exchange(module: nn.Module) -> nn.Module | None:
    """The replacement of a ``torch.nn.MaxUnpool2d`` that can be traced and scripted; None for other modules."""
    from torch import nn

    return _traceable(module) if type(module) is nn.MaxUnpool2d else None


def _traceable(module: Any) -> nn.Module:
    from harness.fixes._unpool_module import TraceableMaxUnpool2d

    return TraceableMaxUnpool2d(module.kernel_size, module.stride, module.padding)


PROVIDES = (
    Lowering(
        name="max_unpool2d",
        about="MaxUnpool2d: no lowering through TorchScript; through dynamo an index outside its plane hits another",
        issue="https://github.com/pytorch/pytorch/issues/25088",
        aten="max_unpool2d",
        arguments=("v", "v", "v"),
        lower=lower,
    ),
    Replacement(
        name="max_unpool2d_module",
        about="MaxUnpool2d: torch.jit.trace and torch.jit.script do not accept its forward",
        issue=None,
        exchange=exchange,
    ),
)
