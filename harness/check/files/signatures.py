"""The inputs and outputs that a model file declares, by its format.

ONNX declares names, dtypes and shapes. TorchScript declares only the names of its inputs, and a program of
``torch.export`` names no outputs that mean anything. A library of AOTInductor declares nothing.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from harness.data_files.onnx_files import dtype_from_onnx
from harness.errors import StageError
from harness.spec.language.case import ModelFormat, StoredModel
from harness.spec.language.inputs.names import as_label
from harness.spec.language.inputs.structure import Structure, Tree, in_order

if TYPE_CHECKING:
    from torch import nn

Size = int | str | None
"""A size of a declared shape: a number, the name of an open axis, or None for an open axis without a name."""

NO_DEFAULT = object()
"""The default of a parameter that needs a value."""

_ONNX_FLOATING: Mapping[int, str] = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""The values of ``onnx.TensorProto.DataType``."""
_ORT_DTYPES: Mapping[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "string": object,
}


@dataclass(frozen=True, slots=True)
class Declared:
    """An input or output that a file declares. What it does not declare is None."""

    name: str
    dtype: np.dtype[Any] | None = None
    shape: tuple[Size, ...] | None = None
    index_limit: int | None = None

    def __str__(self) -> str:
        """Such as ``x float32[N, 3, 224, 224]``."""
        if self.dtype is None:
            return self.name
        sizes = "[...]" if self.shape is None else f"[{', '.join(str(size or '?') for size in self.shape)}]"
        return f"{self.name} {self.dtype.name}{sizes}"


@dataclass(frozen=True, slots=True)
class FileSignature:
    """The declared inputs and outputs in the model's order.

    ``outputs`` is None if the file does not name them: they are called ``output_0``, ``output_1``, ...
    ``has_names`` is False if the inputs are unknown; they are then bound by order. ``floating`` is the dtype of most of
    the floating weights, None if there are none or they are not known. ``defaults`` has the default of each parameter
    of TorchScript, :data:`NO_DEFAULT` for those in ``inputs``, and None for one of a module, to which arguments are
    passed by name. It is empty for a file that declares tensors. ``arguments`` are the names of what a ``forward``
    takes, empty where it is not known. ``in_training`` is True for a module with a part in training mode.
    """

    inputs: tuple[Declared, ...]
    outputs: tuple[Declared, ...] | None = None
    has_names: bool = True
    floating: np.dtype[Any] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    in_training: bool = False

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.inputs))})" if self.has_names else "(...)"


def called_with(signature: FileSignature, arguments: Structure) -> tuple[FileSignature, Structure | None]:
    """The signature of a ``forward`` that is called with ``arguments``, and how they are passed by order.

    The signature has a tensor for each one in a nested argument, and each parameter with a default that is given. The
    structure is None if it would say no more than the signature. Raises :class:`StageError` for a parameter that is
    left out before one that is given, if its default is not None: by order it cannot be left out.
    """
    if not signature.defaults:
        return signature, None
    trees = {as_label(label): tree for label, tree in arguments.items()}
    needed = [name for name, default in signature.defaults.items() if default is NO_DEFAULT]
    if trees.keys().isdisjoint(map(as_label, signature.defaults)) and len(trees) == len(needed):
        trees = {as_label(name): tree for name, tree in zip(needed, trees.values(), strict=True)}
    inputs: list[Declared] = []
    passed: dict[str, Tree] = {}
    left_out: dict[str, Any] = {}
    for name, default in signature.defaults.items():
        if default is not NO_DEFAULT and as_label(name) not in trees:
            left_out[name] = default
            continue
        if any(each is not None for each in left_out.values()):
            values = ", ".join(f"{other}={value!r}" for other, value in left_out.items())
            raise StageError(f"its inputs are passed by order, {values} before {name}: give {', '.join(left_out)} too")
        passed |= left_out
        left_out.clear()
        tree = trees.get(as_label(name))
        is_nested = as_label(name) in trees and not isinstance(tree, str)
        passed[name] = tree if is_nested else name
        inputs += [Declared(label) for label in in_order({name: passed[name]})]
    is_plain = all(name == tree for name, tree in passed.items())
    return replace(signature, inputs=tuple(inputs)), None if is_plain else passed


def mixed_labels(labels: Sequence[str], subject: FileSignature, reference: FileSignature) -> str | None:
    """What is wrong with names that the user gave if only some are parameters of the module ``reference``, else None.

    Names that are all the file's own are right, whatever the module calls them: its parameters follow by order.
    """
    required = [each.name for each in reference.inputs if each.dtype is None]
    parameters = list(dict.fromkeys([*reference.arguments, *required, *reference.defaults]))
    heads = list(dict.fromkeys(label.split(".")[0] for label in labels))
    known = [head for head in heads if head in parameters]
    own = {each.name for each in subject.inputs} | {as_label(each.name) for each in subject.inputs}
    if not known or len(known) == len(heads) or set(labels) <= own:
        return None
    others = [head for head in heads if head not in parameters]
    are = "is no parameter" if len(others) == 1 else "are no parameters"
    return (
        f"{', '.join(known)} must be bound by name, and {', '.join(others)} {are} of the module, which takes "
        f"({', '.join(parameters)}); name every input after its parameter, or none"
    )


def read_file_signature(file: StoredModel) -> FileSignature:
    """The signature of the model file. Loads what the format needs: torch for its own, onnxruntime for its own.

    Raises :class:`StageError` for an ONNX file that is damaged, and what the libraries raise.
    """
    return _READERS[file.format](Path(file.path))


def module_signature(module: nn.Module) -> FileSignature:
    """The parameters of ``forward`` that need a value, as inputs without dtype and shape."""
    import torch

    read = _script_signature if isinstance(module, torch.jit.ScriptModule) else _forward_signature
    return replace(read(module), in_training=any(each.training for each in module.modules()))


def _forward_signature(module: nn.Module) -> FileSignature:
    parameters = inspect.signature(module.forward).parameters.values()
    variadic = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    named = [each for each in parameters if each.kind not in variadic]
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
        return FileSignature((), has_names=False, floating=floating_of(module))
    defaults = {each.name: NO_DEFAULT if each.default is each.empty else None for each in named}
    return _of_parameters(defaults, module)


def floating_of(module: nn.Module) -> np.dtype[Any] | None:
    """The dtype of most of the floating parameters and buffers of ``module``; None if there are none."""
    weights: dict[str, int] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            name = str(tensor.dtype).removeprefix("torch.")
            weights[name] = weights.get(name, 0) + tensor.numel()
    return _most_frequent(weights)


def _most_frequent(weights: Mapping[str, int]) -> np.dtype[Any] | None:
    """The dtype with most elements; None if it is none of the floating dtypes that harness compares."""
    name = max(weights, key=lambda each: weights[each], default="")
    if name not in {"float16", "bfloat16", "float32", "float64"}:
        return None
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _onnx_signature(path: Path) -> FileSignature:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except DecodeError as error:
        raise StageError(f"{path.name} is not an ONNX model, or is truncated; export it again") from error
    if not graph.output:
        raise StageError(f"{path.name} is not an ONNX model: it has no graph with outputs; export it again")
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    limits = _index_limits(graph, initializers)
    inputs = (_from_value_info(value, limits) for value in graph.input if value.name not in initializers)
    outputs = tuple(_from_value_info(value, {}) for value in graph.output)
    weights: dict[str, int] = {}
    for tensor in graph.initializer:
        name = _ONNX_FLOATING.get(tensor.data_type)
        if name is not None:
            weights[name] = weights.get(name, 0) + prod(tensor.dims)
    return FileSignature(tuple(inputs), outputs, floating=_most_frequent(weights))


def _from_value_info(value: Any, limits: Mapping[str, int]) -> Declared:
    if not value.type.HasField("tensor_type"):
        return Declared(value.name)
    tensor = value.type.tensor_type
    dtype = dtype_from_onnx(tensor.elem_type) if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return Declared(value.name, dtype)
    sizes: list[Size] = []
    for axis in tensor.shape.dim:
        known = axis.HasField("dim_value") and axis.dim_value >= 0  # PaddlePaddle writes -1 for an open axis
        sizes.append(axis.dim_value if known else _axis_name(axis.dim_param))
    return Declared(value.name, dtype, tuple(sizes), limits.get(value.name))


def _axis_name(name: str) -> str | None:
    """The name of an open axis; None if it is no name, such as ``?``, which may stand for several axes."""
    return name if re.search(r"\w", name) else None


def _index_limits(graph: Any, initializers: Mapping[str, Any]) -> dict[str, int]:
    """The rows of the tables that inputs are indices into, by input: token ids end at the size of the vocabulary."""
    limits: dict[str, int] = {}
    for node in graph.node:
        table = initializers.get(node.input[0]) if node.op_type == "Gather" and len(node.input) == 2 else None
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if table is not None and -len(table.dims) <= axis < len(table.dims):
            rows = int(table.dims[axis])
            limits[node.input[1]] = min(rows, limits.get(node.input[1], rows))
    return limits


def _ort_signature(path: Path) -> FileSignature:
    from harness.runtimes.onnxruntime.library import load_onnxruntime

    session = load_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return FileSignature(tuple(map(_from_node_arg, inputs)), tuple(map(_from_node_arg, outputs)))


def _from_node_arg(value: Any) -> Declared:
    kind, _, element = value.type.partition("(")
    if kind != "tensor":
        return Declared(value.name)
    name = element.removesuffix(")")
    dtype = np.dtype(_ORT_DTYPES.get(name, name))
    return Declared(value.name, dtype, None if value.shape is None else tuple(map(_size, value.shape)))


def _size(size: Any) -> Size:
    return _axis_name(size) if isinstance(size, str) else size


def _torchscript_signature(path: Path) -> FileSignature:
    from harness.model.user_modules import load_torchscript

    return _script_signature(load_torchscript(path))


def _script_signature(module: Any) -> FileSignature:
    arguments: Sequence[Any] = module.forward.schema.arguments[1:]  # the first is the module itself
    defaults = {each.name: each.default_value if each.has_default_value() else NO_DEFAULT for each in arguments}
    return _of_parameters(defaults, module)


def _of_parameters(defaults: Mapping[str, Any], module: nn.Module) -> FileSignature:
    inputs = tuple(Declared(name) for name, default in defaults.items() if default is NO_DEFAULT)
    return FileSignature(inputs, floating=floating_of(module), defaults=defaults, arguments=tuple(defaults))


def _program_signature(path: Path) -> FileSignature:
    import torch

    program = torch.export.load(path)
    names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    calls = [each.signature for each in program.module_call_graph if each.fqn == "" and each.signature is not None]
    arguments = next((getattr(each, "forward_arg_names", None) for each in calls), None) or ()
    inputs = tuple(_from_fake_tensor(name, values.get(name)) for name in names)
    return FileSignature(inputs, arguments=tuple(arguments))


def _from_fake_tensor(name: str, value: Any) -> Declared:
    from harness.model.build import DTYPES

    if not hasattr(value, "dtype"):
        return Declared(name)
    dtype = next((key for key, each in DTYPES.items() if each == value.dtype), None)
    sizes = tuple(size if isinstance(size, int) else str(size) for size in value.shape)
    known = None if dtype is None else np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    return Declared(name, known, sizes)


def _unknown(_path: Path) -> FileSignature:
    return FileSignature((), has_names=False)


_READERS: Mapping[ModelFormat, Callable[[Path], FileSignature]] = {
    "onnx": _onnx_signature,
    "ort": _ort_signature,
    "torchscript": _torchscript_signature,
    "program": _program_signature,
    "aoti": _unknown,
}
