"""Build what a case describes: the seeded ``nn.Module`` in the case's mode and dtype, its weights and its inputs.

:func:`build` turns a case into a :class:`Subject`, which every exporter is given. The layers of a ``graph`` are wired
with ``torch.fx``, which writes the ``forward``: trace, script and both ONNX exporters see plain Python, as a user would
have written it.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import fx, nn
from torch.nn import parameter

from harness.deprecated import old_attributes
from harness.errors import UsageError
from harness.model.binding import MixedLabels, TakesFlatInputs, bind_labels
from harness.model.running import FirstCall, first_call, run_module, seed_torch, size_in_bytes
from harness.model.tensors import copy_module, copy_tensor, require_values, to_torch
from harness.model.user_modules import call_factory, factory_label, load_stored_module
from harness.model.weights import find_parameter, load_weights, require_all_weights, tensors_of_state
from harness.spec.language.case import (
    Case,
    FactoryModel,
    FileModel,
    GraphModel,
    GraphNode,
    LayerModel,
    Mode,
    Model,
    Operation,
    RecordedModel,
    SequentialModel,
    StoredModel,
    TensorSpec,
    WeightedModel,
)
from harness.spec.language.inputs.fills import array
from harness.spec.language.inputs.names import as_label
from harness.spec.language.inputs.structure import Structure, arguments, null_labels, without_null
from harness.spec.language.operations import OPERATIONS

DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
}


@old_attributes(answer="eager_outputs")
@dataclass(frozen=True, eq=False)
class Subject:
    """A built module in its mode, with example inputs by label.

    ``module.forward`` takes the inputs by position. It returns a tensor or a tuple of ``outputs`` tensors, which are
    called ``output_0``, ``output_1``, ... in every artifact. ``dynamic`` maps an input's label to its dynamic axes and
    their names. ``eager_outputs`` are eager torch's outputs for the inputs, None if they are not computed yet;
    ``first_call`` is the call that gave them, None if it is not known.
    An export may lack inputs that it does not read if ``may_drop_inputs`` is True.
    ``structure`` says how the user's own ``forward`` takes the inputs, None if by position (:class:`TakesFlatInputs`).
    ``output_paths`` are where the outputs are in what ``forward`` returns (:func:`harness.model.running.paths_of`).
    Subjects are compared by identity.
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: int
    mode: Mode = "eval"
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    eager_outputs: Sequence[torch.Tensor] | None = None
    structure: Structure | None = None
    output_paths: Sequence[str] = ()
    first_call: FirstCall | None = None
    may_drop_inputs: bool = False

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs in every artifact: ``output_0``, ``output_1``, ..."""
        return [f"output_{index}" for index in range(self.outputs)]

    def fresh(self, *, aliased: bool = False) -> tuple[nn.Module, tuple[Any, ...]]:
        """Copies of the module and of the arguments of its forward: exporters and in-place layers change them.

        Nested inputs are as the user's own module takes them. ``aliased`` is for exporters that call the module with
        tensors without values only, and so change no weight: :func:`copy_module`.
        """
        module = copy_module(self.module, aliased=aliased)
        inputs = {
            label: tensor.detach().clone(memory_format=torch.preserve_format) for label, tensor in self.inputs.items()
        }
        if self.structure is None:
            return module, tuple(inputs.values())
        assert isinstance(module, TakesFlatInputs)
        return module.nested, arguments(self.structure, inputs)


def build(
    case: Case,
    on_size: Callable[[int], None] = lambda _size: None,
    on_built: Callable[[tuple[nn.Module, Mapping[str, torch.Tensor]]], None] = lambda _built: None,
) -> Subject:
    """Build the case's module and inputs, and run eager torch on them once.

    ``on_built`` is called with both, and ``on_size`` with the module's size in bytes, before the module runs. Torch's
    own errors pass through: an argument or a shape that a layer refuses is for the case to explain.
    """
    inputs = build_tensors(case.inputs)
    module = build_module(case.model, case)
    on_built((module, inputs))
    initialise_lazy(module, list(inputs.values()), case.seed)
    on_size(size_in_bytes(module))
    return called_subject(module, inputs, case, structure_of(case))


def called_subject(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], case: Case, structure: Structure | None
) -> Subject:
    """The subject of ``module`` and ``inputs``, with eager torch's answer. ``structure`` says how it takes them."""
    first = first_call(module, list(inputs.values()), case.seed, watch_random=case.runs_user_code)
    outputs = first.outputs
    return Subject(module, inputs, len(outputs), case.mode, case.dynamic, outputs, structure, first.paths, first)


def structure_of(case: Case) -> Structure | None:
    """How the case's module takes its tensors; None if by position."""
    return None if case.structure is None else without_null(case.structure)


def build_tensors(specs: Sequence[TensorSpec]) -> dict[str, torch.Tensor]:
    """The tensors by label, in their layouts."""
    return {spec.label: to_torch(array(spec), spec.layout) for spec in specs}


def build_module(weighted: WeightedModel, case: Case) -> nn.Module:
    """Build ``weighted`` in the case's mode and dtype, seeded with the case's seed. It takes the inputs by position."""
    module = build_as_returned(weighted, case)
    if isinstance(weighted.model, StoredModel):  # a program and a frozen module have no mode to set
        return module
    return module.train(case.mode == "train")


def build_as_returned(weighted: WeightedModel, case: Case) -> nn.Module:
    """As :func:`build_module`, in the mode in which a callable returned it."""
    structure = structure_of(case)
    with torch.random.fork_rng(devices=()):
        seed_torch(case.seed)
        module = _bound(weighted, case)
        module = module if structure is None else TakesFlatInputs(module, structure)
        if not isinstance(weighted.model, FactoryModel):
            draw_statistics(module)
    if case.dtype != "float32" and DTYPES[case.dtype].is_floating_point:
        module = module.to(DTYPES[case.dtype])
    if weighted.weights_file:
        require_all_weights(module, weighted.weights, weighted.weights_file)
    if isinstance(weighted.model, FactoryModel):
        require_values(module, factory_label(weighted.model))
    load_weights(module, ((name, array(spec, _weight_shape(module, name))) for name, spec in weighted.weights.items()))
    return module


def _bound(weighted: WeightedModel, case: Case) -> nn.Module:
    """The model with its inputs bound. A mixture of labels is allowed where all are the names of a file under test."""
    labels, nulls = case.arguments, null_labels(case.structure)
    constants = weighted.model.forward if isinstance(weighted.model, FactoryModel) else {}
    module, is_other = _build_model(weighted.model, labels), weighted is not case.model
    try:
        return bind_labels(module, labels, constants, nulls, allow_mixture=is_other)
    except MixedLabels:
        if not any(_has_inputs(file, [each.label for each in case.inputs]) for file in case.files.values()):
            raise
        return bind_labels(module, labels, constants, nulls, allow_mixture=True)


def _has_inputs(file: StoredModel, labels: Sequence[str]) -> bool:
    """True if the file names its inputs so. The names in formats other than ONNX are not read here."""
    if file.format != "onnx":
        return True
    import onnx

    names = [each.name for each in onnx.load(file.path, load_external_data=False).graph.input]
    return set(labels) <= {*names, *map(as_label, names)}


def require_weights_of_file(weighted: WeightedModel, case: Case) -> None:
    """Check that the weights file of ``weighted`` has the names and shapes of its model, which is built without values.

    Nothing is checked if there is no such file, or if the model cannot be built so. Raises :class:`UsageError`.
    """
    if not weighted.weights_file:
        return
    try:
        with torch.random.fork_rng(devices=()), torch.device("meta"):
            module = _build_model(weighted.model, case.arguments)
    except Exception:  # noqa: BLE001 - a callable that needs values; its check builds it with them
        return
    require_all_weights(module, weighted.weights, weighted.weights_file)


def has_random_weights(module: nn.Module, case: Case) -> bool:
    """True if another seed gives the case's ``module`` other weights: its callable draws them, and none are named."""
    if not isinstance(case.model.model, FactoryModel) or case.model.weights:
        return False
    other = tensors_of_state(build_module(case.model, replace(case, seed=case.seed + 1)))
    own = tensors_of_state(module)
    if any(parameter.is_lazy(values) for values in other.values()):
        return True
    return own.keys() != other.keys() or any(not torch.equal(values, other[name]) for name, values in own.items())


def initialise_lazy(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> None:
    """Call a module with lazy parameters once, in place, so that they get their shapes and values; else do nothing."""
    if any(parameter.is_lazy(each) for each in (*module.parameters(), *module.buffers())):
        run_module(module, [copy_tensor(tensor) for tensor in inputs], seed)


def draw_statistics(module: nn.Module) -> None:
    """Draw the stored statistics of the normalisations in ``module`` from torch's current random state, in place.

    With torch's own 0 and 1 a normalisation in evaluation mode is nearly the identity, and statistics that an export
    drops or exchanges would not show. Means are normal, variances uniform from 0.5 to 2.
    """
    for layer in module.modules():
        for name, draw in (("running_mean", torch.Tensor.normal_), ("running_var", _draw_variances)):
            statistics = getattr(layer, name, None)
            if isinstance(statistics, torch.Tensor) and not parameter.is_lazy(statistics):
                draw(statistics)


def _draw_variances(variances: torch.Tensor) -> torch.Tensor:
    return variances.uniform_(0.5, 2)


def _weight_shape(module: nn.Module, name: str) -> Sequence[int]:
    """The shape of the parameter or buffer ``name``; () if there is none, which :func:`load_weights` reports."""
    tensor = find_parameter(module, name)
    return () if tensor is None else tuple(tensor.shape)


def _build_model(model: Model, labels: Sequence[str]) -> nn.Module:
    match model:
        case LayerModel():
            return build_bound_layer(model, labels)
        case SequentialModel(steps):
            return nn.Sequential(*(build_bound_layer(step, ["x"]) for step in steps))
        case GraphModel():
            return build_graph(model, labels)
        case FactoryModel():
            return call_factory(model)
        case StoredModel():
            return load_stored_module(model)
        case FileModel():
            raise UsageError(f"{model.path}: a model file cannot be built; it is run as it is")
        case RecordedModel():
            raise UsageError(f"{model.path}: a bundle holds exported files, not the model; name its specs")


def build_bound_layer(layer: LayerModel, labels: Sequence[str]) -> nn.Module:
    """The layer with its spec's constant keyword arguments of ``forward`` bound; its weights keep their names.

    A layer without such arguments is returned as it is.
    """
    if not layer.forward:
        return build_layer(layer)
    return build_graph(GraphModel(nodes=(GraphNode(layer, tuple(labels), ("layer",)),), returns=("layer",)), labels)


def build_graph(graph: GraphModel, labels: Sequence[str]) -> fx.GraphModule:
    """The module with a ``forward`` that takes the inputs ``labels`` in order and returns ``graph.returns``.

    Operations become calls of torch's functions. Each layer is named after its first output, so ``weights`` names its
    parameters as ``pooled.weight``.
    """
    root = nn.Module()
    fx_graph = fx.Graph()
    values: dict[str, fx.Node] = {label: fx_graph.placeholder(label) for label in labels}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.layer, Operation):
            values[node.outputs[0]] = _call_operation(fx_graph, node.layer, [values[label] for label in node.inputs])
            continue
        name = node.outputs[0] if not hasattr(root, node.outputs[0]) else f"{node.outputs[0]}_{index}"
        root.add_module(name, build_layer(node.layer))
        inputs = tuple(values[label] for label in node.inputs)
        output = fx_graph.call_module(name, inputs, dict(node.layer.forward))
        if len(node.outputs) == 1:
            values[node.outputs[0]] = output
        else:
            for position, label in enumerate(node.outputs):
                values[label] = fx_graph.call_function(operator.getitem, (output, position))
    returned = tuple(values[label] for label in graph.returns)
    fx_graph.output(returned[0] if len(returned) == 1 else returned)
    fx_graph.lint()
    return fx.GraphModule(root, fx_graph)


def _call_operation(graph: fx.Graph, operation: Operation, inputs: Sequence[fx.Node]) -> fx.Node:
    """A call of torch's function on the values ``inputs``."""
    arguments = (list(inputs),) if OPERATIONS[operation.layer].as_list else tuple(inputs)
    return graph.call_function(getattr(torch, operation.layer), arguments, _as_torch(operation.args))


def build_layer(layer: LayerModel) -> nn.Module:
    """The ``torch.nn`` layer, initialised from torch's current random state. Torch's own errors pass through."""
    module = getattr(nn, layer.layer)(**_as_torch(layer.args))
    assert isinstance(module, nn.Module)
    return module


def constructor_arguments(layer: LayerModel) -> dict[str, Any]:
    """Every constructor argument of the layer by name, torch's defaults included."""
    from_spec: dict[str, Any] = _as_torch(layer.args)
    defaults = _defaults(layer.layer)
    if defaults and from_spec.keys() <= defaults.keys():
        arguments = {**defaults, **from_spec}
        if inspect.Parameter.empty not in arguments.values():
            return arguments
    bound = _signature(layer.layer).bind(**from_spec)  # raises TypeError that names the wrong argument
    bound.apply_defaults()
    return bound.arguments


@cache
def _signature(layer: str) -> inspect.Signature:
    return inspect.signature(getattr(nn, layer))


@cache
def _defaults(layer: str) -> dict[str, Any]:
    """The default of each constructor parameter; empty if the constructor takes ``*args`` or ``**kwargs``."""
    parameters = _signature(layer).parameters
    if any(each.kind in {each.VAR_POSITIONAL, each.VAR_KEYWORD} for each in parameters.values()):
        return {}
    return {name: parameter.default for name, parameter in parameters.items()}


def _as_torch(value: Any) -> Any:
    """``value`` with tensors built, and with lists as tuples, at any depth: YAML has lists where torch has tuples."""
    if isinstance(value, Mapping):
        return {key: _as_torch(item) for key, item in value.items()}
    if isinstance(value, TensorSpec):
        return to_torch(array(value), "contiguous")
    return tuple(_as_torch(item) for item in value) if isinstance(value, list | tuple) else value
