"""Checks before a run: the options of a target, and inputs against the signature of an ONNX file.

The signature is for runtimes that do not check names, dtypes and shapes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data_files.onnx_files import dtype_from_onnx
from harness.errors import StageError, Unsupported, UsageError
from harness.runtimes import Value
from harness.spec.quoting import closest_name

if TYPE_CHECKING:
    import onnx

_MAX_DIGITS = 9  # of a number; any runtime accepts a number of that many digits


@dataclass(frozen=True, slots=True)
class Option:
    """An option that a target may set after the question mark: its description, default and allowed values.

    With ``multiple``, values may be joined by commas. If ``values`` is empty, the option takes a positive whole number,
    or with ``is_path`` the path of a file.
    """

    description: str
    default: str
    values: tuple[str, ...] = ()
    multiple: bool = False
    is_path: bool = False

    def __str__(self) -> str:
        allowed = "|".join(self.values) or ("a path" if self.is_path else "a positive whole number")
        return f"{self.description}: {allowed} (default {self.default or 'none'})"

    def parse(self, key: str, text: str) -> str:
        """``text``, a number without leading zeros. Raises :class:`UsageError` if the option does not allow it."""
        if self.is_path:
            return text
        if not self.values:
            digits = text.lstrip("0")
            if text.isascii() and text.isdecimal() and 0 < len(digits) <= _MAX_DIGITS:
                return digits
            raise UsageError(f"option {key}={text}: use a positive whole number below 10^{_MAX_DIGITS}")
        for part in text.split(",") if self.multiple else (text,):
            if part not in self.values:
                suggestion = _suggestion(part, self.values)
                raise UsageError(f"option {key}={text}: unknown value; use one of {', '.join(self.values)}{suggestion}")
        return text


THREADS = Option("threads within one operator", "1")
TF32 = Option("TF32 for float32 matrix products and convolutions", "off", ("on", "off"))


def resolve_options(runtime: str, available: Mapping[str, Option], options: Mapping[str, str]) -> dict[str, str]:
    """The value of every available option: from ``options``, or its default.

    Raises :class:`UsageError` for an unknown option and for a value that the option does not allow.
    """
    for key in options:
        if key not in available:
            suggestion = _suggestion(key, available) or f"; its options: {', '.join(available) or 'none'}"
            raise UsageError(f"option {key}: {runtime} has no such option{suggestion}")
    return {
        key: option.parse(key, options[key]) if key in options else option.default for key, option in available.items()
    }


def describe_options(options: Mapping[str, Option]) -> dict[str, str]:
    """The options with their one-line descriptions, as :attr:`harness.runtimes.Runtime.options` has them."""
    return {key: str(option) for key, option in options.items()}


def _suggestion(word: str, allowed: Mapping[str, Option] | tuple[str, ...]) -> str:
    closest = closest_name(word, tuple(allowed))
    return f"; did you mean {closest}?" if closest else ""


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """The dtype and shape of an input. A dynamic axis is None; the shape is None if the rank is not declared.

    For a sequence, a map or an optional, ``is_tensor`` is False and dtype and shape mean nothing.
    """

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None
    is_tensor: bool = True

    @property
    def fixed_shape(self) -> tuple[int, ...] | None:
        """The shape if no axis is dynamic, else None."""
        sizes = [] if self.shape is None else [size for size in self.shape if size is not None]
        return None if self.shape is None or len(sizes) < len(self.shape) else tuple(sizes)


@dataclass(frozen=True, slots=True)
class Signature:
    """The declared inputs by name and the names of the outputs, both in the model's order."""

    inputs: Mapping[str, DeclaredInput]
    outputs: tuple[str, ...]

    def check(self, inputs: Mapping[str, Value]) -> None:
        """Raise :class:`harness.errors.StageError` if names, dtypes or shapes differ from the declared ones."""
        if inputs.keys() != self.inputs.keys():
            raise StageError(
                f"the inputs are named {', '.join(inputs) or '(none)'}; the model declares {', '.join(self.inputs)}"
            )
        for name, array in inputs.items():
            declared = self.inputs[name]
            if not declared.is_tensor or not isinstance(array, np.ndarray):
                continue
            if array.dtype != declared.dtype:
                raise StageError(f"input {name} is {array.dtype}; the model declares {declared.dtype}")
            if declared.shape is not None and not _shape_matches(array.shape, declared.shape):
                shape = ", ".join("?" if size is None else str(size) for size in declared.shape)
                raise StageError(f"input {name} has shape {list(array.shape)}; the model declares [{shape}]")


def read_signature(path: Path, *, tensors_only: bool) -> Signature:
    """The signature of the ONNX model at ``path``.

    Raises :class:`harness.errors.Unsupported` with ``tensors_only`` if an input or output is not a tensor.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    initializers = {tensor.name for tensor in graph.initializer}
    for value in (*graph.input, *graph.output):
        if tensors_only and not value.type.HasField("tensor_type"):
            raise Unsupported(f"{value.name} is not a tensor; this runtime takes only tensors")
    inputs = {value.name: _declared(value) for value in graph.input if value.name not in initializers}
    return Signature(inputs, tuple(value.name for value in graph.output))


def _declared(value: onnx.ValueInfoProto) -> DeclaredInput:
    if not value.type.HasField("tensor_type"):
        return DeclaredInput(np.dtype(object), None, is_tensor=False)
    tensor_type = value.type.tensor_type
    dtype = dtype_from_onnx(tensor_type.elem_type)
    if not tensor_type.HasField("shape"):
        return DeclaredInput(dtype, None)
    axes = tensor_type.shape.dim
    return DeclaredInput(dtype, tuple(_declared_size(axis) for axis in axes))


def _declared_size(axis: onnx.TensorShapeProto.Dimension) -> int | None:
    """The size of ``axis``; None if it is dynamic. PaddlePaddle writes -1 for that: no size is negative."""
    return axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else None


def _shape_matches(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(
        expected is None or size == expected for size, expected in zip(shape, declared, strict=True)
    )
