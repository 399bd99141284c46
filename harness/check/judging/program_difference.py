"""How two exports of one module differ that were made with different example inputs: which constants, and where.

Two such programs should be equal. What differs was computed from the example inputs and kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import same_bits
from harness.data_files.onnx_files import to_array
from harness.exporters import Artifact
from harness.exporters._tracer_warnings import source_line

Array = NDArray[Any]

MAX_DIFFERENCES = 3
SHOWN_VALUES = 3


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation or constant of a program. ``place`` is where it is; ``value`` is the value of a constant."""

    operator: str
    place: str
    value: Array | str | None = None


def program_differences(first: Artifact, other: Artifact) -> list[str]:
    """One line for each of the first few differences between two programs; empty if they are equal.

    Raises ``ValueError`` for a format that cannot be compared.
    """
    readers = {"onnx": _onnx_steps, "torchscript": _torchscript_steps}
    if first.format not in readers:
        raise ValueError(f"programs of the format {first.format} are not compared")
    read = readers[first.format]
    return list(islice(_differences(list(read(first.path)), list(read(other.path))), MAX_DIFFERENCES))


def _differences(first: Sequence[_Step], other: Sequence[_Step]) -> Iterator[str]:
    for one, two in zip_longest(first, other):
        if one is None or two is None or one.operator != two.operator:
            yield f"another operation: {_described(one)} with the first inputs, {_described(two)} with the others"
            return  # what follows is not aligned
        if not _same_value(one.value, two.value):
            values = f"{_shown(one.value)} with the first inputs, {_shown(two.value)} with the others"
            yield f"the constant at {one.place}: {values}"


def _described(step: _Step | None) -> str:
    return "none" if step is None else f"{step.operator} at {step.place}"


def _same_value(one: Array | str | None, two: Array | str | None) -> bool:
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        return same_bits(one, two)
    return type(one) is type(two) and one == two


def _shown(value: Array | str | None) -> str:
    """A scalar as it is, and the dtype, the shape and the beginning of a tensor."""
    if not isinstance(value, np.ndarray):
        return str(value)
    if value.size == 1:
        item = value.reshape(-1)[0]
        return f"{float(item):.4g}" if value.dtype.kind not in "iub" else str(item)
    beginning = ", ".join(_shown(np.asarray(item)) for item in value.reshape(-1)[:SHOWN_VALUES])
    more = ", ..." if value.size > SHOWN_VALUES else ""
    return f"{value.dtype}{list(value.shape)} of {beginning}{more}"


def _onnx_steps(path: Path) -> Iterator[_Step]:
    """The nodes in the file's order, each followed by its attributes; then the initializers."""
    import onnx

    model = onnx.load(str(path))
    readers = {name: _node_name(node) for node in model.graph.node for name in reversed(node.input)}
    for node in model.graph.node:
        place = readers.get(node.output[0], _node_name(node)) if node.op_type == "Constant" else _node_name(node)
        yield _Step(node.op_type, place)
        for attribute in sorted(node.attribute, key=lambda each: each.name):
            value = onnx.helper.get_attribute_value(attribute)
            is_tensor = isinstance(value, onnx.TensorProto)
            is_plain = isinstance(value, int | float | bytes) or attribute.type in _LISTS
            constant = to_array(value) if is_tensor else str(value) if is_plain else _text(value)
            yield _Step(attribute.name, place, constant)
    for initializer in model.graph.initializer:
        yield _Step(
            "initializer", f"{initializer.name} of {readers.get(initializer.name, 'no node')}", to_array(initializer)
        )


_PYTHON_LINE = re.compile(r"(?P<file>[^\n(]+)\((?P<line>\d+)\): ")
_LISTS = {6, 7, 8}
"""``FLOATS``, ``INTS`` and ``STRINGS`` of ``AttributeProto``."""


def _node_name(node: Any) -> str:
    return node.name or f"the {node.op_type} that gives {node.output[0]}"


def _text(value: Any) -> str:
    """A subgraph or another message, by its content; ``doc_string``s hold lines of source and say nothing here."""
    return str(value)


def _torchscript_steps(path: Path) -> Iterator[_Step]:
    """The nodes of the inlined graph. A constant is at the line of the user's code that made it."""
    from harness.model.tensors import to_numpy
    from harness.model.user_modules import load_torchscript

    module = load_torchscript(path)
    yield from _block_steps(module.inlined_graph)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield _Step("tensor", name, to_numpy(tensor))


def _source_place(source_range: str) -> str | None:
    """The line of Python that made a node. The range begins with ``FILE(LINE): FUNCTION``; a scripted one does not."""
    match = _PYTHON_LINE.match(source_range)
    return None if match is None else source_line(match["file"], int(match["line"]))


def _block_steps(block: Any) -> Iterator[_Step]:
    import torch

    from harness.model.tensors import to_numpy

    for node in block.nodes():
        place = _source_place(node.sourceRange()) or node.kind()
        value: Array | str | None = None
        if node.kind() == "prim::Constant":
            constant = node.output().toIValue()
            value = to_numpy(constant) if isinstance(constant, torch.Tensor) else str(constant)
        yield _Step(node.kind(), place, value)
        for inner in node.blocks():
            yield from _block_steps(inner)
