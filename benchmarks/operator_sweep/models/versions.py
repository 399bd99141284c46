"""Every version of every operator, and models written for one version rewritten for another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, helper
from onnx.defs import OpSchema, get_all_schemas_with_history, get_schema, onnx_opset_version

from benchmarks.operator_sweep.models.case import Case, Pair, stamped
from harness.data_files.onnx_files import to_array

DOMAINS = ("", "ai.onnx.ml")


def pairs_of_onnx() -> list[Pair]:
    """Each operator of ONNX at each version that is not deprecated."""
    schemas = [schema for schema in get_all_schemas_with_history() if schema.domain in DOMAINS]
    versions: dict[tuple[str, str], list[OpSchema]] = {}
    for schema in sorted(schemas, key=lambda schema: schema.since_version):
        versions.setdefault((schema.domain, schema.name), []).append(schema)
    pairs = []
    for (domain, name), history in sorted(versions.items()):
        newest = onnx_opset_version() if domain == "" else history[-1].since_version
        ends = [following.since_version - 1 for following in history[1:]] + [max(newest, history[-1].since_version)]
        pairs += [
            Pair(domain, name, schema.since_version, end)
            for schema, end in zip(history, ends, strict=True)
            if not schema.deprecated
        ]
    return pairs


def rewritten(case: Case, pair: Pair, newest: int) -> Case | None:
    """``case`` at the newest opset of ``pair`` that is at most ``newest``; None if it cannot be said at that version.

    Inputs that were attributes at that version become attributes, and attributes that it lacks are dropped where they
    say the default.
    """
    own = next(entry.version for entry in case.model.opset_import if entry.domain == pair.domain)
    opset = max(min(pair.last, newest), pair.since) if pair.domain == "" else pair.since
    if pair.domain == "" and pair.since <= own <= pair.last:
        opset = min(opset, max(own, pair.since)) if own > newest else opset
    source, target = get_schema(pair.operator, own, pair.domain), get_schema(pair.operator, pair.since, pair.domain)
    values = {**{tensor.name: to_array(tensor) for tensor in case.model.graph.initializer}, **case.inputs}
    node = _node(case.node, source, target, values)
    if node is None:
        return None
    graph = onnx.GraphProto()
    graph.CopyFrom(case.model.graph)
    del graph.node[:]
    graph.node.append(node)
    dropped = set(case.node.input) - set(node.input)
    for field in (graph.input, graph.initializer):
        kept = [entry for entry in field if entry.name not in dropped]
        del field[:]
        field.extend(kept)
    outputs = [value for value in graph.output if value.name in node.output]
    del graph.output[:]
    graph.output.extend(outputs)
    model = stamped(graph, {**{entry.domain: entry.version for entry in case.model.opset_import}, pair.domain: opset})
    if not _valid(model):
        return None
    return Case(case.name, model, {name: value for name, value in case.inputs.items() if name not in dropped})


def _node(node: NodeProto, source: OpSchema, target: OpSchema, values: Mapping[str, Any]) -> NodeProto | None:
    copy = NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if attribute.name in target.attributes:
            copy.attribute.append(attribute)
        elif not _is_default(attribute, source):
            return None
    inputs = []
    formal = {parameter.name.lower() for parameter in target.inputs}
    names = {name.lower(): name for name in target.attributes}
    for position, name in enumerate(node.input):
        parameter = source.inputs[min(position, len(source.inputs) - 1)].name.lower()
        moved = parameter in names and parameter not in formal
        if moved and name:
            attribute = _as_attribute(names[parameter], target, values.get(name))
            if attribute is None:
                return None
            copy.attribute.append(attribute)
        elif not moved:
            inputs.append(name)
    if not target.min_input <= len(inputs) <= target.max_input or len(node.output) > target.max_output:
        return None
    del copy.input[:]
    copy.input.extend(inputs)
    return copy


def _is_default(attribute: AttributeProto, schema: OpSchema) -> bool:
    described = schema.attributes.get(attribute.name)
    return described is not None and bool(
        helper.get_attribute_value(attribute) == helper.get_attribute_value(described.default_value)
        if described.default_value.type
        else False
    )


def _as_attribute(name: str, schema: OpSchema, values: Any) -> AttributeProto | None:
    if not isinstance(values, np.ndarray):
        return None
    kind = schema.attributes[name].type
    flat = values.ravel().tolist()
    if kind in {OpSchema.AttrType.INTS, OpSchema.AttrType.FLOATS}:
        return helper.make_attribute(name, flat) if flat else None
    if kind in {OpSchema.AttrType.INT, OpSchema.AttrType.FLOAT} and len(flat) == 1:
        converted = int(flat[0]) if kind == OpSchema.AttrType.INT else float(flat[0])
        return helper.make_attribute(name, converted)
    return None


def _valid(model: ModelProto) -> bool:
    """True if onnx.checker accepts the model, shapes included."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # noqa: BLE001 - onnx raises several kinds, and C++ ones of its own
        # The type of an output may be left for ONNX Runtime to find.
        return "Field 'type' of 'value_info' is required" in str(error)
    return True
