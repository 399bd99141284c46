"""Reads the files of a recorded model: its ONNX graph, and the values recorded for the graph's inputs and outputs.

Files are not trusted. External data must be in the model's own folder, and a protobuf that is truncated or of another
kind is reported in one line.

Sequences, maps and optionals become named arrays, so that they are compared like tensors::

    s = [a, b]         len(s) = 2,  s[0] = a,  s[1] = b
    m = {k: v}         m.keys = [k],  m.values = [v]
    o, an optional     has(o) = True,  o = ...;  or has(o) = False

So a sequence that is too long, or an optional that should be empty, differs in an array, and something is compared
even if both sides are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper

from harness.check.files.signatures import Declared, FileSignature, read_file_signature
from harness.data_files import LFS_POINTER, is_lfs_pointer
from harness.data_files.onnx_files import from_array, to_array
from harness.errors import StageError, Unsupported
from harness.exporters import Artifact
from harness.exporters._files import sha256
from harness.exporters._onnx import checker_error, opset_of
from harness.runtimes import Value
from harness.spec.language.case import FileModel, StoredModel
from harness.spec.quoting import count_of

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that may be loaded. ``inputs`` and ``outputs`` are its graph's, in order, without initializers.

    ``size`` is its size in bytes, together with the external data files beside it.
    """

    artifact: Artifact
    inputs: tuple[ValueInfoProto, ...]
    outputs: tuple[ValueInfoProto, ...]
    size: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """One set of recorded values, by the names of the graph's inputs and outputs."""

    name: str
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]


def open_model(path: Path) -> ModelFile:
    """The model at ``path``.

    Raises :class:`StageError` if the file is not an ONNX model, or has data outside its folder.
    """
    model, data_files = _parse_model(path)
    digest = sha256(path, *data_files)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(value for value in model.graph.input if value.name not in initializers)
    artifact = Artifact("onnx", path, digest, opset=opset_of(model), checker=checker_error(path))
    size = sum(file.stat().st_size for file in (path, *data_files))
    return ModelFile(artifact, inputs, tuple(model.graph.output), size)


def file_artifact(file: StoredModel, on_size: Callable[[int], None]) -> Artifact:
    """The model file as an artifact. ``on_size`` is called with its size in bytes, its external data included.

    Raises :class:`StageError` if it is no ONNX model, or has data elsewhere.
    """
    path = Path(file.path)
    on_size(path.stat().st_size)
    if file.format == "onnx":
        model = open_model(path)
        on_size(model.size)
        return model.artifact
    if file.format == "torchscript":
        from harness.exporters.torchscript import archive_digest

        return Artifact("torchscript", path, archive_digest(path))
    return Artifact(file.format, path, sha256(path))


def open_recorded(model: FileModel) -> ModelFile:
    """The file of a recorded model, in either format. Raises :class:`StageError` as :func:`open_model` does."""
    path = Path(model.path)
    return open_ort_model(path) if model.format == "ort" else open_model(path)


def open_ort_model(path: Path) -> ModelFile:
    """The model at ``path`` in ONNX Runtime's own format, which it has to load."""
    signature = read_file_signature(StoredModel(str(path), "ort"))
    inputs, outputs = (tuple(map(_value_info, values)) for values in (signature.inputs, signature.outputs or ()))
    return ModelFile(Artifact("ort", path, sha256(path)), inputs, outputs, path.stat().st_size)


def signature_of(model: ModelFile) -> FileSignature:
    """The inputs and outputs of ``model``, as files under test declare theirs."""
    stored = StoredModel(str(model.artifact.path), "ort" if model.artifact.format == "ort" else "onnx")
    return read_file_signature(stored)


def external_data_files(path: Path) -> list[Path]:
    """The files that hold external data of the model at ``path``, all in its own folder.

    Raises :class:`StageError` if the file is not an ONNX model, or has data outside its folder.
    """
    return _parse_model(path)[1]


def read_tensor(file: Path) -> NDArray[Any]:
    """The tensor in ``file``. Raises :class:`StageError` if it is truncated or of another kind."""
    return np.asarray(_read_value(file, None))


def read_data_set(folder: Path, model: ModelFile) -> DataSet:
    """The values in ``folder``: ``input_N.pb`` holds the graph's input N, ``output_N.pb`` its output N.

    An output that the graph does not have is named after its file. Raises :class:`StageError` if a file is missing,
    truncated or of another kind.
    """
    input_files, output_files = _numbered_files(folder, "input"), _numbered_files(folder, "output")
    if len(input_files) != len(model.inputs):
        files, needed = count_of(len(input_files), "input file"), count_of(len(model.inputs), "input")
        raise StageError(f"{folder.name} has {files}, the model {needed}; there must be one for each")
    if not output_files:
        raise StageError(f"{folder.name} has no output file; there is nothing to compare with")
    inputs = {value.name: _read_value(file, value) for file, value in zip(input_files, model.inputs, strict=True)}
    outputs = {value.name: _read_value(file, value) for file, value in zip(output_files, model.outputs, strict=False)}
    extra = {file.stem: _read_value(file, None) for file in output_files[len(model.outputs) :]}
    return DataSet(folder.name, inputs, {**outputs, **extra})


def named_arrays(name: str, value: Value, *, optional: bool = False) -> dict[str, Array]:
    """``value`` as arrays whose names begin with ``name``. ``optional`` is True if the value may be absent."""
    if optional or value is None:
        content = {} if value is None else named_arrays(name, value)
        return {f"has({name})": np.array(value is not None), **content}
    if isinstance(value, Mapping):
        keys = sorted(value)
        values = [np.float32(value[key]) if type(value[key]) is float else value[key] for key in keys]
        return {f"{name}.keys": np.array(keys), f"{name}.values": np.array(values)}
    if isinstance(value, np.ndarray | np.generic):
        return {name: np.asarray(value)}
    items = {f"len({name})": np.array(len(value), np.int64)}
    for index, item in enumerate(value):
        items |= named_arrays(f"{name}[{index}]", item)
    return items


def _value_info(value: Declared) -> ValueInfoProto:
    dtype = TensorProto.UNDEFINED if value.dtype is None else from_array(np.empty(0, value.dtype)).data_type
    info: ValueInfoProto = onnx.helper.make_tensor_value_info(value.name, dtype, value.shape)
    return info


def _parse_model(path: Path) -> tuple[ModelProto, list[Path]]:
    """The model, and the files in its folder that hold its external data."""
    model = ModelProto()
    _parse(path, model)
    if not model.HasField("graph"):
        raise StageError(f"{path.name} is not an ONNX model: it has no graph; give a complete one")
    external = (tensor for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL)
    return model, sorted({_external_data_file(path.parent, tensor) for tensor in external})


def _numbered_files(folder: Path, kind: str) -> list[Path]:
    """``kind_0.pb``, ``kind_1.pb``, ... in order. Raises :class:`StageError` if a number is missing."""
    count = len(list(folder.glob(f"{kind}_*.pb")))
    files = [folder / f"{kind}_{number}.pb" for number in range(count)]
    for file in files:
        if not file.is_file():
            problem = f"{folder.name} has {count_of(count, f'{kind} file')}, but no {file.name}"
            raise StageError(f"{problem}; number them from {kind}_0.pb")
    return files


def _read_value(file: Path, declared: ValueInfoProto | None) -> Value:
    """The value in ``file``, decoded as the type that the graph declares, or as a tensor without a declaration."""
    kind = "tensor_type" if declared is None else declared.type.WhichOneof("value")
    decoders: dict[str | None, tuple[type[Message], Any]] = {
        "tensor_type": (TensorProto, to_array),
        "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
        "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
        "map_type": (onnx.MapProto, numpy_helper.to_dict),
    }
    if kind not in decoders:
        name = file.stem if declared is None else declared.name
        raise Unsupported(f"{name} is a {str(kind).removesuffix('_type')}; harness compares tensors")
    proto, decode = decoders[kind]
    message = proto()
    _parse(file, message)
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in _tensors(message)):
        raise StageError(f"{_short_name(file)} keeps its data in another file; recorded values must hold their own")
    noun = proto.__name__.removesuffix("Proto").lower()
    if any(UnknownFieldSet(part) for part in _messages(message)):
        # A tensor parses as an empty sequence: its content lands in fields that a sequence does not have.
        raise StageError(
            f"{_short_name(file)} is not a {noun}, or one of a later ONNX: it has fields that a {noun} does not have"
        )
    negative = next((list(tensor.dims) for tensor in _tensors(message) if min(tensor.dims, default=0) < 0), None)
    if negative:
        raise StageError(
            f"{_short_name(file)} holds no valid {noun}: its shape is {negative}; sizes are never negative"
        )
    try:
        value: Value = decode(message)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0] or type(error).__name__
        raise StageError(f"{_short_name(file)} holds no valid {noun}: {reason}") from error
    return value


def _parse(path: Path, message: Message) -> None:
    if is_lfs_pointer(path):
        raise StageError(f"{_short_name(path)} is {LFS_POINTER}")
    try:
        message.ParseFromString(path.read_bytes())
    except DecodeError as error:
        kind = type(message).__name__.removesuffix("Proto").lower()
        raise StageError(f"{_short_name(path)} is not a {kind} in ONNX's protobuf format, or is truncated") from error
    except OSError as error:
        raise StageError(f"{_short_name(path)} cannot be read: {error.strerror}") from error


def _external_data_file(folder: Path, tensor: TensorProto) -> Path:
    """The file that holds the data of ``tensor``.

    Raises :class:`StageError` if it is not a file in ``folder``, or ends before the data.
    """
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    problem = f"{tensor.name or 'a tensor'} keeps its data in {location[:200]!r}"
    advice = "external data must be a file in the model's folder"
    path = folder / location
    if not location or "\0" in location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise StageError(f"{problem}, outside the folder; {advice}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StageError(f"{problem}, a link out of the folder; {advice}")
    if not path.is_file():
        raise StageError(f"{problem}, which is missing; {advice}")
    numbers = {entry.key: int(entry.value) for entry in tensor.external_data if entry.value.isdigit()}
    needed, size = numbers.get("offset", 0) + numbers.get("length", 0), path.stat().st_size
    if size < needed:
        raise StageError(f"{problem}, which is cut off: {size:,} of {needed:,} bytes; copy it again")
    return path


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor in ``message``, at any depth."""
    return (part for part in _messages(message) if isinstance(part, TensorProto))


def _messages(message: Message) -> Iterator[Message]:
    """``message`` and every message inside it, except inside tensors. Walks all fields, also those of a later ONNX."""
    waiting: list[Message] = [message]
    while waiting:
        current = waiting.pop()
        yield current
        # Listing a tensor's fields would copy its data.
        for field, value in [] if isinstance(current, TensorProto) else current.ListFields():
            if field.message_type is not None:
                waiting.extend(value if isinstance(value, Iterable) else [value])


def _short_name(file: Path) -> str:
    """The file's name; for a recorded value with the folder of its data set."""
    return "/".join(file.parts[-2:]) if file.suffix == ".pb" else file.name
