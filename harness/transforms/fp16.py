"""``+fp16``: computes in float16. ONNX Runtime's own converter; inputs and outputs keep their dtypes by default.

The converter rounds every value to float16, also one that a node in float32 hands to another: a Cast to float16 and one
back stand between them. A value beyond float16's range is then lost although both nodes are kept. These pairs are
removed (:func:`without_round_trips`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.data_files.onnx_files import all_nodes
from harness.errors import UsageError
from harness.transforms import (
    KEEP_IO,
    SWITCH,
    LowersNothing,
    Precision,
    Transform,
    TransformRequest,
    names_in,
    require_float32,
    require_names,
    require_nodes,
    require_onnxruntime_tools,
    require_precision,
    sorted_or_refused,
)

_TAKES_FLOAT_INPUT = frozenset({"Resize", "GroupNormalization"})
"""Operators with an input that is always float32, such as the scales of Resize; the converter knows them."""
_QUANTIZED = re.compile("DynamicQuantize|MatMulInteger|QLinear|QGemm|QAttention|QEmbed|QMoE|QOrdered")
"""ONNX Runtime's operators on quantized values: their scales are float32."""
_LARGEST_PROBE = 1 << 30
"""Bytes of a model above which ONNX Runtime is not asked for types: it would take another copy."""
_TYPES = {"tensor(float)": 1, "tensor(float16)": 10, "tensor(bfloat16)": 16}  # onnx.TensorProto


class Fp16(Transform):
    """``onnxruntime.transformers.float16.convert_float_to_float16``.

    The converter's default list of operators that stay in float32 applies; ``block`` replaces it. Nodes that stay in
    float32 pass each other float32: the converter alone rounds every value between them to float16, so that a value
    beyond its range is lost although both nodes are kept.
    """

    name = "fp16"
    precision: Precision | None = "float16"

    options: Mapping[str, str] = {
        "block": "operators that stay in float32, separated by ; (default: the converter's own list)",
        "keep_nodes": "names of nodes that stay in float32, separated by ;",
        KEEP_IO: "inputs and outputs stay in float32: on or off (default: on)",
    }

    def check(self, options: Mapping[str, str]) -> None:
        """See :class:`harness.transforms.Transform`."""
        require_names(options, ("block", "keep_nodes"))
        if options.get(KEEP_IO, "on") not in SWITCH:
            raise UsageError(f"{KEEP_IO}={options[KEEP_IO]} is unknown; write on or off")

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`."""
        require_onnxruntime_tools(self.name)
        import onnx
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

        options, model = request.options, onnx.load(str(source))
        require_float32(request.word, model)
        require_nodes(model, names_in(options.get("keep_nodes")))
        opsets = {each.domain or "ai.onnx": each.version for each in model.opset_import}
        blocked = {*(names_in(options["block"]) if "block" in options else DEFAULT_OP_BLOCK_LIST)}
        blocked |= {each.op_type for each in all_nodes(model.graph.node) if not takes(each, opsets, "tensor(float16)")}
        kept = {*names_in(options.get("keep_nodes")), *scaling_nodes(model)}
        declare_types(model)
        before = len(model.graph.node)
        converted = convert_float_to_float16(
            model,
            keep_io_types=SWITCH[options.get(KEEP_IO, "on")],
            op_block_list=sorted(blocked),
            node_block_list=sorted(kept),
        )
        if not without_round_trips(converted, before):
            raise LowersNothing(f"+{request.word} lowers nothing: every node stays in float32")
        sorted_or_refused(converted)
        onnx.save(converted, str(destination))
        if SWITCH[options.get(KEEP_IO, "on")]:
            require_precision(request.word, source, destination, ("Cast",), "floating-point values")


def takes(node: Any, opsets: Mapping[str, int], dtype: str) -> bool:
    """True if the operator takes and gives ``dtype``, such as ``tensor(float16)``, wherever it does float32.

    ONNX's own schemas say so. An operator that they do not have is one of ONNX Runtime's: it takes float16, unless it
    works on quantized values, and no bfloat16.
    """
    from onnx import defs

    domain = node.domain or "ai.onnx"
    try:
        schema = defs.get_schema(node.op_type, opsets.get(domain, 1), "" if domain == "ai.onnx" else domain)
    except defs.SchemaError:
        return dtype == "tensor(float16)" and _QUANTIZED.match(node.op_type) is None
    allowed = {each.type_param_str: set(each.allowed_type_strs) for each in schema.type_constraints}
    used = [*zip(schema.inputs, node.input, strict=False), *zip(schema.outputs, node.output, strict=False)]
    for formal, name in used:
        if name and "tensor(float)" in (types := allowed.get(formal.type_str, {formal.type_str})):
            fixed = len(types) == 1 and node.op_type in _TAKES_FLOAT_INPUT
            if dtype not in types and not fixed:
                return False
    return True


def scaling_nodes(model: Any) -> set[str]:
    """The names of the nodes that turn sums of integer products back into floating-point numbers.

    The sums of a dynamically quantized product are beyond the range of 16 bits, and its scales below it. Such a node
    gets a name if it has none, since the converter keeps nodes by name; changes the model.
    """
    sums: set[str] = set()
    products: set[str] = set()
    scales: set[str] = set()
    names: set[str] = set()
    for node in model.graph.node:
        read = {*node.input}
        if node.op_type == "DynamicQuantizeLinear":
            scales.add(node.output[1])
        elif node.op_type in {"MatMulInteger", "ConvInteger"}:
            sums |= {*node.output}
        elif node.op_type == "Cast" and read & sums:
            names.add(_named(node))
            products |= {*node.output}
        elif node.op_type == "Mul" and read & (products | scales):
            names.add(_named(node))
            scales |= set() if read & products else {*node.output}
    return names


def _named(node: Any) -> str:
    node.name = node.name or f"{node.output[0]}_scaling"
    return str(node.name)


def declare_types(model: Any) -> None:
    """Add the types of what operators of ONNX Runtime's own write, as ONNX Runtime infers them; changes the model.

    ONNX has no definition of them, and the converter places no Cast beside a value whose type it does not know.
    """
    import onnx
    import onnxruntime

    written = {name: node for node in model.graph.node for name in node.output if name}
    known = {each.name for each in (*model.graph.value_info, *model.graph.output)}
    missing = [name for name, node in written.items() if node.domain not in {"", "ai.onnx"} and name not in known]
    if not missing or model.ByteSize() > _LARGEST_PROBE:
        return
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - operators of another library: what they write stays unknown
        return
    types = {each.name: _TYPES.get(each.type) for each in session.get_outputs()}
    for name in missing:
        if (kind := types[name]) is not None:
            model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, None))


def without_round_trips(converted: Any, before: int) -> bool:
    """Let nodes of ``converted`` read float32 where a pair of Casts rounds it to 16 bits and back; changes the model.

    The first ``before`` nodes are the model's own, whose Casts stay: the converter adds its nodes at the end. False if
    no value of 16 bits is left.
    """
    import onnx

    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    added = {node.output[0]: node for node in converted.graph.node[before:] if node.op_type == "Cast"}
    rounded = {name: node.input[0] for name, node in added.items() if _to(node) in half}
    for node in added.values():
        if _to(node) not in half and node.input[0] in rounded:
            node.input[0] = rounded[node.input[0]]
    read = {name for node in all_nodes(converted.graph.node) for name in node.input}
    read |= {value.name for value in converted.graph.output}
    left = [node for node in converted.graph.node if node.output[0] not in added or node.output[0] in read]
    del converted.graph.node[:]
    converted.graph.node.extend(left)
    types = {_to(node) for node in left if node.op_type == "Cast"} | {
        each.data_type for each in converted.graph.initializer
    }
    return bool(types & half)


def _to(cast: Any) -> int:
    return next((int(each.i) for each in cast.attribute if each.name == "to"), 0)


PROVIDES: tuple[Transform, ...] = (Fp16(),)
