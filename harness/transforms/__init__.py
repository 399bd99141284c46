"""Transforms: what is done to an exported ONNX file before it is shipped. One transform per module of this package.

A target names them after its exporter: ``onnx-dynamo@23+fp16/ort-cpu``. Each one reads a file and writes another;
several are applied in the order in which they are written. A transform over a library that is not installed cannot be
applied, and the check is an error of the export stage with the symptom ``unavailable``.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from harness.data_files.onnx_files import all_nodes, sort_nodes
from harness.errors import StageError, Unavailable, Unsupported, UsageError

if TYPE_CHECKING:
    from onnx import ModelProto

    from harness.exporters import Format

Precision = Literal["float16", "bfloat16", "int8", "int4"]
SWITCH: Mapping[str, bool] = MappingProxyType({"on": True, "off": False})
MAX_NODES = 8
"""The number of a file's nodes that a message lists."""
KEEP_IO = "keep_io"
"""The option under which a transform to float16 leaves inputs and outputs in float32, or not."""


@dataclass(frozen=True, slots=True)
class TransformRequest:
    """What a transform is asked for, besides the file.

    ``word`` is the transform as written in the target, ``options`` are its own. ``samples`` are the inputs of the case,
    by the names of the graph.
    """

    word: str
    options: Mapping[str, str]
    samples: Sequence[Mapping[str, NDArray[Any]]]


class LowersNothing(Unsupported):
    """A transform to lower precision finds no value that it could lower: the file would stay as it is."""


class Transform(ABC):
    """Writes a changed copy of an ONNX file. Its module imports libraries only inside functions.

    ``name`` is the word in a target; a name that ends in ``N`` stands for any number there (``opsetN``: ``opset18``).
    ``precision`` is what the file computes in afterwards, None if the transform is to change no result. ``min_max`` is
    true of a quantizer whose steps follow from the ranges of the values, and which rounds weights to the nearest: what
    it has to write is known exactly. ``makes`` is the format of the written file; one that is not ONNX must be the last
    of a target. ``options`` are those that a target may set, each with one line on its meaning and its values.
    """

    name: str
    precision: Precision | None = None
    min_max: bool = False
    makes: Format = "onnx"
    options: Mapping[str, str] = MappingProxyType({})

    def check(self, options: Mapping[str, str]) -> None:  # noqa: B027 - most have nothing to check
        """Raise :class:`harness.errors.UsageError` for a value that the transform does not accept."""

    @abstractmethod
    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """Write the transformed ``source`` to ``destination``.

        Raises :class:`harness.errors.Unavailable` if its library is missing; exceptions of the library pass through.
        """


def require_precision(word: str, source: Path, destination: Path, operators: Sequence[str], needs: str) -> None:
    """Raise :class:`LowersNothing` if the written file has no more nodes of ``operators`` than ``source``."""
    import onnx

    before, after = (
        [node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node]
        for path in (source, destination)
    )
    if sum(each in operators for each in after) <= sum(each in operators for each in before):
        named = ", ".join(sorted({*after})) or "none"
        raise LowersNothing(f"+{word} lowers nothing: it needs {needs}, and the operators of the file are {named}")


def require_float32(word: str, model: ModelProto, other: Precision | None = None) -> None:
    """Raise :class:`Unsupported` if ``model`` stores values of 16 bits, unless they are in the ``other`` precision.

    The converters and the quantizers write files that no runtime loads, if the file was lowered before.
    """
    names = {10: "float16", 16: "bfloat16"}  # onnx.TensorProto
    found = {names[each.data_type] for each in stored_tensors(model.graph) if each.data_type in names} - {other}
    if found:
        before = f"write +{word} before what lowers it" if word.startswith("int") else f"+{word} takes float32 files"
        raise Unsupported(f"the file has {min(found)} values already; {before}")


def stored_tensors(graph: Any) -> Iterator[Any]:
    """The tensors that are stored in the graph: initializers and attributes of its nodes."""
    yield from graph.initializer
    for node in all_nodes(graph.node):
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def sorted_or_refused(model: ModelProto) -> None:
    """Put the nodes of the written ``model`` in the order that ONNX requires.

    ONNX Runtime's converter to float16 adds its casts at the end. Raises :class:`StageError` if there is no order.
    """
    try:
        sort_nodes(model)
    except ValueError as error:
        raise StageError("the nodes of the written file read each other's outputs in a circle") from error


def names_in(text: str | None) -> tuple[str, ...]:
    """The names in the value of an option, separated by ``,`` or ``;``; none for None.

    A list of targets on the command line is cut at commas.
    """
    return () if text is None else tuple(name.strip() for name in re.split("[,;]", text))


def require_names(options: Mapping[str, str], keys: Iterable[str]) -> None:
    """Raise :class:`harness.errors.UsageError` for an option among ``keys`` with an empty name in its list."""
    for key in keys:
        if key in options and not all(names_in(options[key])):
            raise UsageError(f"{key}={options[key]} has an empty name; write names separated by ; or ,")


def require_nodes(model: Any, names: Iterable[str]) -> None:
    """Raise :class:`StageError` for a name that no node of ``model`` has, with the most similar ones."""
    from harness.spec.quoting import suggestion

    present = list(dict.fromkeys(node.name for node in model.graph.node if node.name))
    for name in names:
        if name not in present:
            shown = f"its nodes are {', '.join(present[:MAX_NODES])}{', ...' if len(present) > MAX_NODES else ''}"
            raise StageError(f"the file has no node {name}; {suggestion(name, present, shown)}")


def require_library(transform: str, module: str, requirement: str) -> None:
    """Raise :class:`Unavailable` if the library that does the work is not installed."""
    if find_spec(module) is None:
        raise Unavailable(f"+{transform}: {requirement} is not installed; install with: pip install {requirement}")


def require_onnxruntime_tools(transform: str) -> None:
    """Make ``onnxruntime.quantization`` and ``onnxruntime.transformers`` importable.

    Their modules import each other by names of the folder of the latter, which its ``__init__`` appends to ``sys.path``
    once in a process; harness restores ``sys.path`` after each check.
    """
    require_library(transform, "onnxruntime", "onnxruntime")
    from onnxruntime import transformers

    folder = str(Path(transformers.__file__).parent)
    if folder not in sys.path:
        sys.path.append(folder)
