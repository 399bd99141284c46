"""``+fp16``: computes in float16. ONNX Runtime's own converter; inputs and outputs keep their dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.errors import UsageError
from harness.transforms import Precision, Transform, TransformRequest, require_onnxruntime_tools, require_precision


class Fp16(Transform):
    """``onnxruntime.transformers.float16.convert_float_to_float16``.

    The converter's default list of operators that stay in float32 applies; ``block`` replaces it.
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
        converted = convert_float_to_float16(
            onnx.load(str(source)),
            keep_io_types=True,
            op_block_list=None if block is None else block.split(","),
            node_block_list=None if keep is None else keep.split(","),
        )
        onnx.save(converted, str(destination))
        require_precision(request.word, destination, ("Cast",), "floating-point values")


PROVIDES: tuple[Transform, ...] = (Fp16(),)
