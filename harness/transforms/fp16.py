"""``+fp16``: computes in float16. ONNX Runtime's own converter; inputs and outputs keep their dtypes by default.

The converter rounds every value to float16, also one that a node in float32 hands to another: a Cast to float16 and one
back stand between them. A value beyond float16's range is then lost although both nodes are kept. These pairs are
removed (:func:`without_round_trips`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    require_names,
    require_nodes,
    require_onnxruntime_tools,
    require_precision,
    sorted_or_refused,
)


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
        from onnxruntime.transformers.float16 import convert_float_to_float16

        options, model = request.options, onnx.load(str(source))
        casts = own_casts(model)
        require_nodes(model, names_in(options.get("keep_nodes")))
        converted = convert_float_to_float16(
            model,
            keep_io_types=SWITCH[options.get(KEEP_IO, "on")],
            op_block_list=list(names_in(options["block"])) if "block" in options else None,
            node_block_list=list(names_in(options.get("keep_nodes"))),
        )
        if not without_round_trips(converted, casts):
            raise LowersNothing(f"+{request.word} lowers nothing: every node stays in float32")
        sorted_or_refused(converted)
        onnx.save(converted, str(destination))
        if SWITCH[options.get(KEEP_IO, "on")]:
            require_precision(request.word, destination, ("Cast",), "floating-point values")


def own_casts(model: Any) -> set[str]:
    """The outputs of the Casts of ``model`` before it is converted."""
    return {node.output[0] for node in model.graph.node if node.op_type == "Cast"}


def without_round_trips(converted: Any, own_casts: Collection[str]) -> bool:
    """Let nodes of ``converted`` read float32 where a pair of Casts rounds it to 16 bits and back; changes the model.

    ``own_casts`` are the outputs of the Casts that the model had before, which stay. False if no value of 16 bits is
    left.
    """
    import onnx

    half = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    added = {node.output[0]: node for node in converted.graph.node if node.op_type == "Cast"}
    added = {name: node for name, node in added.items() if name not in own_casts}
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
