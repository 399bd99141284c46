"""What ONNX files hold: tensors as NumPy arrays and back, and the nodes of a graph, walked and put in order.

Arrays have the dtypes of ``ml_dtypes`` with every version of onnx: onnx before 1.19 defines its own for bfloat16 and
narrower numbers, and does not know those of ``ml_dtypes``. Importing this module does not import onnx.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from functools import cache
from heapq import heappop, heappush
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.data_files import LFS_POINTER, StoredArray, is_lfs_pointer
from harness.deprecated import accept_old_names
from harness.errors import UsageError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

Array = NDArray[Any]

ML_DTYPES: dict[str, np.dtype[Any]] = {
    "BFLOAT16": np.dtype(ml_dtypes.bfloat16),
    "FLOAT8E4M3FN": np.dtype(ml_dtypes.float8_e4m3fn),
    "FLOAT8E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "FLOAT8E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "FLOAT8E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "INT4": np.dtype(ml_dtypes.int4),
    "UINT4": np.dtype(ml_dtypes.uint4),
    "FLOAT4E2M1": np.dtype(ml_dtypes.float4_e2m1fn),
}
"""The data types of ONNX 1.18 that NumPy itself lacks."""

OLD_ONNX_FIELDS = {
    "bfloat16": "BFLOAT16",
    "e4m3fn": "FLOAT8E4M3FN",
    "e4m3fnuz": "FLOAT8E4M3FNUZ",
    "e5m2": "FLOAT8E5M2",
    "e5m2fnuz": "FLOAT8E5M2FNUZ",
    "int4": "INT4",
    "uint4": "UINT4",
    "float4e2m1": "FLOAT4E2M1",
}
"""The same data types by the field name that marks the dtypes of onnx before 1.19."""

FOUR_BIT_TYPES = frozenset({"INT4", "UINT4", "FLOAT4E2M1"})
"""The data types that are stored two to a byte."""


def to_array(tensor: TensorProto) -> Array:
    """The values of ``tensor``."""
    from onnx import numpy_helper

    return with_ml_dtypes(numpy_helper.to_array(tensor))


def with_ml_dtypes(values: Array) -> Array:
    """``values`` in the dtype of ``ml_dtypes`` if they have one of onnx's own dtypes, else unchanged."""
    name = OLD_ONNX_FIELDS.get(values.dtype.descr[0][0]) if values.dtype.fields else None
    if name is None:
        return values
    codes = values.view(np.uint16 if name == "BFLOAT16" else np.uint8)
    return codes.astype(np.int8).astype(ML_DTYPES[name]) if name in {"INT4", "UINT4"} else codes.view(ML_DTYPES[name])


def from_array(values: Array, name: str | None = None) -> TensorProto:
    """A tensor that holds ``values``."""
    from onnx import TensorProto, numpy_helper

    kind = next((kind for kind, dtype in ML_DTYPES.items() if dtype == values.dtype), None)
    if kind is None or _knows_ml_dtypes():
        tensor: TensorProto = numpy_helper.from_array(values, name)
        return tensor
    codes: Array = np.ravel(values).view(np.uint16 if kind == "BFLOAT16" else np.uint8)
    if kind in FOUR_BIT_TYPES:
        pairs = np.pad(codes & 0xF, (0, codes.size % 2))
        codes = pairs[::2] | pairs[1::2] << 4
    raw = codes.astype(codes.dtype.newbyteorder("<")).tobytes()
    return TensorProto(name=name, data_type=TensorProto.DataType.Value(kind), dims=values.shape, raw_data=raw)


def dtype_from_onnx(number: int) -> np.dtype[Any]:
    """The dtype for ``number``, a value of ``TensorProto.DataType``."""
    from onnx import TensorProto, helper

    name = TensorProto.DataType.Name(number)
    return ML_DTYPES[name] if name in ML_DTYPES else np.dtype(helper.tensor_dtype_to_np_dtype(number))


@cache
def _knows_ml_dtypes() -> bool:
    from onnx import TensorProto, helper

    return bool(np.dtype(helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)) == ML_DTYPES["BFLOAT16"])


def read_model(path: Path) -> ModelProto:
    """The model at ``path``, with its own functions inlined and the types of its values inferred where possible."""
    import onnx
    from onnx import inliner, shape_inference

    model: ModelProto = onnx.load(str(path))
    if model.functions:
        model = inliner.inline_local_functions(model)
    return shape_inference.infer_shapes(model)


def inner_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside a node: the branches of an ``If``, the body of a ``Loop``."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of every graph inside them."""
    for node in nodes:
        yield node
        for graph in inner_graphs(node):
            yield from all_nodes(graph.node)


def names_read(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, and those that graphs inside it read from outside."""
    yield from filter(None, node.input)
    for graph in inner_graphs(node):
        inside = {name for inner in graph.node for name in inner.output}
        inside |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        for inner in graph.node:
            yield from (name for name in names_read(inner) if name not in inside)
        yield from (value.name for value in graph.output if value.name not in inside)


def sort_nodes(model: ModelProto) -> None:
    """Put the nodes of the model and of every graph inside it into an order in which they can be computed.

    ONNX demands such an order, but not every converter keeps it, and ONNX Runtime does not insist. Nodes that are in
    order keep it. Raises ValueError if nodes wait for one another.
    """
    _sort_graph(model.graph)
    for function in model.functions:
        _replace(function.node, _sorted(function.node))


def _sort_graph(graph: GraphProto) -> None:
    for node in graph.node:
        for inner in inner_graphs(node):
            _sort_graph(inner)
    _replace(graph.node, _sorted(graph.node))


def _replace(nodes: MutableSequence[NodeProto], others: Sequence[NodeProto]) -> None:
    del nodes[:]
    nodes.extend(others)


def _sorted(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Copies of ``nodes``, each behind those whose outputs it or a graph inside it reads."""
    maker = {output: position for position, node in enumerate(nodes) for output in node.output if output}
    needs = [{maker[name] for name in names_read(node) if name in maker} for node in nodes]
    readers: dict[int, list[int]] = {}
    for position, makers in enumerate(needs):
        for each in makers:
            readers.setdefault(each, []).append(position)
    missing = [len(makers) for makers in needs]
    ready = [position for position, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for reader in readers.get(order[-1], ()):
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    if len(order) < len(nodes):
        first = next(node for node, count in zip(nodes, missing, strict=True) if count)
        raise ValueError(f"the nodes of the graph wait for one another: {first.op_type} {first.name!r} and others")
    return [_copy(nodes[position]) for position in order]


def _copy(node: NodeProto) -> NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def stored_tensors(path: Path) -> dict[str, Array]:
    """The initializers of the graph in ``path``, by name: views of the mapped file, which is not read as a whole.

    Only the lengths of fields are read on the way (https://protobuf.dev/programming-guides/encoding), so a file of
    gigabytes takes no time and no memory until values are used. Raises OSError or ValueError for a file that is none.
    """
    from onnx import TensorProto

    with path.open("rb") as file:
        mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
    model = memoryview(mapped)
    graphs = (each for number, each in _fields(model) if number == _GRAPH)
    found: dict[str, Array] = {}
    for each in (part for graph in graphs for number, part in _fields(graph) if number == _INITIALIZER):
        raw = next((data for number, data in _fields(each) if number == _RAW_DATA), None)
        tensor = TensorProto()
        tensor.ParseFromString(bytes(each) if raw is None else b"".join(_head(each)))
        found[tensor.name] = _mapped(path, tensor, raw)
    return found


_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""The numbers of fields in ``ModelProto``, ``GraphProto`` and ``TensorProto``."""


def _mapped(path: Path, tensor: TensorProto, raw: memoryview | None) -> Array:
    from onnx import TensorProto
    from onnx.external_data_helper import ExternalDataInfo

    shape, is_packed = tuple(tensor.dims), TensorProto.DataType.Name(tensor.data_type) in FOUR_BIT_TYPES
    if tensor.data_location == TensorProto.EXTERNAL:
        info: Any = ExternalDataInfo(tensor)
        if is_packed or 0 in shape:
            return np.empty(0, np.uint8)
        dtype, offset = dtype_from_onnx(tensor.data_type), int(info.offset or 0)
        values: Array = np.memmap(path.parent / info.location, dtype, "r", offset, shape)
        return values
    if raw is None or is_packed or tensor.data_type == TensorProto.STRING:
        return to_array(tensor) if raw is None else np.frombuffer(raw, np.uint8)
    return np.frombuffer(raw, dtype_from_onnx(tensor.data_type)).reshape(shape)


def _head(tensor: memoryview) -> Iterator[memoryview]:
    """The bytes of a tensor without its raw data."""
    return (whole for number, whole in _fields(tensor, whole=True) if number != _RAW_DATA)


def _fields(message: memoryview, *, whole: bool = False) -> Iterator[tuple[int, memoryview]]:
    """The fields of a protobuf message: the number and the content of each, with its key and length if ``whole``."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            begin, (_, at) = at, _varint(message, at)
        else:
            size, begin = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
            at = begin + size
            if size < 0 or at > len(message):
                raise ValueError("not a protobuf message, or truncated")
        yield key >> 3, message[start if whole else begin : at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, seven bits to a byte, and the position after it."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("not a protobuf message, or truncated")


def read_test_data(folder: Path) -> Mapping[str, StoredArray]:
    """The tensors in ``input_N.pb``, by the names in the files, or as ``input_N`` if one has none.

    Raises :class:`UsageError` if a number is missing, or a file is no tensor.
    """
    count = len(list(folder.glob("input_*.pb")))
    if not count:
        raise UsageError(f"{folder}: no data files; name a data file, or a folder with input_0.pb")
    read = [_read_tensor(folder / f"input_{number}.pb") for number in range(count)]
    names = [name for name, _ in read]
    if not all(names) or len(set(names)) < count:
        names = [f"input_{number}" for number in range(count)]
    return {name: array for name, (_, array) in zip(names, read, strict=True)}


def _read_tensor(path: Path) -> tuple[str, StoredArray]:
    from google.protobuf.message import DecodeError
    from onnx import TensorProto

    tensor = TensorProto()
    try:
        if is_lfs_pointer(path):
            raise UsageError(f"{path}: {LFS_POINTER}")
        tensor.ParseFromString(path.read_bytes())
        if tensor.data_location == TensorProto.EXTERNAL:
            raise UsageError(f"{path}: keeps its data in another file; a recorded value must hold its own")
        values = to_array(tensor)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); number the files from input_0.pb") from error
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: not a tensor in ONNX's protobuf format, or truncated; write it with onnx") from error
    return tensor.name, StoredArray(values.dtype, values.shape, lambda: values)


accept_old_names(__name__)


def nodes_in_training(path: Path) -> list[str]:
    """The operators of an ONNX file that compute as in training: Dropout and BatchNormalization with a training mode.

    Those in functions and in the bodies of loops count too. Nothing is said of a node whose mode is no constant, nor of
    a Dropout with ratio 0. Below opset 12 Dropout has no mode, and leaves its input as it is.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    found = list(_in_training(model.graph.node, {each.name: each for each in model.graph.initializer}))
    for function in model.functions:
        found += _in_training(function.node, {})
    return list(dict.fromkeys(found))


def _in_training(nodes: Sequence[NodeProto], outer: Mapping[str, TensorProto]) -> Iterator[str]:
    """The types of ``nodes`` that compute as in training; ``outer`` are the constants that they see."""
    import onnx

    def constant(node: NodeProto, at: int) -> bool | None:
        """Whether an input has a value other than 0; None if it is no constant, or not given."""
        tensor = constants.get(node.input[at]) if len(node.input) > at else None
        return None if tensor is None else bool(onnx.numpy_helper.to_array(tensor).any())

    constants = dict(outer)
    for node in nodes:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    for node in nodes:
        if node.domain in {"", "ai.onnx"}:
            mode = next((each.i for each in node.attribute if each.name == "training_mode"), 0)
            if node.op_type == "BatchNormalization" and mode:
                yield node.op_type
            if node.op_type == "Dropout" and constant(node, 2) and constant(node, 1) is not False:
                yield node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                seen = constants | {each.name: each for each in attribute.g.initializer}
                yield from _in_training(attribute.g.node, seen)
