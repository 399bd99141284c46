"""Where random numbers begin.

Any ``torch.nn`` class, or a user's factory, from plain data.

Layers wired by name: a graph of layers becomes one module.

``torch.fx`` writes the ``forward``, so that trace, script and both ONNX exporters see plain
Python as a user would have written it.

A module once more: exporters, and layers that work in place, change what they are given.

A built case: what every exporter is given, and what eager torch answers with.

Case -> :class:`Subject`: the seeded module in the asked mode, its weights and its inputs.
"""

from __future__ import annotations

import copy
import inspect
import operator
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn import parameter
from torch.utils import _pytree as pytree

from harness.errors import UsageError
from harness.model.own_code import imported
from harness.model.tensors import copy_of, to_torch
from harness.spec.language.case import (
    Case,
    FactoryModel,
    FileModel,
    GraphModel,
    GraphNode,
    LayerModel,
    Mode,
    Model,
    PackedModel,
    SequentialModel,
    TensorSpec,
    WeightedModel,
)
from harness.spec.language.fills import array
from harness.spec.quoting import suggestion


def seed_torch(number: int) -> None:
    """Let the random numbers of torch begin at ``number``, on every device there is.

    Without an accelerator this does what ``torch.manual_seed`` does and no more: that keeps, for each kind of device
    that is not there, a note of where it was called, which takes a hundred times as long as the rest.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)


FORM = "name it package.module:callable"


def make(layer: LayerModel) -> nn.Module:
    """The layer, freshly initialised from torch's current random state. Torch's own errors pass through."""
    module = getattr(nn, layer.layer)(**{name: _sized(value) for name, value in layer.args.items()})
    assert isinstance(module, nn.Module)
    return module


def arguments(layer: LayerModel) -> dict[str, Any]:
    """Every constructor argument of the layer by name, torch's defaults included."""
    given = {name: _sized(value) for name, value in layer.args.items()}
    defaults = _defaults(layer.layer)
    if defaults and given.keys() <= defaults.keys():
        every = {**defaults, **given}
        if inspect.Parameter.empty not in every.values():
            return every
    bound = _signature(layer.layer).bind(**given)  # which says what is wrong with them
    bound.apply_defaults()
    return bound.arguments


@cache
def _signature(layer: str) -> inspect.Signature:
    return inspect.signature(getattr(nn, layer))


@cache
def _defaults(layer: str) -> dict[str, Any]:
    """What each parameter is where it is not given; none are told where there may be more of them than have names."""
    parameters = _signature(layer).parameters
    if any(parameter.kind in _OF_ANY_NUMBER for parameter in parameters.values()):
        return {}
    return {name: parameter.default for name, parameter in parameters.items()}


_OF_ANY_NUMBER = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def call_factory(factory: FactoryModel) -> nn.Module:
    """What the user's ``package.module:callable`` returns; looked for in the working directory after all else.

    Raises :class:`UsageError` where there is no such callable, its module has the name of another one, or it returns
    no module.
    """
    place, _, name = factory.factory.partition(":")
    try:
        made = getattr(imported(place, f"factory {factory.factory!r}"), name)
    except ImportError as error:
        raise UsageError(f"factory {factory.factory!r}: {error}; {_importable(place, error)}") from error
    except AttributeError as error:
        right = suggestion(name, vars(sys.modules[place]) if place in sys.modules else (), FORM)
        raise UsageError(f"factory {factory.factory!r}: {error}; {right}") from error
    module = made(**factory.args)
    if not isinstance(module, nn.Module):
        raise UsageError(f"factory {factory.factory!r} returned {type(module).__name__}; it must return an nn.Module")
    return module


def _importable(place: str, error: ImportError) -> str:
    """What would make the module ``place`` be found."""
    if place.endswith(".py"):
        return f"write {place.removesuffix('.py').rpartition('/')[2]} for the file, without .py"
    if isinstance(error, ModuleNotFoundError) and error.name == place.partition(".")[0]:
        return f"run harness in the folder that holds it, not in {Path.cwd()}, or install it, or add it to PYTHONPATH"
    return FORM


def _sized(value: Any) -> Any:
    """YAML has lists where torch has tuples."""
    if isinstance(value, Mapping):
        return {key: _sized(item) for key, item in value.items()}
    return tuple(_sized(item) for item in value) if isinstance(value, list | tuple) else value


def wire(graph: GraphModel, labels: Sequence[str]) -> fx.GraphModule:
    """The module whose ``forward`` takes ``labels`` by order and returns ``graph.returns``.

    Layers are named after their first output, which is how ``weights`` reaches them: ``pooled.weight``.
    """
    root = nn.Module()
    drawing = fx.Graph()
    values: dict[str, fx.Node] = {label: drawing.placeholder(label) for label in labels}
    for index, node in enumerate(graph.nodes):
        name = node.outputs[0] if not hasattr(root, node.outputs[0]) else f"{node.outputs[0]}_{index}"
        root.add_module(name, make(node.layer))
        inputs = tuple(values[label] for label in node.inputs)
        answer = drawing.call_module(name, inputs, dict(node.layer.forward))
        if len(node.outputs) == 1:
            values[node.outputs[0]] = answer
        else:
            for position, label in enumerate(node.outputs):
                values[label] = drawing.call_function(operator.getitem, (answer, position))
    returned = tuple(values[label] for label in graph.returns)
    drawing.output(returned[0] if len(returned) == 1 else returned)
    drawing.lint()
    return fx.GraphModule(root, drawing)


def bind(layer: LayerModel, labels: Sequence[str]) -> nn.Module:
    """``layer`` with the constant keyword arguments of its ``forward`` held fast; its weights keep their names.

    A layer without any is returned as it is.
    """
    if not layer.forward:
        return make(layer)
    return wire(GraphModel(nodes=(GraphNode(layer, tuple(labels), ("layer",)),), returns=("layer",)), labels)


def parameter_of(module: nn.Module, name: str) -> torch.Tensor | None:
    """The parameter or buffer called ``name``, also inside what :func:`bind` made; None where there is none."""
    held = dict(module.named_parameters()) | dict(module.named_buffers())
    return held.get(name, held.get(f"layer.{name}"))


def copied(module: nn.Module) -> nn.Module:
    """``copy.deepcopy(module)``, in half the time.

    Of a layer without hooks eleven parts in twenty are the empty tables that hooks would stand in. Copying those takes
    longer than all the rest, so that the copy is told beforehand what stands for them.
    """
    empty = {
        id(held): OrderedDict[object, object]()
        for part in module.modules()
        for held in vars(part).values()
        if type(held) is OrderedDict and not held
    }
    return copy.deepcopy(module, empty)


@dataclass(frozen=True, eq=False)
class Subject:
    """A module in its asked mode, with example inputs by label.

    ``module.forward`` takes the inputs by order and returns a tensor or a tuple of tensors,
    which are called ``output_0``, ``output_1``, ... in every artifact. ``dynamic`` maps a
    label to its open axes and their names. ``answer`` is what eager torch gives for the inputs, where it was
    asked already. Two subjects are equal only where they are the same one.
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: int
    mode: Mode = "eval"
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    answer: Sequence[torch.Tensor] | None = None

    @property
    def output_names(self) -> list[str]:
        """``output_0`` and so on: the names of the outputs in every artifact."""
        return [f"output_{index}" for index in range(self.outputs)]

    def fresh(self) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
        """Copies of the module and its inputs, since exporters and in-place layers change what they are given."""
        return copied(self.module), tuple(
            tensor.detach().clone(memory_format=torch.preserve_format) for tensor in self.inputs.values()
        )


DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
}


def tensors(specs: Sequence[TensorSpec]) -> dict[str, torch.Tensor]:
    """The tensors by label, in their layouts."""
    return {spec.label: to_torch(array(spec), spec.layout) for spec in specs}


def build(case: Case, sized: Callable[[int], None] = lambda _size: None) -> Subject:
    """The case's module with its example inputs; ``sized`` is told how many bytes it takes, before it is called.

    Torch's own errors pass through: an argument or a shape that a layer refuses is the case's to explain.
    """
    inputs = tensors(case.inputs)
    module = module_of(case.model, case, list(inputs))
    sized(size_of(module))
    answer = answers(module, list(inputs.values()), case.seed)
    return Subject(module, inputs, len(answer), case.mode, case.dynamic, answer)


def size_of(module: nn.Module) -> int:
    """The bytes of its parameters and buffers, each counted once; of one that has no size yet, none."""
    held = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in held if not parameter.is_lazy(tensor))


def module_of(weighted: WeightedModel, case: Case, labels: Sequence[str]) -> nn.Module:
    """``weighted`` as a module in the case's mode and dtype, seeded by the case."""
    with torch.random.fork_rng(devices=()):
        seed_torch(case.seed)
        module = _wired(weighted.model, labels)
    if case.dtype != "float32" and DTYPES[case.dtype].is_floating_point:
        module = module.to(DTYPES[case.dtype])
    load_weights(module, {name: array(spec, _shape_of(module, name)) for name, spec in weighted.weights.items()})
    return module.train(case.mode == "train")


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Set parameters and buffers by name, in place.

    Raises :class:`UsageError` for a name that the module has not, or a shape that is not its own.
    """
    for name, values in weights.items():
        held = parameter_of(module, name)
        if held is None:
            names = ", ".join(name for name, _ in module.named_parameters()) or "none"
            raise UsageError(f"weights: the model has no parameter {name!r}; it has {names}")
        if tuple(held.shape) != values.shape:
            raise UsageError(f"weights: {name} has shape {tuple(held.shape)}, given {values.shape}")
        with torch.no_grad():
            held.copy_(to_torch(values, "contiguous"))


def _shape_of(module: nn.Module, name: str) -> Sequence[int]:
    """The shape that a weight is filled in; that of nothing where there is no such parameter."""
    held = parameter_of(module, name)
    return () if held is None else tuple(held.shape)


def answers(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """What eager torch answers, flattened; neither the module, the inputs nor the random state is changed."""
    return answered(copied(module), [copy_of(tensor) for tensor in inputs], seed)


def answered(module: nn.Module, inputs: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """The same of a module and inputs that may be changed."""
    with torch.random.fork_rng(devices=()), torch.no_grad():
        seed_torch(seed)
        answer = module(*inputs)
    leaves = pytree.tree_leaves(answer)
    return [leaf.detach() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _wired(model: Model, labels: Sequence[str]) -> nn.Module:
    match model:
        case LayerModel():
            return bind(model, labels)
        case SequentialModel(steps):
            return nn.Sequential(*(bind(step, ["x"]) for step in steps))
        case GraphModel():
            return wire(model, labels)
        case FactoryModel():
            return call_factory(model)
        case FileModel():
            raise UsageError(f"{model.path}: a model file cannot be built; it is verified as it is")
        case PackedModel():
            raise UsageError(f"{model.folder}: a bundle holds what was exported, not the model; name its specs")
