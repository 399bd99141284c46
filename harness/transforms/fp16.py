"""``+fp16``: computes in float16. ONNX Runtime's own converter; inputs and outputs keep their dtypes by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import Unsupported, UsageError
from harness.transforms import (
    KEEP_IO,
    SWITCH,
    Precision,
    Transform,
    TransformRequest,
    names_in,
    require_names,
    require_nodes,
    require_onnxruntime_tools,
    require_precision,
    sort_nodes,
)
from harness.transforms._round_trips import own_casts, without_round_trips


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
            raise Unsupported(f"+{request.word} lowers nothing: every node stays in float32")
        sort_nodes(converted.graph)
        onnx.save(converted, str(destination))
        if SWITCH[options.get(KEEP_IO, "on")]:
            require_precision(request.word, destination, ("Cast",), "floating-point values")


PROVIDES: tuple[Transform, ...] = (Fp16(),)
