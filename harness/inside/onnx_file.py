"""An ONNX file that shows its inside: under test (:class:`GraphSubject`), or as a reference (:class:`GraphReference`).

Under test, its values that belong to the tensors of the reference are found by :class:`harness.inside.search.Search`,
as they came and by themselves. All found values are forced to the reference's tensors, and what is left is searched
again among what the graph computes then, until nothing more is found. As a reference, each node is a layer, and float64
is the file's own evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import NodeProto, helper

from harness.blame.evaluator import evaluate_model, not_believed_reason
from harness.blame.file_runs import error_summary
from harness.data_files.onnx_files import names_read
from harness.inside.calls import (
    Array,
    Call,
    Match,
    NotVisible,
    Pairing,
    Recording,
    ValueStore,
    Visit,
    shortened_arguments,
)
from harness.inside.doubts import Doubts
from harness.inside.graph import Graph
from harness.inside.nodes.cut import CutNodes, NotCut, cut_between
from harness.inside.search import Search

MAX_ROUNDS = 6
MAX_TRIALS = 40
"""Runs of small parts of the graph in search of a place."""


class GraphSubject:
    """An ONNX graph under test. ``exported`` is True if an exporter made it here, so that its outputs are in order.

    ``matched`` are the values that belong to tensors of the reference; None to search for them.
    """

    def __init__(
        self, graph: Graph, store: ValueStore, *, exported: bool, matched: Mapping[int, Match] | None = None
    ) -> None:
        self._graph, self._store, self._exported, self._matched = graph, store, exported, matched
        self._names: dict[int, str] = {}
        self._forced: dict[str, str] = {}

    is_program = False

    @property
    def quantizes(self) -> bool:
        """True if the graph rounds values to a grid, so that float64 is no measure for its layers."""
        return self._graph.quantizes

    def name_of(self, profiled: str) -> str:
        """A node's name, or the output that stands for it, by the name that ONNX Runtime gives the node."""
        return self._graph.unnamed.get(profiled, profiled)

    def evaluated(self, number: int) -> Array | str:
        """See :class:`harness.inside.calls.SubjectInside`."""
        name = self._names[number]
        if (reason := not_believed_reason(self._graph.path)) is not None:
            return reason
        forced = {other: key for other, key in self._forced.items() if other != name}
        try:
            return self._store[self._graph.run([name], forced, evaluate_model)[name]]
        except Exception as error:  # noqa: BLE001 - the reason is given as evidence
            return f"the layer's part of the file could not be evaluated in float64: {error_summary(error)}"

    def paired(self, recording: Recording) -> Pairing:
        """See :class:`harness.inside.calls.SubjectInside`."""
        graph = self._graph
        accumulated = graph.run(graph.visible, {})
        if self._matched is None:
            matches, self._forced, local = self._searched(recording, accumulated)
        else:
            matches = {number: match for number, match in self._matched.items() if match.name in accumulated}
            keys = {match.name: recording.keys[number] for number, match in matches.items()}
            self._forced = {name: graph.as_read(key, accumulated[name]) for name, key in keys.items()}
            local = graph.run(list(self._forced), self._forced)
        self._names = names = {number: match.name for number, match in matches.items()}
        forced = self._forced.keys()
        nodes = {
            number: [
                node
                for node in graph.nodes_behind([name], dict.fromkeys(forced - {name}))
                if not graph.is_constant(node)
            ]
            for number, name in names.items()
        }
        behind = {id(node) for group in nodes.values() for node in group}
        left = [node for node in graph.nodes if id(node) not in behind and not graph.is_constant(node)]
        return Pairing(
            accumulated={number: accumulated[name] for number, name in names.items()},
            local={number: local[name] for number, name in names.items()},
            names=names,
            how={number: match.how for number, match in matches.items()},
            nodes={number: tuple(map(node_name, group)) for number, group in nodes.items() if group},
            nonfinite=self._first_nonfinite(recording, names, nodes, accumulated),
            uncovered=tuple(f"{node.op_type} {node_name(node)}" for node in left),
        )

    def _searched(
        self, recording: Recording, accumulated: Mapping[str, str]
    ) -> tuple[dict[int, Match], dict[str, str], dict[str, str]]:
        """The values found, the keys that they are forced to, and the keys of what the graph then computes."""
        graph = self._graph
        search = Search(recording, graph, self._store, accumulated, exported=self._exported)
        search.by_result()
        search.by_scope()
        search.by_name(if_close=True)
        search.by_value(accumulated)
        search.by_name()
        local = self._forced_values(search)
        if Doubts(search, recording, graph, self._store, accumulated).settle(local):
            local = self._forced_values(search)
        trials = 0 if graph.quantizes else MAX_TRIALS  # what follows agrees there with other values, too
        for _ in range(MAX_ROUNDS):
            before = len(search.names)
            search.by_value(local)
            if len(search.names) == before:
                trials -= search.by_place(trials)
            if len(search.names) == before:
                search.by_result(by_shape=True)
            if len(search.names) == before:
                break
            local = self._forced_values(search)
        names = {number: name for number, name in search.names.items() if name in local}
        return {number: Match(name, search.how[number]) for number, name in names.items()}, search.forced, local

    def cut(self, recording: Recording, value: str) -> CutNodes:
        """The nodes of the layer whose output is ``value``, with the reference's tensors on both sides.

        Raises :class:`harness.inside.nodes.cut.NotCut`.
        """
        local = self.paired(recording).local
        number = next((number for number, name in self._names.items() if name == value), None)
        if number is None:
            raise NotCut("its value is not found again")
        before = {name: self._store[key] for name, key in self._forced.items() if name != value}
        known = {**self._graph.inputs, **before, value: self._store[local[number]]}
        nodes = self._graph.nodes_behind([value], before)
        return cut_between(self._graph.model, nodes, value, known, recording.values(number))

    def _forced_values(self, search: Search) -> dict[str, str]:
        wanted = self._graph.visible if search.has_unmatched else list(search.forced)
        return self._graph.run(wanted, search.forced)

    def _first_nonfinite(
        self,
        recording: Recording,
        names: Mapping[int, str],
        nodes: Mapping[int, Sequence[NodeProto]],
        accumulated: Mapping[str, str],
    ) -> dict[int, str]:
        """The first tensor with a NaN or an infinity that the reference does not have, and the node that begins it."""
        for number, name in sorted(names.items()):
            values, reference = self._store[accumulated[name]], recording.values(number)
            if values.dtype.kind not in "fV" or reference.dtype.kind not in "fV":
                continue
            new = ~_finite(values) & _finite(reference)
            if new.any():
                is_nan = bool(np.isnan(values.astype(np.float64)[new]).any())
                first = next((node for node in nodes[number] if self._begins(node, accumulated, is_nan=is_nan)), None)
                return {} if first is None else {number: node_name(first)}
        return {}

    def _begins(self, node: NodeProto, accumulated: Mapping[str, str], *, is_nan: bool) -> bool:
        """Whether outputs of ``node`` have a NaN, or an infinity, and its inputs have none."""

        def has(names: Sequence[str]) -> bool:
            tensors = (self._store[accumulated[name]] for name in names if name in accumulated)
            test = np.isnan if is_nan else np.isinf
            return any(each.dtype.kind in "fV" and bool(test(each.astype(np.float64)).any()) for each in tensors)

        return has(node.output) and not has(node.input)


def _finite(values: Array) -> Array:
    finite: Array = np.isfinite(values.astype(np.float64))
    return finite


def node_name(node: NodeProto) -> str:
    """The name of a node, else that of its first output."""
    return node.name or next((name for name in node.output if name), node.op_type)


class GraphReference:
    """The inside of the file at ``path``, which ``graph`` runs as it is meant to be computed: without optimization."""

    matched = None
    notes = ()

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
    return shortened_arguments(shown)
