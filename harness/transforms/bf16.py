"""``+bf16``: computes in bfloat16 wherever the opset of the file has the operator in bfloat16.

No library writes bfloat16 files. ONNX Runtime's converter to float16 does the work on the graph: it places the casts
around the operators that stay in float32. Its float16 tensors are then written in bfloat16, from the float32 values.
Which operators stay in float32 is read from ONNX's own schemas: opset 21 has no Conv in bfloat16, opset 22 has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.data_files.onnx_files import all_nodes
from harness.transforms import (
    LowersNothing,
    Precision,
    Transform,
    TransformRequest,
    names_in,
    require_float32,
    require_names,
    require_nodes,
    require_onnxruntime_tools,
    sorted_or_refused,
)
from harness.transforms.fp16 import declare_types, scaling_nodes, takes, without_round_trips

_FLOAT16, _BFLOAT16 = 10, 16  # onnx.TensorProto
_MOVES_VALUES = frozenset({"Cast", "Constant", "Identity", "Reshape", "Transpose", "Flatten", "Shape", "Unsqueeze"})
"""Operators that compute nothing, so a file with no others in bfloat16 is as it was."""


class Bf16(Transform):
    """``onnxruntime.transformers.float16.convert_float_to_float16``, with bfloat16 in the place of float16.

    Inputs and outputs keep their dtypes. ``block`` adds operators to those that ONNX does not have in bfloat16.
    """

    name = "bf16"
    precision: Precision | None = "bfloat16"

    options: Mapping[str, str] = {
        "block": "operators that stay in float32, separated by ;",
        "keep_nodes": "names of nodes that stay in float32, separated by ;",
    }

    def check(self, options: Mapping[str, str]) -> None:
        """See :class:`harness.transforms.Transform`."""
        require_names(options, self.options)

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`; :class:`Unsupported` for a lowered file or one without bfloat16.

        The opset of the file decides what can be lowered.
        """
        require_onnxruntime_tools(self.name)
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = onnx.load(str(source))
        require_float32(request.word, model)
        require_nodes(model, names_in(request.options.get("keep_nodes")))
        nodes = list(all_nodes(model.graph.node))
        opsets = {each.domain or "ai.onnx": each.version for each in model.opset_import}
        blocked = {node.op_type for node in nodes if not takes(node, opsets, "tensor(bfloat16)")}
        lowered = {node.op_type for node in nodes} - blocked - {*names_in(request.options.get("block"))} - _MOVES_VALUES
        if not lowered:
            named = ", ".join(sorted(blocked)) or "none"
            raise LowersNothing(
                f"+{request.word} lowers nothing: opset {opsets.get('ai.onnx', 1)} has no bfloat16 for the operators "
                f"of the file ({named}); export at opset 22 or above"
            )
        kept = {*names_in(request.options.get("keep_nodes")), *scaling_nodes(model)}
        declare_types(model)
        before = len(model.graph.node)
        converted = convert_float_to_float16(
            model,
            keep_io_types=True,
            op_block_list=sorted(blocked | {*names_in(request.options.get("block"))}),
            node_block_list=sorted(kept),
        )
        if not without_round_trips(converted, before):
            raise LowersNothing(f"+{request.word} lowers nothing: every node stays in float32")
        _write_bfloat16(onnx.load(str(source)).graph, converted.graph)
        sorted_or_refused(converted)
        onnx.save(converted, str(destination))


def _write_bfloat16(source: Any, converted: Any) -> None:
    """Write the float16 of ``converted`` in bfloat16, from the float32 values of ``source``, the same graph before.

    The converter keeps the order of the nodes and adds its own at the end.
    """
    floats = {tensor.name: tensor for tensor in source.initializer}
    for tensor in converted.initializer:
        _narrow(floats.get(tensor.name), tensor)
    for value in (*converted.input, *converted.output, *converted.value_info):
        for kind in (value.type.tensor_type, value.type.sequence_type.elem_type.tensor_type):
            if kind.elem_type == _FLOAT16:
                kind.elem_type = _BFLOAT16
    before = list(source.node)
    for at, node in enumerate(converted.node):
        originals = {each.name: each for each in before[at].attribute} if at < len(before) else {}
        for attribute in node.attribute:
            original = originals.get(attribute.name)
            if attribute.name in {"to", "dtype"} and attribute.i == _FLOAT16:
                attribute.i = _BFLOAT16
            if attribute.HasField("t"):
                _narrow(None if original is None else original.t, attribute.t)
            graphs = [attribute.g] if attribute.HasField("g") else []
            others = [] if original is None else [original.g, *original.graphs]
            for graph, other in zip((*graphs, *attribute.graphs), others, strict=False):
                _write_bfloat16(other, graph)


def _narrow(original: Any, tensor: Any) -> None:
    """Make a float16 tensor bfloat16, with the values of its ``original`` if there is one."""
    import ml_dtypes
    from onnx import numpy_helper

    if tensor.data_type != _FLOAT16:
        return
    values = numpy_helper.to_array(tensor if original is None else original)
    tensor.CopyFrom(numpy_helper.from_array(values.astype(ml_dtypes.bfloat16), tensor.name))


PROVIDES: tuple[Transform, ...] = (Bf16(),)
