"""MaxUnpool2d: cannot be traced, scripted or exported through TorchScript.

``MaxUnpool2d.forward`` branches on tensor sizes in a way that TorchScript does not take. The
module here works the output size out itself and calls the operator. In ONNX the values are
scattered into planes of zeros, one scatter axis a plane, so an index outside its plane is still
an error of the runtime, as it is in torch; the MaxUnpool operator of ONNX refuses configurations
that torch accepts, and numbers over the whole tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.fixes._builder import Builder, Value, cast, integers, number
from harness.fixes._lowering import Lowering, Replacement

if TYPE_CHECKING:
    from torch import nn


def lower(builder: Builder, x: Value, indices: Value, output_size: Sequence[int | Value] | Value) -> Value:
    """``aten::max_unpool2d``."""
    outer = len(builder.sizes(x)) - 2
    shape = builder.op("Shape", x)
    leading = _part(builder, shape, 0, outer)
    height, width = builder.items(output_size)[-2:]
    size = integers(builder, [height, width])
    target = builder.op("Concat", leading, size, axis=0)
    if 0 in builder.sizes(x):
        # Nothing to place, and torch's own shape inference would divide by zero at the Reshape below. The sum of
        # no indices is the zero to fill with, and keeps them an input of the graph.
        return cast(
            builder, builder.op("Expand", builder.op("ReduceSum", indices, keepdims=0), target), builder.dtype(x)
        )
    flat = builder.op("Concat", leading, _product(builder, _part(builder, shape, outer, outer + 2)), axis=0)
    extent = builder.op("Concat", leading, _product(builder, size), axis=0)
    planes = cast(builder, builder.op("Expand", number(builder, 0, "FLOAT"), extent), builder.dtype(x))
    values, places = builder.op("Reshape", x, flat), builder.op("Reshape", indices, flat)
    return builder.op("Reshape", builder.op("ScatterElements", planes, places, values, axis=outer), target)


def _part(builder: Builder, vector: Value, start: int, end: int) -> Value:
    return builder.op("Slice", vector, integers(builder, [start]), integers(builder, [end]))


def _product(builder: Builder, two: Value) -> Value:
    """The product of a vector of two, as a vector of one."""
    return builder.op("Mul", _part(builder, two, 0, 1), _part(builder, two, 1, 2))


def exchange(module: nn.Module) -> nn.Module | None:
    """A module that can be traced and scripted in place of a ``torch.nn.MaxUnpool2d``."""
    from torch import nn

    return _traceable(module) if type(module) is nn.MaxUnpool2d else None


def _traceable(module: Any) -> nn.Module:
    from harness.fixes._unpool_module import TraceableMaxUnpool2d

    return TraceableMaxUnpool2d(module.kernel_size, module.stride, module.padding)


PROVIDES = (
    Lowering(
        name="max_unpool2d",
        about="MaxUnpool2d: no lowering through TorchScript; through dynamo an index outside its plane lands elsewhere",
        issue="https://github.com/pytorch/pytorch/issues/25088",
        aten="max_unpool2d",
        arguments=("v", "v", "v"),
        lower=lower,
    ),
    Replacement(
        name="max_unpool2d_module",
        about="MaxUnpool2d: torch.jit.trace and torch.jit.script cannot take its forward",
        issue=None,
        exchange=exchange,
    ),
)
