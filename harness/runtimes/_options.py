"""What a target may set after the question mark: each key with its values, read strictly.

What an ONNX file says of its inputs and outputs, for runtimes that do not hold callers to it themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import StageError, Unsupported, UsageError
from harness.onnx_arrays import dtype_of
from harness.runtimes import Value

if TYPE_CHECKING:
    import onnx


_DIGITS = 9  # of a number: what any runtime takes for one


@dataclass(frozen=True, slots=True)
class Choice:
    """One key: what it does, the values that it takes, and the one that holds where it is not set.

    With ``several``, values may be joined by commas. Where ``values`` is empty, a positive whole number is taken.
    """

    about: str
    default: str
    values: tuple[str, ...] = ()
    several: bool = False

    def __str__(self) -> str:
        taken = "|".join(self.values) or "a positive whole number"
        return f"{self.about}: {taken} (default {self.default or 'none'})"

    def read(self, key: str, text: str) -> str:
        """``text`` itself; raises :class:`UsageError` where the key does not take it."""
        if not self.values:
            digits = text.lstrip("0")
            if text.isascii() and text.isdecimal() and 0 < len(digits) <= _DIGITS:
                return digits
            raise UsageError(f"option {key}={text}: not a number of {key}; a positive whole number below 10^{_DIGITS}")
        for part in text.split(",") if self.several else (text,):
            if part not in self.values:
                raise UsageError(
                    f"option {key}={text}: no such value; one of {', '.join(self.values)}{_hint(part, self)}"
                )
        return text


def settle(runtime: str, choices: Mapping[str, Choice], options: Mapping[str, str]) -> dict[str, str]:
    """The value of every key, with the defaults for those that ``options`` leaves out.

    Raises :class:`UsageError` for a key that ``runtime`` does not have and for a value that the key does not take.
    """
    for key in options:
        if key not in choices:
            near = get_close_matches(key, choices, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; it takes {', '.join(choices) or 'none'}"
            raise UsageError(f"option {key}: {runtime} has no such option{meant}")
    return {
        key: choice.read(key, options[key]) if key in options else choice.default for key, choice in choices.items()
    }


def _hint(part: str, choice: Choice) -> str:
    near = get_close_matches(part, choice.values, 1)
    return f"; did you mean {near[0]}?" if near else ""


THREADS = Choice("threads that one operator may use", "1")


@dataclass(frozen=True, slots=True)
class Declared:
    """One input: its dtype, and its shape with None for an open axis; the shape is None where even the rank is open.

    Of a sequence, a map or an optional neither says anything.
    """

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None
    is_tensor: bool = True


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs by name and the outputs' names, both in the model's order."""

    inputs: Mapping[str, Declared]
    outputs: tuple[str, ...]

    def admit(self, given: Mapping[str, Value]) -> None:
        """Raises :class:`harness.errors.StageError` where names, dtypes or shapes are not as declared."""
        if given.keys() != self.inputs.keys():
            raise StageError(f"the inputs are {', '.join(given)}; the model's are {', '.join(self.inputs)}")
        for name, array in given.items():
            declared = self.inputs[name]
            if not declared.is_tensor or not isinstance(array, np.ndarray):
                continue
            if array.dtype != declared.dtype:
                raise StageError(f"input {name} is {array.dtype}; the model declares {declared.dtype}")
            if declared.shape is not None and not _fits(array.shape, declared.shape):
                wanted = ", ".join("?" if size is None else str(size) for size in declared.shape)
                raise StageError(f"input {name} has shape {list(array.shape)}; the model declares [{wanted}]")


def read(path: Path) -> Signature:
    """The signature of the model at ``path``.

    Raises :class:`harness.errors.Unsupported` for an input or output that is not a tensor.
    """
    return _of_graph(path, structures=False)


def read_any(path: Path) -> Signature:
    """The signature of the model at ``path``, whatever its inputs and outputs are."""
    return _of_graph(path, structures=True)


def _of_graph(path: Path, *, structures: bool) -> Signature:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    for value in (*graph.input, *graph.output):
        if not structures and not value.type.HasField("tensor_type"):
            raise Unsupported(f"{value.name} is no tensor; this runtime takes tensors")
    inputs = {value.name: _declared(value) for value in graph.input if value.name not in constants}
    return Signature(inputs, tuple(value.name for value in graph.output))


def _declared(value: onnx.ValueInfoProto) -> Declared:
    if not value.type.HasField("tensor_type"):
        return Declared(np.dtype(object), None, is_tensor=False)
    kind = value.type.tensor_type
    dtype = dtype_of(kind.elem_type)
    if not kind.HasField("shape"):
        return Declared(dtype, None)
    return Declared(dtype, tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim))


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...]) -> bool:
    return len(shape) == len(declared) and all(
        wanted is None or size == wanted for size, wanted in zip(shape, declared, strict=True)
    )
