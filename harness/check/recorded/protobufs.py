"""Sequences, maps and optionals laid out as named arrays, so that they are compared as tensors are.

    s = [a, b]         len(s) = 2,  s[0] = a,  s[1] = b
    m = {k: v}         m.keys = [k],  m.values = [v]
    o, an optional     has(o) = True,  o = ...;  or has(o) = False

So a sequence that is too long, or an optional that should be empty, differs in an array, and something is compared
even where both are empty.

What a recorded model's files hold: the graph's inputs and outputs, and the values recorded for them.

Nothing that a file says is believed before it is looked at: data may stand in the model's own folder only, and a
protobuf that is cut off or of another kind is told in one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper

from harness.errors import StageError, Unsupported
from harness.exporters import Artifact
from harness.exporters._files import sha256
from harness.exporters._onnx import objection, opset_of
from harness.onnx_arrays import to_array
from harness.runtimes import Value

Array = NDArray[Any]


def laid_out(name: str, value: Value, *, optional: bool = False) -> dict[str, Array]:
    """``value`` as arrays by names that begin with ``name``; ``optional`` where it may be nothing."""
    if optional or value is None:
        held = {} if value is None else laid_out(name, value)
        return {f"has({name})": np.array(value is not None), **held}
    if isinstance(value, Mapping):
        keys = sorted(value)
        values = [np.float32(value[key]) if type(value[key]) is float else value[key] for key in keys]
        return {f"{name}.keys": np.array(keys), f"{name}.values": np.array(values)}
    if isinstance(value, np.ndarray | np.generic):
        return {name: np.asarray(value)}
    items = {f"len({name})": np.array(len(value), np.int64)}
    for index, item in enumerate(value):
        items |= laid_out(f"{name}[{index}]", item)
    return items


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that may be loaded: ``inputs`` and ``outputs`` are its graph's, in order, without initializers.

    ``size`` is how many bytes it takes, with the files beside it that hold data of it.
    """

    artifact: Artifact
    inputs: tuple[ValueInfoProto, ...]
    outputs: tuple[ValueInfoProto, ...]
    size: int


@dataclass(frozen=True, slots=True)
class DataSet:
    """One set of recorded values, by the graph's names."""

    name: str
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]


def open_model(path: Path) -> ModelFile:
    """The model at ``path``, once it is known to keep to its folder.

    Raises :class:`StageError` for a file that is no ONNX model, and for one with data outside its folder.
    """
    model, beside = _parsed(path)
    digest = sha256(path, *beside)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(value for value in model.graph.input if value.name not in constants)
    artifact = Artifact("onnx", path, digest, opset=opset_of(model), checker=objection(path))
    size = sum(file.stat().st_size for file in (path, *beside))
    return ModelFile(artifact, inputs, tuple(model.graph.output), size)


def companions(path: Path) -> list[Path]:
    """The files that hold data of the model at ``path``, all in its own folder.

    Raises :class:`StageError` for a file that is no ONNX model, and for one with data outside its folder.
    """
    return _parsed(path)[1]


def read_tensor(file: Path) -> NDArray[Any]:
    """The tensor in ``file``. Raises :class:`StageError` where it is cut off or of another kind."""
    return np.asarray(_value(file, None))


def read_data_set(folder: Path, model: ModelFile) -> DataSet:
    """The values in ``folder``: ``input_N.pb`` is for the graph's input N, ``output_N.pb`` for its output N.

    An output that the graph does not have is called by its file. Raises :class:`StageError` where a file is missing,
    cut off or of another kind.
    """
    given, wanted = _numbered(folder, "input"), _numbered(folder, "output")
    if len(given) != len(model.inputs):
        files, needed = _count(len(given), "input file"), _count(len(model.inputs), "input")
        raise StageError(f"{folder.name} has {files}, the model {needed}; there must be one for each")
    if not wanted:
        raise StageError(f"{folder.name} has no output file; there is nothing to compare with")
    inputs = {value.name: _value(file, value) for file, value in zip(given, model.inputs, strict=True)}
    outputs = {value.name: _value(file, value) for file, value in zip(wanted, model.outputs, strict=False)}
    more = {file.stem: _value(file, None) for file in wanted[len(model.outputs) :]}
    return DataSet(folder.name, inputs, {**outputs, **more})


def _parsed(path: Path) -> tuple[ModelProto, list[Path]]:
    """The model, and the files in its folder that hold data of it."""
    model = ModelProto()
    _parse(path, model)
    if not model.HasField("graph"):
        raise StageError(f"{path.name} is no ONNX model: it has no graph; a whole one would be right")
    outside = (tensor for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL)
    return model, sorted({_inside(path.parent, tensor) for tensor in outside})


def _numbered(folder: Path, kind: str) -> list[Path]:
    """``kind_0.pb``, ``kind_1.pb``, ... in order. Raises :class:`StageError` where one is missing between others."""
    found = len(list(folder.glob(f"{kind}_*.pb")))
    files = [folder / f"{kind}_{number}.pb" for number in range(found)]
    for file in files:
        if not file.is_file():
            said = f"{folder.name} has {_count(found, f'{kind} file')}, but no {file.name}"
            raise StageError(f"{said}; they are counted from {kind}_0.pb")
    return files


def _value(file: Path, declared: ValueInfoProto | None) -> Value:
    """The value in ``file``, decoded as what the graph declares; a tensor where it declares nothing."""
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
        raise StageError(f"{_short(file)} keeps its data in another file; recorded values must hold their own")
    noun = proto.__name__.removesuffix("Proto").lower()
    if any(UnknownFieldSet(part) for part in _parts(message)):
        # A tensor reads as an empty sequence, with all that it holds in fields that a sequence does not have.
        raise StageError(f"{_short(file)} is no {noun}, or one of a later ONNX: it has fields that a {noun} has not")
    if negative := next((list(tensor.dims) for tensor in _tensors(message) if min(tensor.dims, default=0) < 0), None):
        raise StageError(f"{_short(file)} holds no whole {noun}: its shape is {negative}; sizes are never negative")
    try:
        value: Value = decode(message)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError, UnicodeDecodeError) as error:
        said = str(error).split("\n", 1)[0] or type(error).__name__
        raise StageError(f"{_short(file)} holds no whole {noun}: {said}") from error
    return value


def _parse(path: Path, message: Message) -> None:
    try:
        message.ParseFromString(path.read_bytes())
    except DecodeError as error:
        kind = type(message).__name__.removesuffix("Proto").lower()
        raise StageError(f"{_short(path)} is no {kind} in ONNX's protobuf form, or is cut off") from error
    except OSError as error:
        raise StageError(f"{_short(path)} cannot be read: {error.strerror}") from error


def _inside(folder: Path, tensor: TensorProto) -> Path:
    """The file that holds the data of ``tensor``. Raises :class:`StageError` where it is not a file in ``folder``."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    said = f"{tensor.name or 'a tensor'} keeps its data in {location[:200]!r}"
    right = "external data must be a file in the model's folder"
    path = folder / location
    if not location or "\0" in location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise StageError(f"{said}, outside the folder; {right}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StageError(f"{said}, a link out of the folder; {right}")
    if not path.is_file():
        raise StageError(f"{said}, which is not there; {right}")
    return path


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor in ``message``, at whatever depth."""
    return (part for part in _parts(message) if isinstance(part, TensorProto))


def _parts(message: Message) -> Iterator[Message]:
    """``message`` and every message in it but a tensor's own, by walking all fields: those of a later ONNX too."""
    waiting: list[Message] = [message]
    while waiting:
        one = waiting.pop()
        yield one
        # To list a tensor's fields is to copy its data.
        for field, value in [] if isinstance(one, TensorProto) else one.ListFields():
            if field.message_type is not None:
                waiting.extend(value if isinstance(value, Iterable) else [value])


def _short(file: Path) -> str:
    """The file with the folder of its data set, if it is in one."""
    return "/".join(file.parts[-2:]) if file.suffix == ".pb" else file.name


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
