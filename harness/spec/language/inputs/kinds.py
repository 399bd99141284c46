"""Which of several ways a part of a spec is written in: a tensor or nested inputs, a layer or an operation."""

from __future__ import annotations

from typing import Any

from harness.spec.language.inputs.fills import FILLS


def is_one_shape(value: Any) -> bool:
    """True for a shape, False for a list of shapes."""
    return isinstance(value, list) and not any(isinstance(each, list) for each in value)


def input_kind(value: Any) -> str:
    """How an input is written: as a tensor, as a list or a mapping of inputs, or as null."""
    if value is None:
        return "[null]"
    if isinstance(value, list):
        return "[list]"
    return "[mapping]" if isinstance(value, dict) and _holds_inputs(value) else "[tensor]"


def _holds_inputs(value: dict[Any, Any]) -> bool:
    """True for a mapping of inputs by name. The keys of a tensor hold no mappings, except the parameters of a fill."""
    return bool(value) and all(_may_be_input(item) and not _is_fill(key, item) for key, item in value.items())


def _may_be_input(value: Any) -> bool:
    return value is None or isinstance(value, dict) or (isinstance(value, list) and any(map(_may_be_input, value)))


def _is_fill(key: Any, value: Any) -> bool:
    return key == "fill" and isinstance(value, dict) and not value.keys().isdisjoint(FILLS)


def wired_kind(value: Any) -> str:
    """What a step of a graph is: a layer or an operation."""
    is_operation = hasattr(value, "op") or (isinstance(value, dict) and "op" in value)
    return "[operation]" if is_operation else "[layer]"


def weights_kind(value: Any) -> str:
    """How weights are written: as a file, or as tensors by name."""
    if isinstance(value, dict):
        return "[file]" if isinstance(value.get("file"), str) else "[tensors]"
    is_file = isinstance(value, str) or hasattr(value, "file")
    return "[file]" if is_file else "[tensors]"
