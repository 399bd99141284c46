"""The layers of a model that a transform lowers, and the model with some of them kept in float32.

A layer is what one module of the network became: the nodes of one scope, as the exporters write it. A node without a
scope is a layer of its own, and so is each node of a scope that holds several weight matrices. Scopes that share a
weight matrix are one layer.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from harness.errors import StageError, Unsupported, UsageError
from harness.exporters import Artifact
from harness.exporters._files import sha256, sibling_files
from harness.registry import plugins
from harness.spec.targets import parse_target
from harness.transforms import MAX_NODES
from harness.transforms._apply import transformed

Array = NDArray[Any]

KEEP_OPTIONS = ("exclude", "keep_nodes")
"""The option of a transform that names the nodes which it leaves in float32."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where the dynamo exporter writes the modules that a node comes from."""
UNTYPED = frozenset({"Constant", "ConstantOfShape", "Cast", "Identity", "Shape"})
"""Nodes whose precision is that of the nodes that read them."""

MOVES = UNTYPED | {
    *("Concat", "Expand", "Flatten", "Gather", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
}
"""Nodes that compute nothing: whether they are lowered changes no result."""
PRODUCTS = frozenset({"Attention", "Conv", "ConvTranspose", "Einsum", "Gemm", "GRU", "LSTM", "MatMul", "RNN"})
"""Operators that a quantizer lowers, if at all, for their constant weights."""


@dataclass(frozen=True, slots=True)
class NotLowered:
    """The nodes of one operator that stay in float32 although nothing was kept, and why they do."""

    operator: str
    nodes: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        nodes = ", ".join(self.nodes[:MAX_NODES]) + (", ..." if len(self.nodes) > MAX_NODES else "")
        return f"{len(self.nodes)} {self.operator} ({self.reason}): {nodes}"


@dataclass(frozen=True, slots=True)
class Layer:
    """Nodes that are lowered or kept together. ``operators`` are theirs, each once."""

    name: str
    nodes: tuple[str, ...]
    operators: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.operators)})"


def keep_option(word: str) -> str:
    """The option of the transform ``word`` that keeps nodes in float32.

    Raises :class:`UsageError` for a word that is no transform, and for a transform without such an option.
    """
    known = {name: _keep_option(each) for name, each in plugins("transforms").items()}
    fitting = ", ".join(name for name, option in known.items() if option)
    if word not in known:
        raise UsageError(f"--to {word}: no such transform; use one of {fitting}")
    option = known[word]
    if option is None:
        raise UsageError(f"--to {word}: it keeps no layer in float32; use one of {fitting}")
    return option


def _keep_option(transform: Any) -> str | None:
    return next((name for name in KEEP_OPTIONS if name in transform.options), None) if transform.precision else None


@dataclass(frozen=True, slots=True)
class Lowering:
    """A transform and its options, without the one that keeps nodes."""

    word: str
    options: Mapping[str, str]

    def __str__(self) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.word}?{options}" if options else self.word


def parse_lowering(text: str) -> Lowering:
    """``int8`` or ``int8?per_channel=on``. Raises :class:`UsageError` for what no target would accept."""
    word, _, options = text.removeprefix("+").partition("?")
    option = keep_option(word)
    target = parse_target(f"file:model+{word}{f'?{options}' if options else ''}/ort-cpu")
    if option in target.export_options:
        raise UsageError(f"--to {text}: {option} is what this command finds; leave it out")
    return Lowering(word, dict(target.export_options))


def lower(
    source: Artifact,
    lowering: Lowering,
    kept: Iterable[str],
    samples: Sequence[Mapping[str, Array]],
    path: Path,
) -> Artifact:
    """``source`` with everything lowered but the nodes ``kept``, written to ``path``.

    Raises the error of the transform, and :class:`StageError` for a node that is lowered although it is to be kept.
    """
    option = keep_option(lowering.word)
    names = list(kept)
    if odd := next((name for name in names if "," in name), None):
        raise StageError(f"+{lowering.word}: the node {odd} cannot be kept, because its name has a comma")
    target = replace(
        parse_target(f"file:model+{lowering.word}/ort-cpu"),
        export_options={**lowering.options, **({option: ",".join(names)} if names else {})},
    )
    artifact = transformed(source, path, target, samples)
    return replace(artifact, digest=sha256(path, *sibling_files(path)))


def lowered_nodes(source: Path, lowered: Path) -> set[str]:
    """The nodes of ``source`` that compute in a lower precision in ``lowered``.

    A node is lowered if it writes 16-bit values that were float32, reads dequantized ones or a quantized weight, or was
    replaced.
    """
    import onnx

    before, after = (onnx.load(str(path), load_external_data=False) for path in (source, lowered))
    nodes = {node.name: node for node in after.graph.node}
    half = _of_type(after, {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
    half_before = _of_type(before, {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
    dequantized = {name for node in after.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    codes = _stored_codes(after) - _stored_codes(before)
    lowered_names = set()
    for node in before.graph.node:
        if node.op_type in UNTYPED:
            continue
        # The dynamic quantizer replaces a Gemm by a MatMul in float32 before it looks which nodes are to be kept.
        other = nodes.get(node.name) or nodes.get(f"{node.name}_MatMul")
        if other is None or set(other.input) & (dequantized | codes) or (set(other.output) & half) - half_before:
            lowered_names.add(node.name)
    return lowered_names


def _stored_codes(model: Any) -> set[str]:
    """The stored tensors of 8 bits: a Gather of quantized embeddings keeps its name, and reads one."""
    import onnx

    codes = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    return {each.name for each in model.graph.initializer if each.data_type in codes}


def _of_type(model: Any, types: set[int]) -> set[str]:
    import onnx

    with suppress(Exception):  # a file beyond 2 GiB, or operators that are not ONNX's: what it declares counts
        model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    values = (*graph.value_info, *graph.output, *graph.input)
    declared = {value.name for value in values if value.type.tensor_type.elem_type in types}
    return declared | {each.name for each in graph.initializer if each.data_type in types}


def not_lowered(source: Path, lowered: set[str], word: str) -> tuple[NotLowered, ...]:
    """The nodes of ``source`` that compute with floating-point values and are not among ``lowered``, by operator."""
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    floats = _of_type(model, {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
    matrices = {each.name for each in model.graph.initializer if len(each.dims) >= 2}
    operators = {node.op_type for node in model.graph.node if node.name in lowered}
    quantizes = plugins("transforms")[word].precision in {"int8", "int4"}
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in model.graph.node:
        if node.name in lowered or node.op_type in MOVES or not (floats & {*node.output} or node.domain):
            continue
        if quantizes and node.op_type in PRODUCTS and not matrices & {*node.input}:
            reason = "no constant weights"
        elif node.op_type in operators:
            reason = f"+{word} lowers other nodes of this operator only"
        else:
            reason = f"+{word} does not lower this operator"
        found[node.op_type, reason].append(node.name)
    weighted = sorted(found.items(), key=lambda each: each[0][0] not in PRODUCTS)
    return tuple(NotLowered(operator, tuple(nodes), reason) for (operator, reason), nodes in weighted)


def layers_of(source: Path, lowered: set[str]) -> tuple[Layer, ...]:
    """The layers of the file at ``source`` that have nodes among ``lowered``, in the order of the graph."""
    import onnx

    graph = onnx.load(str(source), load_external_data=False).graph
    matrices = {each.name for each in graph.initializer if len(each.dims) >= 2}
    scopes: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        if node.name in lowered:
            scopes[_scope(node) or f"\0{node.name}"].append(node)
    layers: list[Layer] = []
    for scope, nodes in _joined(scopes, matrices):
        with_weights = len({name for node in nodes for name in node.input} & matrices)
        groups = [nodes] if with_weights < 2 else [[node] for node in nodes]
        for group in groups:
            name = group[0].name if scope.startswith("\0") or len(groups) > 1 else scope
            operators = tuple(dict.fromkeys(node.op_type for node in group))
            layers.append(Layer(name, tuple(node.name for node in group), operators))
    if not layers:
        raise Unsupported("nothing is lowered: no node of the file has another precision afterwards")
    return tuple(layers)


def _joined(scopes: Mapping[str, list[Any]], matrices: set[str]) -> list[tuple[str, list[Any]]]:
    """The scopes with their nodes; those that share a weight matrix are one, because it is lowered for all or none."""
    joined: list[tuple[str, list[Any], set[str]]] = []
    for scope, nodes in scopes.items():
        read = {name for node in nodes for name in node.input} & matrices
        sharing = next((each for each in joined if each[2] & read), None)
        if sharing is None:
            joined.append((scope, list(nodes), read))
        else:
            sharing[1].extend(nodes)
            sharing[2].update(read)
    return [(scope, nodes) for scope, nodes, _ in joined]


def _scope(node: Any) -> str | None:
    """The module that the node comes from, such as ``layer1.0.conv1``; None for the network itself."""
    for each in node.metadata_props:
        if each.key == SCOPES:
            scopes = ast.literal_eval(each.value)  # a list of texts
            return next((scope for scope in reversed(scopes[:-1]) if scope), None)
    return node.name.rpartition("/")[0].strip("/") or None
