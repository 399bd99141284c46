"""The windows of a pool over a plane in one, two or three dimensions.

A plane is the axes behind batch and channel: L, H x W or D x H x W. Along each axis, window ``o`` covers the positions
``o * stride - padding + i * dilation`` for ``i < kernel``.
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
    """An argument of a pool as one integer per axis; a single number, or a sequence of one, stands for all axes.

    Raises :class:`ValueError` if the sequence has another length.
    """
    values = tuple(int(item) for item in value) if isinstance(value, list | tuple) else (int(value),)
    if len(values) not in {1, dims}:
        raise ValueError(f"{value!r} has {len(values)} numbers; expected 1 or {dims}")
    return values * dims if len(values) == 1 else values


@dataclass(frozen=True, slots=True)
class Windows:
    """The elements of each window of one plane, in row-major order: arrays of shape (*output, kernel).

    ``indices`` are flat indices into the plane, 0 where ``in_plane`` is False. ``in_plane`` is True where the position
    is in the plane. ``in_padded_plane`` is True where it is in the plane or in the declared padding; a last window
    under ``ceil_mode`` may extend beyond both.
    """

    indices: NDArray[np.int64]
    in_plane: NDArray[np.bool_]
    in_padded_plane: NDArray[np.bool_]

    def gather(self, x: NDArray[Any], dims: int) -> NDArray[Any]:
        """The elements of each window in each plane of ``x``: shape (*leading axes, *output, kernel)."""
        planes = x.reshape(*x.shape[:-dims], prod(x.shape[-dims:]))
        return np.asarray(planes[..., self.indices])

    def same_as(self, other: Windows) -> bool:
        """True if both have the same elements, window by window, in the same order."""
        return np.array_equal(self._elements(), other._elements())

    def _elements(self) -> NDArray[np.int64]:
        """The indices in the plane, moved to the front of each window; -1 behind them."""
        order = np.argsort(~self.in_plane, axis=-1, kind="stable")
        elements = np.take_along_axis(np.where(self.in_plane, self.indices, -1), order, axis=-1)
        return elements[..., : int(self.in_plane.sum(axis=-1).max())]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The arguments of a pool that determine its windows, one integer per axis."""

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
        indices = np.zeros((1,) * 2 * dims, dtype=np.int64)
        in_plane = np.ones((1,) * 2 * dims, dtype=np.bool_)
        in_padded_plane = in_plane
        for axis, (n, k, s, p, d) in enumerate(
            zip(plane, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        ):
            positions = np.arange(output[axis])[:, None] * s - p + np.arange(k) * d
            shape = [1] * 2 * dims
            shape[axis], shape[dims + axis] = positions.shape
            positions = positions.reshape(shape)
            indices = indices * n + positions
            in_plane = in_plane & (positions >= 0) & (positions < n)
            in_padded_plane = in_padded_plane & (positions < n + p)
        flat = (*output, prod(self.kernel))
        return Windows(
            np.where(in_plane, indices, 0).reshape(flat), in_plane.reshape(flat), in_padded_plane.reshape(flat)
        )


def _output_length(n: int, k: int, s: int, p: int, d: int, *, ceil_mode: bool) -> int:
    if min(k, s, d) < 1:
        raise ValueError(f"kernel {k}, stride {s}, dilation {d}; each must be at least 1")
    if not 0 <= p <= k // 2:
        raise ValueError(f"padding {p} for a kernel of {k}; expected 0 to {k // 2}, half of the kernel")
    span = d * (k - 1) + 1
    free = n + 2 * p - span
    length = (-(-free // s) if ceil_mode else free // s) + 1
    if ceil_mode and (length - 1) * s >= n + p:
        length -= 1
    if length < 1:
        raise ValueError(
            f"the window spans {span} elements; an axis of {n} with padding {p} has room for at most {n + 2 * p}"
        )
    return length
