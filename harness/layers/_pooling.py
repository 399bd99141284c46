"""The mutants that all pools share: each argument changed a little, with the reason if that changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from harness.layers import Call, Mutant, why_empty, with_argument
from harness.layers._windows import Geometry, Size, Windows, per_axis

WhyEquivalent = Callable[[Call, Mapping[str, Any]], str | None]
"""Why the call with changed arguments is the same function of its input; None if it is not."""

_SIZES = ("kernel_size", "stride", "padding", "dilation")
_FLAGS = ("ceil_mode", "count_include_pad")


def argument_mutants(call: Call, dims: int, why_same: WhyEquivalent) -> Iterator[Mutant]:
    """Each size changed along each axis, its axes swapped, each flag flipped; only what PyTorch accepts."""
    for key in _SIZES:
        if key in call.args:
            for size in _near_sizes(call, key, dims):
                yield _argument_mutant(call, dims, key, size, why_same)
    for key in _FLAGS:
        if key in call.args and _is_accepted(call, dims, key, not call.args[key]):
            yield _argument_mutant(call, dims, key, not call.args[key], why_same)


def _near_sizes(call: Call, key: str, dims: int) -> Iterator[Size]:
    """The argument plus 1 along each axis (minus 1 if PyTorch refuses more), and with its axes swapped."""
    value = call.args[key]
    size = per_axis(call.args["kernel_size"] if value is None else value, dims)
    for axis in range(dims):
        changed = ((*size[:axis], size[axis] + step, *size[axis + 1 :]) for step in (1, -1))
        yield from [near for near in changed if _is_accepted(call, dims, key, near)][:1]
    if size[::-1] != size and _is_accepted(call, dims, key, size[::-1]):
        yield size[::-1]


def _argument_mutant(call: Call, dims: int, key: str, value: Any, why_same: WhyEquivalent) -> Mutant:
    changed = {**call.args, key: value}
    plane = call.inputs[0].shape[-dims:]
    output_sizes = {Geometry.of(args, dims).output_size(plane) for args in (call.args, changed)}
    empty = why_empty(call) if len(output_sizes) == 1 else None
    return with_argument(call, key, value, why_equivalent=empty or why_same(call, changed))


def _is_accepted(call: Call, dims: int, key: str, value: Any) -> bool:
    try:
        Geometry.of({**call.args, key: value}, dims).output_size(call.inputs[0].shape[-dims:])
    except ValueError:
        return False
    return True


def other_pool(layer: str, geometry: Geometry, *, why_equivalent: str | None) -> Mutant:
    """The pool ``layer`` over the same windows: maximum for average, or the reverse."""
    args = {
        "kernel_size": geometry.kernel,
        "stride": geometry.stride,
        "padding": geometry.padding,
        "ceil_mode": geometry.ceil_mode,
    }
    return Mutant(name=f"{layer} over the same windows", layer=layer, args=args, why_equivalent=why_equivalent)


def average_pool_accepts(kernel: Size, plane: Size) -> bool:
    """Whether an AvgPool takes the kernel: AvgPool3d alone refuses one larger than its plane, padded or not."""
    return len(plane) < 3 or all(k <= n for k, n in zip(kernel, plane, strict=True))


def why_identity(windows: Windows) -> str | None:
    """Why a pool that keeps its plane's size is the identity: window n contains element n alone; None if it is not."""
    single = windows.in_plane.sum(axis=-1) == 1
    in_place = np.where(windows.in_plane, windows.indices, 0).sum(axis=-1).ravel() == np.arange(single.size)
    return "every window is the element in its own place" if single.all() and in_place.all() else None
