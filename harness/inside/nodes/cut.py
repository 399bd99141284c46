"""Cut the nodes that compute one value out of a graph: a model of their own, with the real tensors that reach them.

For a node that the runtime computes wrongly, the expected value is the node's float64 evaluation on the same tensors.
For nodes that a torch module was exported to, it is the output of that module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TypeProto, helper

from harness.blame.evaluator import evaluate_all
from harness.data_files.onnx_files import from_array, inner_graphs, names_read, read_model, to_array
from harness.exporters import Artifact
from harness.inside.nodes.divergence import ROUNDING_SHARE, computed_difference
from harness.inside.nodes.matching import CONSTANT_OPERATORS, first_output, owning_calls, with_all_values_as_outputs
from harness.inside.nodes.walk import computed_values, matches_by_value
from harness.spec.targets import Target

if TYPE_CHECKING:
    from harness.inside.nodes.divergence import ModuleCall

Array = NDArray[Any]


NOTES = frozenset({"doc_string", "metadata_props", "dim_param", "denotation"})
"""Fields that change nothing of what a model computes."""


class NotCut(Exception):
    """The nodes cannot be shown alone; the text is the reason."""


@dataclass(frozen=True, slots=True)
class CutNodes:
    """The ``model`` of some nodes with their ``inputs`` by name, and the one value that they should compute.

    ``allowed`` is how far a value may be from the ``expected`` one by rounding.
    """

    model: ModelProto
    inputs: Mapping[str, Array]
    expected: Array
    allowed: float

    @property
    def nodes(self) -> int:
        """The number of nodes, without constants."""
        return sum(node.op_type not in CONSTANT_OPERATORS for node in self.model.graph.node)

    def write(self, folder: Path) -> None:
        """Write the files of a recorded model: ``model.onnx`` and ``test_data_set_0``."""
        data = folder / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        onnx.save(self.model, str(folder / "model.onnx"))
        for index, (name, values) in enumerate(self.inputs.items()):
            (data / f"input_{index}.pb").write_bytes(from_array(values, name).SerializeToString())
        output = self.model.graph.output[0].name
        (data / "output_0.pb").write_bytes(from_array(self.expected, output).SerializeToString())


def cut_nodes(
    artifact: Artifact,
    target: Target,
    inputs: Mapping[str, Array],
    value: str,
    calls: Sequence[ModuleCall] | None,
    scratch: Path,
) -> CutNodes:
    """The nodes that compute ``value`` of the file on ``inputs``.

    ``calls`` are those of torch's modules, if the value is to be compared with them; else the one node that computes
    it is compared with its own evaluation in float64. Raises :class:`NotCut`.
    """
    model = read_model(artifact.path)
    computed = computed_values(with_all_values_as_outputs(model), artifact, target, inputs, scratch)
    known = {**{each.name: to_array(each) for each in model.graph.initializer}, **computed, **inputs}
    producers = {name: node for node in model.graph.node for name in node.output if name}
    if value not in producers or not isinstance(computed.get(value), np.ndarray):
        raise NotCut("its value is not a tensor that the runtime returns")
    if calls is None:
        only = _selected(producers, value, lambda node: node is producers[value])
        cut, reaching = _model(model, only, value, known)
        path = scratch / "cut.onnx"
        onnx.save(cut, str(path))
        expected = evaluate_all(path, reaching)[cut.graph.output[0].name]
    else:
        match = matches_by_value(model.graph, computed, calls).get(value)
        if match is None:
            raise NotCut("no torch module has the value that the nodes should compute")
        owning = owning_calls(model.graph.node, calls)
        own = _selected(producers, value, lambda node: owning.get(first_output(node)) is match.call)
        (cut, reaching), expected = _model(model, own, value, known), match.expected
    return _differing(cut, reaching, value, computed[value], expected)


def cut_between(
    model: ModelProto, nodes: Sequence[NodeProto], value: str, known: Mapping[str, Array], expected: Array
) -> CutNodes:
    """``nodes``, which compute ``value`` as ``known`` has it, beside what they should compute. Raises :class:`NotCut`.

    ``known`` has what reaches them, too.
    """
    cut, reaching = _model(model, nodes, value, known)
    return _differing(cut, reaching, value, known[value], expected)


def _differing(cut: ModelProto, reaching: Mapping[str, Array], value: str, actual: Array, expected: Array) -> CutNodes:
    if expected.shape != actual.shape:
        raise NotCut("the value that it should compute has another shape")
    with np.errstate(all="ignore"):
        expected = expected.astype(actual.dtype)
    difference = computed_difference(value, actual, expected)
    if difference is None or difference.rounding:
        raise NotCut("on these inputs its value differs by less than a script can show")
    finite = np.abs(expected.astype(np.float64))
    largest = float(finite[np.isfinite(finite)].max(initial=0.0))
    return CutNodes(cut, reaching, expected, ROUNDING_SHARE.get(actual.dtype.name, 0.0) * largest)


def _selected(producers: Mapping[str, NodeProto], value: str, belongs: Callable[[NodeProto], bool]) -> list[NodeProto]:
    """The nodes on the way to ``value`` that belong together, and the constants that they need."""
    found: dict[int, NodeProto] = {}
    waiting = [value]
    while waiting:
        node = producers.get(waiting.pop())
        if node is None or id(node) in found or not (belongs(node) or node.op_type in CONSTANT_OPERATORS):
            continue
        found[id(node)] = node
        waiting += names_read(node)
    in_order = {id(node): position for position, node in enumerate(producers.values())}
    return sorted(found.values(), key=lambda node: in_order[id(node)])


def _model(
    whole: ModelProto, nodes: Sequence[NodeProto], value: str, known: Mapping[str, Any]
) -> tuple[ModelProto, dict[str, Array]]:
    """A model of ``nodes`` whose output is ``value``, with the tensors that reach them by the names of its inputs."""
    made = {name for node in nodes for name in node.output}
    needed = list(dict.fromkeys(name for node in nodes for name in names_read(node) if name not in made))
    initializers = [each for each in whole.graph.initializer if each.name in needed]
    stored = {each.name for each in initializers}
    inputs = [name for name in needed if name not in stored]
    if any(not isinstance(known.get(name), np.ndarray) for name in inputs):
        raise NotCut("some of its inputs are not tensors")
    new = _neutral_names(nodes, inputs, [each.name for each in initializers], value)
    graph = helper.make_graph(
        [_renamed(node, new) for node in nodes],
        "cut",
        [helper.make_value_info(new[name], _type(known[name])) for name in inputs],
        [helper.make_value_info(new[value], _type(known[value]))],
        [from_array(to_array(each), new[each.name]) for each in initializers],
    )
    # The domain of a function that was inlined is a name of the user's.
    read = {node.domain or "" for node in _with_inner(nodes)} | {""}
    opsets = [each for each in whole.opset_import if each.domain in {*read, "ai.onnx"}]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=whole.ir_version)
    return model, {new[name]: known[name] for name in inputs}


def _neutral_names(
    nodes: Sequence[NodeProto], inputs: Sequence[str], initializers: Sequence[str], value: str
) -> dict[str, str]:
    """Names that reveal nothing of the model: exporters write paths of modules into the names of values."""
    new = {name: f"input_{index}" for index, name in enumerate(inputs)}
    new |= {name: f"weight_{index}" for index, name in enumerate(initializers)}
    new[value] = "output_0"
    for name in (name for node in nodes for name in _mentioned(node)):
        new.setdefault(name, f"value_{len(new)}")
    return new


def _with_inner(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes and those of their inner graphs."""
    for node in nodes:
        yield node
        for graph in inner_graphs(node):
            yield from _with_inner(graph.node)


def _mentioned(node: NodeProto) -> Iterator[str]:
    """Every name of a value in a node and in its inner graphs."""
    yield from filter(None, (*node.input, *node.output))
    for graph in inner_graphs(node):
        yield from (each.name for each in (*graph.input, *graph.initializer, *graph.output))
        yield from (name for inner in graph.node for name in _mentioned(inner))


def _renamed(node: NodeProto, new: Mapping[str, str]) -> NodeProto:
    """A copy of the node with other names, and without what exporters note: places in the source code, for example."""
    copy = NodeProto()
    copy.CopyFrom(node)
    _remove_notes(copy)
    copy.input[:] = [new[name] if name else "" for name in node.input]
    copy.output[:] = [new[name] if name else "" for name in node.output]
    copy.ClearField("name")
    for attribute in copy.attribute:
        for tensor in (*((attribute.t,) if attribute.HasField("t") else ()), *attribute.tensors):
            tensor.ClearField("name")
    for graph in inner_graphs(copy):
        for each in (*graph.input, *graph.initializer, *graph.output):
            each.name = new[each.name]
        renamed = [_renamed(inner, new) for inner in graph.node]
        for field in ("value_info", "quantization_annotation", "node"):
            graph.ClearField(field)
        graph.name = "branch"
        graph.node.extend(renamed)
    return copy


def _remove_notes(message: Message) -> None:
    """Remove the notes of exporters and the names of open axes from ``message`` and from all that it holds."""
    for field, value in message.ListFields():
        if field.name in NOTES:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for each in (value,) if isinstance(value, Message) else value:
                _remove_notes(each)


def _type(values: Array) -> TypeProto:
    return helper.make_tensor_type_proto(from_array(values[:0] if values.ndim else values).data_type, values.shape)
