"""MaxUnpool1d, MaxUnpool2d, MaxUnpool3d: values put back where max pooling found them, zeros elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from harness.layers import Answer, Array, Call, Layer, Mutant
from harness.layers._mutants import nothing_to_see, with_argument, with_output
from harness.layers._windows import Size, per_axis
from harness.spec.language.tolerances import Exact, Tolerance


class MaxUnpool:
    """The partial inverse of max pooling over ``dims`` axes (torch.nn.MaxUnpool2d and its like)."""

    def __init__(self, dims: int) -> None:
        self.name = f"MaxUnpool{dims}d"
        self.dims = dims

    def float64_reference(self, call: Call) -> Answer:
        """Zeros with each value at its flat index in its own plane.

        PyTorch documents the answer as not deterministic where an index repeats: a place that
        is written with different values is ``undefined`` (its kernel on the CPU keeps the last).

        Raises :class:`ValueError`, where PyTorch raises, for an index outside its plane, indices of another shape
        than the values, and an ``output_size`` that no pooling leads to.
        """
        values, indices = call.inputs
        plane = self._plane(call)
        if values.shape != indices.shape:
            raise ValueError(f"indices have shape {indices.shape}; {values.shape}, as the values, would be right")
        outside = indices[(indices < 0) | (indices >= prod(plane))]
        if outside.size:
            raise ValueError(f"index {outside[0]} is outside its plane; 0 to {prod(plane) - 1} would be right")
        lead = values.shape[: -self.dims]
        flat = (prod(lead), prod(values.shape[-self.dims :]))
        flat_values, flat_indices = values.reshape(flat), indices.reshape(flat)
        unpooled = np.zeros((flat[0], prod(plane)), dtype=values.dtype)
        np.put_along_axis(unpooled, flat_indices, flat_values, axis=-1)
        undefined = _overwritten(unpooled, flat_values, flat_indices)
        shape = (*lead, *plane)
        return Answer(
            (unpooled.reshape(shape),),
            magnitudes=(None,),
            undefined=(undefined.reshape(shape) if undefined.any() else None,),
        )

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact: values are moved, and nothing is rounded. Measured: 0 ULP everywhere."""
        return Tolerance(Exact())

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Another size of plane, places off by one, by a plane or transposed, nothing put back."""
        yield from self._other_arguments(call)
        if call.forward.get("output_size") is not None:
            yield from self._without_output_size(call)
        yield from self._other_places(call)

    def _plane(self, call: Call) -> Size:
        """The size of the unpooled plane: ``output_size`` where given, else ``(n - 1)s - 2p + k``.

        ``output_size`` may be the plane or the whole shape, and must lie strictly within one
        stride of the default (torch.nn.MaxUnpool2d).
        """
        args = call.args
        kernel = per_axis(args["kernel_size"], self.dims)
        stride = kernel if args.get("stride") is None else per_axis(args["stride"], self.dims)
        padding = per_axis(args.get("padding", 0), self.dims)
        pooled = call.inputs[0].shape[-self.dims :]
        default = tuple((n - 1) * s - 2 * p + k for n, k, s, p in zip(pooled, kernel, stride, padding, strict=True))
        asked = call.forward.get("output_size")
        if asked is None:
            if min(default) < 1:
                raise ValueError(f"the unpooled plane would have the size {default}; at least 1 would be right")
            return default
        if len(asked) not in {self.dims, self.dims + 2}:
            raise ValueError(f"output_size has {len(asked)} numbers; {self.dims} or {self.dims + 2} would be right")
        plane = tuple(int(length) for length in asked[-self.dims :])
        for length, usual, s in zip(plane, default, stride, strict=True):
            if not usual - s < length < usual + s:
                raise ValueError(f"output_size {length}; between {usual - s + 1} and {usual + s - 1} would be right")
        return plane

    def _other_arguments(self, call: Call) -> Iterator[Mutant]:
        """Each argument one more, where the values still have a place."""
        for key in ("kernel_size", "stride", "padding"):
            value = call.args.get(key)
            size = per_axis(call.args["kernel_size"] if value is None else value, self.dims)
            for axis in range(self.dims):
                nudged = (*size[:axis], size[axis] + 1, *size[axis + 1 :])
                changed = replace(call, args={**call.args, key: nudged})
                if self._accepts(changed):
                    same = self._plane(changed) == self._plane(call)
                    why = "the unpooled plane keeps its size" if same else None
                    yield with_argument(call, key, nudged, why_equal=why)

    def _without_output_size(self, call: Call) -> Iterator[Mutant]:
        usual = replace(call, forward={})
        if self._accepts(usual):
            wrong = self.float64_reference(usual).outputs[0]
            same = self._plane(call) == self._plane(usual)
            why = "output_size is what it would be without being asked for" if same else None
            yield with_output(0, "output_size ignored", lambda right: wrong.astype(right.dtype), why_equal=why)

    def _other_places(self, call: Call) -> Iterator[Mutant]:
        plane = self._plane(call)
        empty = nothing_to_see(call)
        one_place = "the unpooled plane has one place" if prod(plane) == 1 else None
        one_plane = "there is one plane only" if prod(call.inputs[0].shape[: -self.dims]) == 1 else None
        one_line = "the unpooled plane is one line" if sum(length > 1 for length in plane) <= 1 else None
        yield with_output(0, "nothing put back", np.zeros_like, why_equal=empty)
        yield with_output(0, "indices off by one", self._off_by_one, why_equal=empty or one_place)
        yield with_output(0, "indices off by a plane", self._off_by_a_plane, why_equal=empty or one_plane)
        if self.dims > 1:
            yield with_output(0, "indices transposed", self._transposed, why_equal=empty or one_line)

    def _off_by_one(self, right: Array) -> Array:
        lead = right.shape[: -self.dims]
        return np.roll(right.reshape(*lead, prod(right.shape[-self.dims :])), 1, axis=-1).reshape(right.shape)

    def _off_by_a_plane(self, right: Array) -> Array:
        planes = prod(right.shape[: -self.dims])
        return np.roll(right.reshape(planes, prod(right.shape[-self.dims :])), 1, axis=0).reshape(right.shape)

    def _transposed(self, right: Array) -> Array:
        lead = len(right.shape) - self.dims
        axes = (*range(lead), *reversed(range(lead, len(right.shape))))
        return right.transpose(axes).reshape(right.shape)

    def _accepts(self, call: Call) -> bool:
        try:
            self.float64_reference(call)
        except ValueError:
            return False
        return True


def _overwritten(unpooled: Array, values: Array, indices: Array) -> Array:
    """True at the places that do not hold every value that was written to them."""
    kept = np.take_along_axis(unpooled, indices, axis=-1)
    lost = (kept != values) & ~(np.isnan(kept) & np.isnan(values))
    places = np.zeros(unpooled.shape, dtype=np.bool_)
    row, column = np.nonzero(lost)
    places[row, indices[row, column]] = True
    return places


PROVIDES: tuple[Layer, ...] = (MaxUnpool(1), MaxUnpool(2), MaxUnpool(3))
