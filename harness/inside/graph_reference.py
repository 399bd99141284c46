"""An ONNX file as a reference that shows its inside: each node is a layer, and float64 is the file's own evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto, helper

from harness.blame.evaluator import evaluate_model, not_believed_reason
from harness.blame.file_runs import error_summary
from harness.data_files.onnx_files import names_read
from harness.inside.calls import Call, NotVisible, Recording, ValueStore, Visit
from harness.inside.graph import Graph
from harness.inside.pairing import node_name

Array = NDArray[Any]

MAX_ARGUMENTS = 200


class GraphReference:
    """The inside of the file at ``path``, which ``graph`` runs as it is meant to be computed: without optimization."""

    def __init__(self, graph: Graph, path: Path, store: ValueStore) -> None:
        self._graph, self._path, self._store = graph, path, store
        self._keys = graph.run(graph.visible, {})
        self.recording = self._recorded()

    def float64(self, cuts: frozenset[int], visit: Visit) -> None:
        """See :class:`harness.inside.calls.ReferenceInside`."""
        if reason := not_believed_reason(self._path):
            raise NotVisible(f"no float64 run of the reference's layers: {reason}")
        recording = self.recording
        forced = {recording.names[number]: recording.keys[number] for number in cuts if recording.names[number]}
        numbers = {name: number for number, name in enumerate(recording.names) if name in self._keys}
        try:
            found = self._graph.run(list(numbers), forced, evaluate_model)
        except Exception as error:
            raise NotVisible(f"the reference's nodes cannot be evaluated: {error_summary(error)}") from error
        for name, key in found.items():
            visit(numbers[name], self._store[key])

    def _recorded(self) -> Recording:
        recording = Recording(self._store)
        numbers = {name: recording.add(self._store.put(values)) for name, values in self._graph.inputs.items()}
        recording.inputs = tuple(numbers.values())
        for node in self._graph.nodes:
            outputs = [name for name in node.output if name in self._keys]
            if not outputs:
                continue
            numbers |= {name: recording.add(self._keys[name], name) for name in outputs}
            name = node_name(node)
            recording.calls.append(
                Call(
                    path=name,
                    scope=name,
                    type=node.op_type,
                    arguments=_attributes(node),
                    inputs=tuple(dict.fromkeys(numbers[each] for each in names_read(node) if each in numbers)),
                    outputs=tuple(numbers[each] for each in outputs),
                )
            )
        recording.results = tuple(numbers[name] for name in self._graph.outputs if name in numbers)
        return recording


def _attributes(node: NodeProto) -> str:
    shown = []
    for attribute in node.attribute:
        if attribute.type in {attribute.TENSOR, attribute.GRAPH, attribute.GRAPHS, attribute.SPARSE_TENSOR}:
            continue
        value = helper.get_attribute_value(attribute)
        shown.append(f"{attribute.name}={value.decode(errors='replace') if isinstance(value, bytes) else value}")
    text = ", ".join(shown)
    return text if len(text) <= MAX_ARGUMENTS else f"{text[:MAX_ARGUMENTS]}..."
