"""What the mutants of all pools share: every argument nudged, and the proofs that a nudge changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from harness.layers import Call, Mutant
from harness.layers._mutants import nothing_to_see, with_argument
from harness.layers._windows import Geometry, Size, Windows, per_axis

Proof = Callable[[Call, Mapping[str, Any]], str | None]
"""Why the call with changed arguments is the same function of its input; None where it is not."""

_SIZES = ("kernel_size", "stride", "padding", "dilation")
_FLAGS = ("ceil_mode", "count_include_pad")


def argument_mutants(call: Call, dims: int, same: Proof) -> Iterator[Mutant]:
    """Each argument nudged along each axis, its axes swapped, each flag flipped; only what PyTorch accepts."""
    for key in _SIZES:
        if key in call.args:
            for size in nudges(call, key, dims):
                yield _judged(call, dims, key, size, same)
    for key in _FLAGS:
        if key in call.args and _fits(call, dims, key, not call.args[key]):
            yield _judged(call, dims, key, not call.args[key], same)


def nudges(call: Call, key: str, dims: int) -> Iterator[Size]:
    """The values near a size argument: one more along each axis, one less where more is refused, the axes swapped."""
    value = call.args[key]
    size = per_axis(call.args["kernel_size"] if value is None else value, dims)
    for axis in range(dims):
        nudged = ((*size[:axis], size[axis] + step, *size[axis + 1 :]) for step in (1, -1))
        yield from [near for near in nudged if _fits(call, dims, key, near)][:1]
    if size[::-1] != size and _fits(call, dims, key, size[::-1]):
        yield size[::-1]


def averages(kernel: Size, plane: Size) -> bool:
    """Whether an average pool takes the kernel: AvgPool3d alone refuses one larger than its plane, padded or not."""
    return len(plane) < 3 or all(k <= n for k, n in zip(kernel, plane, strict=True))


def over_the_same_windows(layer: str, geometry: Geometry, *, why_equal: str | None) -> Mutant:
    """Another pool with the windows of this one: another summary of each."""
    args = {
        "kernel_size": geometry.kernel,
        "stride": geometry.stride,
        "padding": geometry.padding,
        "ceil_mode": geometry.ceil_mode,
    }
    return Mutant(name=f"{layer} over the same windows", layer=layer, args=args, why_equal=why_equal)


def each_its_own(windows: Windows) -> str | None:
    """Why a pool that keeps its plane's size does nothing: window n sees element n and no other."""
    alone = windows.inside.sum(axis=-1) == 1
    own = np.where(windows.inside, windows.places, 0).sum(axis=-1).ravel() == np.arange(alone.size)
    return "every window is the element in its own place" if alone.all() and own.all() else None


def _judged(call: Call, dims: int, key: str, value: Any, same: Proof) -> Mutant:
    changed = {**call.args, key: value}
    plane = call.inputs[0].shape[-dims:]
    sizes = {Geometry.of(args, dims).output_size(plane) for args in (call.args, changed)}
    empty = nothing_to_see(call) if len(sizes) == 1 else None
    return with_argument(call, key, value, why_equal=empty or same(call, changed))


def _fits(call: Call, dims: int, key: str, value: Any) -> bool:
    try:
        Geometry.of({**call.args, key: value}, dims).output_size(call.inputs[0].shape[-dims:])
    except ValueError:
        return False
    return True
