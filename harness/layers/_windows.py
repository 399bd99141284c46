"""Where pooling looks: the windows of a plane in one, two or three dimensions.

A plane is what lies behind the batch and channel axes: L, H x W or D x H x W. Along each axis
window ``o`` looks at the places ``o * stride - padding + i * dilation`` for ``i < kernel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, ...]


def output_size(
    size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size, *, ceil_mode: bool = False
) -> Size:
    """The size of a pooled plane: ``floor((n + 2p - d(k - 1) - 1) / s) + 1`` along each axis.

    With ``ceil_mode`` the division rounds up, but a last window that would start in the padding
    on the right is dropped (torch.nn.MaxPool2d, note on ``ceil_mode``).

    Raises :class:`ValueError` where PyTorch refuses: a kernel, stride or dilation below 1, padding that is
    negative or above half of the kernel (dilated or not), or a plane too small for one window.
    """
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple(_output_length(*axis, ceil_mode=ceil_mode) for axis in axes)


def per_axis(value: Any, dims: int) -> Size:
    """An argument of a pool as one integer per axis: one number, or a sequence of one, stands for all axes.

    Raises :class:`ValueError` where the sequence has another length.
    """
    values = tuple(int(item) for item in value) if isinstance(value, list | tuple) else (int(value),)
    if len(values) not in {1, dims}:
        raise ValueError(f"{value!r} has {len(values)} numbers; one, or {dims}, would be right")
    return values * dims if len(values) == 1 else values


@dataclass(frozen=True, slots=True)
class Windows:
    """The places that each window of one plane looks at, in row-major order: arrays of shape (*output, kernel).

    ``places`` are flat indices into the plane, 0 where ``inside`` is False; ``inside`` is True
    where the place is in the plane, and ``padded`` where it is in the plane or in the declared
    padding, which a last window under ``ceil_mode`` may overhang.
    """

    places: NDArray[np.int64]
    inside: NDArray[np.bool_]
    padded: NDArray[np.bool_]

    def gather(self, x: NDArray[Any], dims: int) -> NDArray[Any]:
        """What each window sees in each plane of ``x``: shape (*leading axes, *output, kernel)."""
        planes = x.reshape(*x.shape[:-dims], prod(x.shape[-dims:]))
        return np.asarray(planes[..., self.places])

    def same_as(self, other: Windows) -> bool:
        """True where both look at the same elements, window by window, in the same order."""
        return np.array_equal(self._seen(), other._seen())

    def _seen(self) -> NDArray[np.int64]:
        """The places inside the plane, moved to the front of each window; -1 behind them."""
        order = np.argsort(~self.inside, axis=-1, kind="stable")
        seen = np.take_along_axis(np.where(self.inside, self.places, -1), order, axis=-1)
        return seen[..., : int(self.inside.sum(axis=-1).max())]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The arguments of a pool that say where it looks, one integer per axis."""

    kernel: Size
    stride: Size
    padding: Size
    dilation: Size
    ceil_mode: bool

    @classmethod
    def of(cls, args: Mapping[str, Any], dims: int) -> Geometry:
        """From a layer's constructor arguments; ``stride=None`` means the kernel's size."""
        stride = args.get("stride")
        return cls(
            kernel=per_axis(args["kernel_size"], dims),
            stride=per_axis(args["kernel_size"] if stride is None else stride, dims),
            padding=per_axis(args.get("padding", 0), dims),
            dilation=per_axis(args.get("dilation", 1), dims),
            ceil_mode=bool(args.get("ceil_mode", False)),
        )

    def output_size(self, plane: Size) -> Size:
        """The size of ``plane`` after pooling; raises as :func:`output_size`."""
        return output_size(plane, self.kernel, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode)

    def windows(self, plane: Size) -> Windows:
        """Every window of ``plane``; raises as :func:`output_size`."""
        output = self.output_size(plane)
        dims = len(plane)
        places = np.zeros((1,) * 2 * dims, dtype=np.int64)
        inside = np.ones((1,) * 2 * dims, dtype=np.bool_)
        padded = inside
        for axis, (n, k, s, p, d) in enumerate(
            zip(plane, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        ):
            along = np.arange(output[axis])[:, None] * s - p + np.arange(k) * d
            shape = [1] * 2 * dims
            shape[axis], shape[dims + axis] = along.shape
            along = along.reshape(shape)
            places = places * n + along
            inside = inside & (along >= 0) & (along < n)
            padded = padded & (along < n + p)
        flat = (*output, prod(self.kernel))
        return Windows(np.where(inside, places, 0).reshape(flat), inside.reshape(flat), padded.reshape(flat))


def _output_length(n: int, k: int, s: int, p: int, d: int, *, ceil_mode: bool) -> int:
    if min(k, s, d) < 1:
        raise ValueError(f"kernel {k}, stride {s}, dilation {d}; each of them must be at least 1")
    if not 0 <= p <= k // 2:
        raise ValueError(f"padding {p} with a kernel of {k}; from 0 to {k // 2}, half of the kernel, would be right")
    reach = d * (k - 1) + 1
    room = n + 2 * p - reach
    length = (-(-room // s) if ceil_mode else room // s) + 1
    if ceil_mode and (length - 1) * s >= n + p:
        length -= 1
    if length < 1:
        raise ValueError(
            f"a window that reaches over {reach} in {n} with padding {p}; at most {n + 2 * p} would be right"
        )
    return length
