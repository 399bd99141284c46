"""MaxUnpool1d, MaxUnpool2d, MaxUnpool3d: pooled values at the indices of their maxima, zeros elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from harness.layers import Answer, Array, Call, Layer, Mutant, why_empty, with_argument, with_output
from harness.layers._windows import Size, per_axis
from harness.spec.language.tolerances import Exact, Tolerance


class MaxUnpool:
    """The partial inverse of max pooling over ``dims`` axes (torch.nn.MaxUnpool1d, MaxUnpool2d, MaxUnpool3d)."""

    def __init__(self, dims: int) -> None:
        self.name = f"MaxUnpool{dims}d"
        self.dims = dims

    def float64_reference(self, call: Call) -> Answer:
        """Zeros with each value at its flat index in its own plane.

        PyTorch documents the output as nondeterministic if an index repeats: an element that is written with
        different values is ``undefined`` (PyTorch's kernel on the CPU keeps the last).

        Raises :class:`ValueError`, as PyTorch does, for an index outside its plane, indices of another shape than the
        values, and an ``output_size`` that no pooling leads to.
        """
        values, indices = call.inputs
        plane = self._plane(call)
        if values.shape != indices.shape:
            raise ValueError(f"indices have shape {indices.shape}; expected {values.shape}, as the values")
        outside = indices[(indices < 0) | (indices >= prod(plane))]
        if outside.size:
            raise ValueError(f"index {outside[0]} is outside its plane; expected 0 to {prod(plane) - 1}")
        leading = values.shape[: -self.dims]
        flat = (prod(leading), prod(values.shape[-self.dims :]))
        flat_values, flat_indices = values.reshape(flat), indices.reshape(flat)
        unpooled = np.zeros((flat[0], prod(plane)), dtype=values.dtype)
        np.put_along_axis(unpooled, flat_indices, flat_values, axis=-1)
        undefined = _overwritten(unpooled, flat_values, flat_indices)
        shape = (*leading, *plane)
        return Answer(
            (unpooled.reshape(shape),),
            magnitudes=(None,),
            undefined=(undefined.reshape(shape) if undefined.any() else None,),
        )

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact: values are moved, and nothing is rounded. Measured: 0 ULP everywhere."""
        return Tolerance(Exact())

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Another size of the plane; indices off by one, by a plane or transposed; all zeros."""
        yield from self._other_arguments(call)
        if call.forward.get("output_size") is not None:
            yield from self._without_output_size(call)
        yield from self._other_indices(call)

    def _plane(self, call: Call) -> Size:
        """The size of the unpooled plane: ``output_size`` if given, else ``(n - 1)s - 2p + k``.

        ``output_size`` may be the plane or the whole shape, and must lie strictly within one
        stride of the default (torch.nn.MaxUnpool2d).
        """
        args = call.args
        kernel = per_axis(args["kernel_size"], self.dims)
        stride = kernel if args.get("stride") is None else per_axis(args["stride"], self.dims)
        padding = per_axis(args.get("padding", 0), self.dims)
        pooled = call.inputs[0].shape[-self.dims :]
        default = tuple((n - 1) * s - 2 * p + k for n, k, s, p in zip(pooled, kernel, stride, padding, strict=True))
        output_size = call.forward.get("output_size")
        if output_size is None:
            if min(default) < 1:
                raise ValueError(f"the unpooled plane would have the size {default}; expected at least 1 on each axis")
            return default
        if len(output_size) not in {self.dims, self.dims + 2}:
            raise ValueError(f"output_size has {len(output_size)} numbers; expected {self.dims} or {self.dims + 2}")
        plane = tuple(int(length) for length in output_size[-self.dims :])
        for length, usual, s in zip(plane, default, stride, strict=True):
            if not usual - s < length < usual + s:
                raise ValueError(f"output_size {length}; expected {usual - s + 1} to {usual + s - 1}")
        return plane

    def _other_arguments(self, call: Call) -> Iterator[Mutant]:
        """Each argument plus 1, if every index is still in its plane."""
        for key in ("kernel_size", "stride", "padding"):
            value = call.args.get(key)
            size = per_axis(call.args["kernel_size"] if value is None else value, self.dims)
            for axis in range(self.dims):
                larger = (*size[:axis], size[axis] + 1, *size[axis + 1 :])
                changed = replace(call, args={**call.args, key: larger})
                if self._accepts(changed):
                    same = self._plane(changed) == self._plane(call)
                    why = "the unpooled plane keeps its size" if same else None
                    yield with_argument(call, key, larger, why_equivalent=why)

    def _without_output_size(self, call: Call) -> Iterator[Mutant]:
        changed = replace(call, forward={})
        if self._accepts(changed):
            wrong = self.float64_reference(changed).outputs[0]
            same = self._plane(call) == self._plane(changed)
            why = "output_size is the default size" if same else None
            yield with_output(0, "output_size ignored", lambda output: wrong.astype(output.dtype), why_equivalent=why)

    def _other_indices(self, call: Call) -> Iterator[Mutant]:
        plane = self._plane(call)
        empty = why_empty(call)
        one_element = "the unpooled plane has one element" if prod(plane) == 1 else None
        one_plane = "there is one plane only" if prod(call.inputs[0].shape[: -self.dims]) == 1 else None
        one_line = "the unpooled plane is one line" if sum(length > 1 for length in plane) <= 1 else None
        yield with_output(0, "nothing put back", np.zeros_like, why_equivalent=empty)
        yield with_output(0, "indices off by one", self._off_by_one, why_equivalent=empty or one_element)
        yield with_output(0, "indices off by a plane", self._off_by_a_plane, why_equivalent=empty or one_plane)
        if self.dims > 1:
            yield with_output(0, "indices transposed", self._transposed, why_equivalent=empty or one_line)

    def _off_by_one(self, output: Array) -> Array:
        leading = output.shape[: -self.dims]
        return np.roll(output.reshape(*leading, prod(output.shape[-self.dims :])), 1, axis=-1).reshape(output.shape)

    def _off_by_a_plane(self, output: Array) -> Array:
        planes = prod(output.shape[: -self.dims])
        return np.roll(output.reshape(planes, prod(output.shape[-self.dims :])), 1, axis=0).reshape(output.shape)

    def _transposed(self, output: Array) -> Array:
        leading = len(output.shape) - self.dims
        axes = (*range(leading), *reversed(range(leading, len(output.shape))))
        return output.transpose(axes).reshape(output.shape)

    def _accepts(self, call: Call) -> bool:
        try:
            self.float64_reference(call)
        except ValueError:
            return False
        return True


def _overwritten(unpooled: Array, values: Array, indices: Array) -> Array:
    """True for the elements of ``unpooled`` that differ from a value that was written to them."""
    kept = np.take_along_axis(unpooled, indices, axis=-1)
    lost = (kept != values) & ~(np.isnan(kept) & np.isnan(values))
    overwritten = np.zeros(unpooled.shape, dtype=np.bool_)
    row, column = np.nonzero(lost)
    overwritten[row, indices[row, column]] = True
    return overwritten


PROVIDES: tuple[Layer, ...] = (MaxUnpool(1), MaxUnpool(2), MaxUnpool(3))
