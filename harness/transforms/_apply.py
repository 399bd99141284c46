"""Apply the transforms of a target to an exported file, one after another."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from harness.errors import StageError, Unsupported, describe_error
from harness.exporters import Artifact, Format
from harness.exporters._files import sha256, sibling_files, staged_write
from harness.exporters._onnx import checker_error, opset_of
from harness.spec.targets import Target, transform_named
from harness.transforms import Precision, TransformRequest, names_in

_LOWEST_LAST: tuple[Precision, ...] = ("float16", "bfloat16", "int8", "int4")
KEEPING = ("exclude", "keep_nodes")
"""The options that name nodes which a transform leaves as they are."""


def transformed(
    source: Artifact, path: Path, target: Target, samples: Sequence[Mapping[str, NDArray[Any]]]
) -> Artifact:
    """The artifact at ``path``: ``source`` after the transforms of ``target``. ``samples`` are inputs of the case.

    Raises the error of the transform that fails, with its name, and :class:`StageError` if inputs or outputs were
    renamed, reordered or dropped.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="harness-transform-") as folder, staged_write(path) as staging_path:
        current = source.path
        for number, word in enumerate(target.transforms):
            last = number == len(target.transforms) - 1
            following = staging_path if last else Path(folder, f"{number}.onnx")
            _apply(word, current, following, target, samples)
            current = following
        digest = sha256(staging_path, *sibling_files(staging_path))
        before, opset, checker = onnx.load(str(source.path), load_external_data=False), source.opset, None
        if target.makes == "onnx":
            model = onnx.load(str(staging_path), load_external_data=False)
            _require_same_signature(target, before, _names(model))
            opset, checker = opset_of(model), checker_error(staging_path)
        else:
            _require_same_signature(target, before, _names_in_ort_format(staging_path))
    made = cast("Format", target.makes)
    return replace(source, format=made, path=path, digest=digest, opset=opset, checker=checker)


def filename_of(target: Target) -> str:
    """The name of the transformed file: ONNX Runtime knows its own format by the suffix."""
    return f"model.{target.makes}"


def precision_of(target: Target) -> Precision | None:
    """What the transformed file computes in: the lowest precision that a transform sets; None if none does."""
    precisions = [transform_named(word).precision for word in target.transforms]
    return max((each for each in precisions if each is not None), key=_LOWEST_LAST.index, default=None)


def _apply(
    word: str, source: Path, destination: Path, target: Target, samples: Sequence[Mapping[str, NDArray[Any]]]
) -> None:
    transform = transform_named(word)
    options = {name: value for name, value in target.export_options.items() if name in transform.options}
    try:
        transform.apply(source, destination, TransformRequest(word, options, samples))
    except StageError as error:
        message = str(error)
        named = message if message.startswith(f"+{word}") else f"+{word}: {message}"
        raise type(error)(named, from_library=error.from_library) from error
    except NotImplementedError as error:
        raise Unsupported(f"+{word}: {describe_error(error)}", from_library=True) from error
    except MemoryError:
        raise
    except Exception as error:
        raise StageError(f"+{word}: {describe_error(error)}", from_library=True) from error
    if not destination.exists():
        raise StageError(f"+{word} wrote no file")
    kept = [name for key in KEEPING for name in names_in(options.get(key))]
    if kept and transform.makes == "onnx":
        _require_kept(word, source, destination, kept)


def _require_kept(word: str, source: Path, destination: Path, names: Sequence[str]) -> None:
    """Raise :class:`StageError` for a node that was to stay in float32, and whose weights were lowered.

    A weight that another node reads as well may be lowered for that one.
    """
    import onnx

    before, after = (onnx.load(str(path), load_external_data=False).graph for path in (source, destination))
    dtypes, written = ({each.name: each.data_type for each in graph.initializer} for graph in (before, after))
    # The longest name counts: the quantized weight `w_2` is not that of `w`.
    quantized = {
        max((weight for weight in dtypes if name.startswith(f"{weight}_")), key=len, default=None)
        for name in written
        if name.endswith("_quantized")
    }
    elsewhere = {name for node in before.node if node.name not in names for name in node.input}
    for node in before.node:
        if node.name not in names:
            continue
        for weight in {*node.input} & dtypes.keys() - elsewhere:
            if written.get(weight, dtypes[weight]) != dtypes[weight] or weight in quantized:
                raise StageError(f"+{word} lowered the node {node.name}, which was to stay in float32")


def _names(model: Any) -> dict[str, list[str]]:
    """The names of inputs and outputs. An initializer may also be an input; a transform may drop it there."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in stored]
    return {"input": inputs, "output": [value.name for value in model.graph.output]}


def _names_in_ort_format(path: Path) -> dict[str, list[str]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = {"input": session.get_inputs(), "output": session.get_outputs()}
    return {kind: [value.name for value in values] for kind, values in names.items()}


def _require_same_signature(target: Target, source: Any, after: Mapping[str, list[str]]) -> None:
    for kind, expected in _names(source).items():
        actual = after[kind]
        if actual != expected:
            suffix = "".join(f"+{word}" for word in target.transforms)
            raise StageError(
                f"{suffix} wrote the {kind}s {', '.join(actual) or 'none'}; expected {', '.join(expected)}"
            )
