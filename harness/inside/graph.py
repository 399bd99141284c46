"""An ONNX graph as a model under test that shows its inside.

:meth:`Graph.run` returns any values of the graph, in one run of the target's runtime or in several that each return
what fits into the store's memory. A value can be *forced*: every node that reads it then gets the value that is given,
and what the graph itself computes for it is still returned. With the values of all layers forced to those of the
reference, one run shows the error of each layer by itself. :func:`nodes_by_call` are the nodes that an exporter
wrote for each call of a layer, by the scope that it gave to each node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from harness.blame.disagreement import QUANTIZING_OPERATORS
from harness.data_files.onnx_files import names_read, read_model, sort_nodes
from harness.exporters import Artifact
from harness.inside.calls import Call, ValueStore
from harness.inside.nodes.matching import NAME_SCOPES, first_output, owners
from harness.registry import plugins
from harness.runtimes import Session
from harness.spec.targets import Target

Array = NDArray[Any]

Answer = Callable[[ModelProto, Mapping[str, Array]], Mapping[str, Array]]

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
NARROW = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
RANDOM = frozenset({"RandomNormal", "RandomUniform", "Bernoulli", "Multinomial"})

COMPUTED = "computed:"
"""Before the name of a forced value, as the graph itself computes it."""
LARGEST_MODEL = 2**31 - 2**24
"""Bytes beyond which a protobuf has its weights in a file of their own."""


class Graph:
    """The graph of ``artifact`` on the runtime of ``target``, with the model's ``inputs``."""

    def __init__(self, artifact: Artifact, target: Target, inputs: Mapping[str, Array], store: ValueStore) -> None:
        self._artifact, self._target, self._store = artifact, target, store
        self.inputs, self.path = inputs, artifact.path
        self.model = read_model(artifact.path)
        self.unnamed = {
            f"{node.op_type}_{position}": next((name for name in node.output if name), "")
            for position, node in enumerate(each for each in self.model.graph.node if each.op_type != "Constant")
            if not node.name
        }
        """The first output of each node without a name, by ONNX Runtime's name for it: constants are no nodes there."""
        sort_nodes(self.model)
        self.initializers = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.positions = {name: at for at, name in enumerate(self.producers)}
        self._types = {value.name: value.type for value in (*self.model.graph.value_info, *self.model.graph.output)}
        self.constants = self._constants()
        self._files = 0

    @property
    def nodes(self) -> Sequence[NodeProto]:
        """The nodes of the graph, in an order in which they can be computed."""
        nodes: Sequence[NodeProto] = self.model.graph.node
        return nodes

    @property
    def visible(self) -> list[str]:
        """The names of all tensors that nodes compute from the model's inputs, in order."""
        return [name for name in self.producers if name not in self.constants and self._is_tensor(name)]

    @property
    def narrow_dtype(self) -> str | None:
        """The 16-bit type that most floating weights have; None if most are wider."""
        types = [tensor.data_type for tensor in self.model.graph.initializer if tensor.data_type in FLOATS]
        narrow = max(NARROW, key=types.count)
        return NARROW[narrow] if 2 * types.count(narrow) > len(types) else None

    @property
    def quantizes(self) -> bool:
        """True if the graph rounds values to a grid, so that float64 is no measure for its layers."""
        return any(node.op_type.startswith(QUANTIZING_OPERATORS) or "Integer" in node.op_type for node in self.nodes)

    def is_constant(self, node: NodeProto) -> bool:
        """True if no output of ``node`` depends on an input of the model."""
        return all(name in self.constants for name in node.output if name)

    @property
    def outputs(self) -> list[str]:
        """The names of the graph's outputs."""
        return [output.name for output in self.model.graph.output]

    def run(self, wanted: Sequence[str], forced: Mapping[str, str], answer: Answer | None = None) -> dict[str, str]:
        """The keys of the values ``wanted``, as the graph computes them. ``forced`` has the keys of given values.

        ``answer`` runs a model on inputs; default: the target's runtime.
        """
        known = {name: self._store.put(values) for name, values in self.inputs.items()}
        results: dict[str, str] = {}
        for nodes, names in self._parts(wanted, self.nodes_behind(wanted, forced)):
            keys = {**known, **forced}
            part = self._part(nodes, names, forced, keys)
            if not part.graph.output:
                continue
            inputs = {each.name: self._store[keys[each.name]] for each in part.graph.input}
            for name, values in (answer or self._answer)(part, inputs).items():
                key = self._store.put(values)
                plain = name.removeprefix(COMPUTED)
                known[plain] = key
                if plain in wanted:
                    results[plain] = key
        return results

    def as_read(self, key: str, like: str) -> str:
        """The key of the values under ``key`` in the dtype of those under ``like``, which they replace."""
        values, dtype = self._store[key], self._store[like].dtype
        if values.dtype == dtype:
            return key
        with np.errstate(over="ignore"):
            return self._store.put(values.astype(dtype))

    def nodes_behind(self, names: Sequence[str], cuts: Mapping[str, object]) -> list[NodeProto]:
        """The nodes that compute ``names``, back to the values in ``cuts``, in the graph's order."""
        needed: dict[int, NodeProto] = {}
        waiting = list(names)
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is None or id(node) in needed:
                continue
            needed[id(node)] = node
            waiting += [name for name in names_read(node) if name not in cuts]
        return [node for node in self.nodes if id(node) in needed]

    def _parts(
        self, wanted: Sequence[str], all_nodes: Sequence[NodeProto]
    ) -> Iterator[tuple[list[NodeProto], list[str]]]:
        """Consecutive nodes, with the wanted values among their outputs: as many as the store's memory holds."""
        names = set(wanted)
        unknown = max((self._bytes(name) or 0 for name in names), default=0)
        nodes: list[NodeProto] = []
        chosen: list[str] = []
        size = 0
        for node in all_nodes:
            returned = [name for name in node.output if name in names]
            returned_bytes = sum(self._bytes(name) or unknown for name in returned)
            if chosen and size + returned_bytes > self._store.max_bytes:
                yield nodes, chosen
                nodes, chosen, size = [], [], 0
            nodes.append(node)
            chosen += returned
            size += returned_bytes
        if nodes:
            yield nodes, chosen

    def _part(
        self, nodes: Sequence[NodeProto], names: Sequence[str], forced: Mapping[str, str], known: Mapping[str, str]
    ) -> ModelProto:
        """A model of ``nodes`` whose outputs are ``names`` and what later nodes read of these nodes."""
        inside = {name for node in nodes for name in node.output if name}
        ids = {id(node) for node in nodes}
        read = {name for node in nodes for name in names_read(node)}
        later = {name for node in self.nodes if id(node) not in ids for name in names_read(node)}
        further = [name for name in inside if name in later and name not in forced and name not in names]
        model = ModelProto()
        model.CopyFrom(_without_graph(self.model))
        graph = model.graph
        graph.name = "part"
        for node in nodes:
            copy = graph.node.add()
            copy.CopyFrom(node)
            for index, name in enumerate(copy.output):
                if name in forced:
                    copy.output[index] = COMPUTED + name
        graph.initializer.extend(self.initializers[name] for name in sorted(read & self.initializers.keys()))
        for name in sorted(read - self.initializers.keys()):
            if name in forced or name not in inside:
                graph.input.append(self._described(name, known))
        whole = len(nodes) == len(self.nodes)
        for name in (*names, *(() if whole else sorted(self._tensors(further)))):
            graph.output.append(self._output(name, COMPUTED + name if name in forced else name))
        return model

    def _tensors(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self._is_tensor(name)]

    def _described(self, name: str, known: Mapping[str, str]) -> onnx.ValueInfoProto:
        if name not in known:
            raise ValueError(f"the value {name!r} is no tensor, so the graph cannot be run in parts")
        values = self._store[known[name]]
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)

    def _output(self, name: str, shown: str) -> onnx.ValueInfoProto:
        # The shape is left open: inference before opset 22 is wrong about some pooling operators.
        described = self._types.get(name)
        elem_type = 0 if described is None else described.tensor_type.elem_type
        if elem_type:
            return helper.make_tensor_value_info(shown, elem_type, None)
        return helper.make_empty_tensor_value_info(shown)

    def _answer(self, model: ModelProto, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        self._files += 1
        path = self._store.folder / f"part-{self._files}.onnx"
        if model.ByteSize() > LARGEST_MODEL:
            onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
        else:
            onnx.save(model, str(path))
        runtime = plugins("runtimes")[self._target.runtime]
        session: Session = runtime.load(replace(self._artifact, path=path), self._target.options)
        try:
            return session.run(inputs)
        finally:
            session.close()
            path.unlink(missing_ok=True)

    def _is_tensor(self, name: str) -> bool:
        return name not in self._types or self._types[name].HasField("tensor_type")

    def _bytes(self, name: str) -> int | None:
        """The bytes of a value whose whole shape is declared."""
        described = self._types.get(name)
        if described is None or not described.tensor_type.HasField("shape"):
            return None
        size = 1
        for dimension in described.tensor_type.shape.dim:
            if not dimension.HasField("dim_value"):
                return None
            size *= dimension.dim_value
        return size * _width(described.tensor_type.elem_type)

    def _constants(self) -> frozenset[str]:
        """The names of values that depend on no input of the model: weights and what is computed from them alone."""
        constants = set(self.initializers)
        for node in self.nodes:
            if node.op_type not in RANDOM and all(name in constants for name in names_read(node)):
                constants |= set(node.output)
        return frozenset(constants - {value.name for value in self.model.graph.input if value.name in self.inputs})


def _without_graph(model: ModelProto) -> ModelProto:
    """The head of a model: its versions and opsets."""
    head = ModelProto(ir_version=model.ir_version)
    head.opset_import.extend(model.opset_import)
    return head


def _width(elem_type: int) -> int:
    if elem_type in {TensorProto.UNDEFINED, TensorProto.STRING}:
        return 8
    return int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize)


@dataclass(frozen=True, slots=True)
class _Group:
    """Nodes of one layer that follow each other, with the text of their scope."""

    path: str
    scope: str
    nodes: list[NodeProto]


def nodes_by_call(graph: Graph, calls: Sequence[Call]) -> list[tuple[Call, list[NodeProto]]]:
    """The calls whose nodes are known, with those nodes. Calls of one layer are distinguished by scope or by order."""
    groups = _groups(graph, [call.scope for call in calls])
    calls_of: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        calls_of[call.scope].append(call)
    pairs: list[tuple[Call, list[NodeProto]]] = []
    for path, same_scope in calls_of.items():
        pairs += zip(same_scope, _by_call(groups.get(path, []), len(same_scope)), strict=False)
    return pairs


def _groups(graph: Graph, called: Sequence[str]) -> dict[str, list[_Group]]:
    groups: dict[str, list[_Group]] = defaultdict(list)
    last: _Group | None = None
    nodes = [node for node in graph.nodes if not graph.is_constant(node)]
    paths = owners(nodes, called)
    for node in nodes:
        path = paths.get(first_output(node))
        if path is None:
            continue
        scope = _scope(node)
        if last is None or (last.path, last.scope) != (path, scope):
            last = _Group(path, scope, [])
            groups[path].append(last)
        last.nodes.append(node)
    return groups


def _by_call(groups: Sequence[_Group], calls: int) -> list[list[NodeProto]]:
    """The nodes of each of ``calls`` calls of one layer; none if they cannot be distinguished."""
    if not groups:
        return []
    if calls == 1:
        return [[node for group in groups for node in group.nodes]]
    if len(groups) == calls:
        return [group.nodes for group in groups]
    by_scope: dict[str, list[NodeProto]] = defaultdict(list)
    for group in groups:
        by_scope[group.scope] += group.nodes
    return list(by_scope.values()) if len(by_scope) == calls else []


def _scope(node: NodeProto) -> str:
    for entry in node.metadata_props:
        if entry.key == NAME_SCOPES:
            return str(entry.value)
    return node.name.rpartition("/")[0]
