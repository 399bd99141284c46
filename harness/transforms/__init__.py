"""Transforms: what is done to an exported ONNX file before it is shipped. One transform per module of this package.

A target names them after its exporter: ``onnx-dynamo@23+fp16/ort-cpu``. Each one reads a file and writes another;
several are applied in the order in which they are written. A transform over a library that is not installed cannot be
applied, and the check is an error of the export stage with the symptom ``unavailable``.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from numpy.typing import NDArray

from harness.errors import Unavailable, Unsupported

Precision = Literal["float16", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class TransformRequest:
    """What a transform is asked for, besides the file.

    ``word`` is the transform as written in the target, ``options`` are its own. ``samples`` are the inputs of the case,
    by the names of the graph.
    """

    word: str
    options: Mapping[str, str]
    samples: Sequence[Mapping[str, NDArray[Any]]]


class Transform(ABC):
    """Writes a changed copy of an ONNX file. Its module imports libraries only inside functions.

    ``name`` is the word in a target; a name that ends in ``N`` stands for any number there (``opsetN``: ``opset18``).
    ``precision`` is what the file computes in afterwards, None if the transform is to change no result. ``options`` are
    those that a target may set, each with one line on its meaning and its values.
    """

    name: str
    precision: Precision | None = None
    options: Mapping[str, str] = MappingProxyType({})

    def check(self, options: Mapping[str, str]) -> None:  # noqa: B027 - most have nothing to check
        """Raise :class:`harness.errors.UsageError` for a value that the transform does not accept."""

    @abstractmethod
    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """Write the transformed ``source`` to ``destination``.

        Raises :class:`harness.errors.Unavailable` if its library is missing; exceptions of the library pass through.
        """


def require_precision(word: str, destination: Path, operators: Sequence[str], needs: str) -> None:
    """Raise :class:`Unsupported` if no node of the written file is one of ``operators``: nothing was lowered."""
    import onnx

    model = onnx.load(str(destination), load_external_data=False)
    present = {node.op_type for node in model.graph.node}
    if not any(name in present for name in operators):
        named = ", ".join(sorted(present)) or "none"
        raise Unsupported(f"+{word} lowers nothing: it needs {needs}, and the operators of the file are {named}")


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
