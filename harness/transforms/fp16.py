"""``+fp16``: computes in float16. ONNX Runtime's own converter; inputs and outputs keep their dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import Unsupported, UsageError
from harness.transforms import Precision, Transform, TransformRequest, require_onnxruntime_tools, require_precision
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
        "block": "operators that stay in float32, separated by commas (default: the converter's own list)",
        "keep_nodes": "names of nodes that stay in float32, separated by commas",
    }

    def check(self, options: Mapping[str, str]) -> None:
        """See :class:`harness.transforms.Transform`."""
        for name in self.options.keys() & options.keys():
            if not all(part.strip() for part in options[name].split(",")):
                raise UsageError(f"{name}={options[name]} has an empty name; write names separated by commas")

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`."""
        require_onnxruntime_tools(self.name)
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        block, keep = request.options.get("block"), request.options.get("keep_nodes")
        model = onnx.load(str(source))
        casts = own_casts(model)
        converted = convert_float_to_float16(
            model,
            keep_io_types=True,
            op_block_list=None if block is None else block.split(","),
            node_block_list=None if keep is None else keep.split(","),
        )
        if not without_round_trips(converted, casts):
            raise Unsupported(f"+{request.word} lowers nothing: every node stays in float32")
        onnx.save(converted, str(destination))
        require_precision(request.word, destination, ("Cast",), "floating-point values")


PROVIDES: tuple[Transform, ...] = (Fp16(),)
