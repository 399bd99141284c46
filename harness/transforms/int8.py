"""``+int8``, ``+int8-static`` and ``+int4``: ONNX Runtime's quantizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import Unsupported, UsageError
from harness.transforms import (
    SWITCH,
    Precision,
    Transform,
    TransformRequest,
    names_in,
    require_float32,
    require_names,
    require_nodes,
    require_onnxruntime_tools,
    require_precision,
)

_QUANTISED = (
    *("DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLSTM"),
    # A product of quantized embeddings alone has no other.
    *("MatMulInteger", "ConvInteger"),
)
_FLOAT = 1  # onnx.TensorProto.FLOAT
_OPTIONS = {
    "per_channel": "one scale for each output channel of the weights: on or off (default: off)",
    "reduce_range": "7-bit weights, for CPUs without VNNI: on or off (default: off)",
    "ops": "operators to quantize, separated by ; (default: the quantizer's own list)",
    "exclude": "names of nodes that stay in float32, separated by ;",
}


class Int8(Transform):
    """``quantize_dynamic``: int8 weights; activations are quantized at each call by their own range."""

    name = "int8"
    precision: Precision | None = "int8"
    min_max = True

    options: Mapping[str, str] = _OPTIONS

    def check(self, options: Mapping[str, str]) -> None:
        """See :class:`harness.transforms.Transform`."""
        _check(options)

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`."""
        require_onnxruntime_tools(self.name)
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(str(source), str(destination), **_arguments(source, request))
        require_precision(request.word, source, destination, _QUANTISED, "a product with constant weights")


class Int8Static(Transform):
    """``quantize_static`` in the QDQ format: int8 weights and activations, whose ranges the case's inputs calibrate."""

    name = "int8-static"
    precision: Precision | None = "int8"
    min_max = True

    options: Mapping[str, str] = _OPTIONS

    def check(self, options: Mapping[str, str]) -> None:
        """See :class:`harness.transforms.Transform`."""
        _check(options)

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`."""
        require_onnxruntime_tools(self.name)
        from onnxruntime.quantization import CalibrationDataReader, quantize_static

        class Samples(CalibrationDataReader):  # type: ignore[misc]
            """The inputs of the case, one set after another."""

            def __init__(self) -> None:
                self._samples: Iterator[Mapping[str, Any]] = iter(request.samples)

            def get_next(self) -> dict[str, Any] | None:
                """The next set of inputs; None after the last."""
                return dict(sample) if (sample := next(self._samples, None)) is not None else None

        quantize_static(str(source), str(destination), Samples(), **_arguments(source, request))
        require_precision(request.word, source, destination, _QUANTISED, "an operator that can be quantized")


class Int4(Transform):
    """``MatMulNBitsQuantizer``: the weights of matrix products in blocks of 4 bits; activations stay in float32."""

    name = "int4"
    precision: Precision | None = "int4"
    min_max = True

    options: Mapping[str, str] = {
        "block_size": "values that share a scale: 16, 32 (default), 64, 128 or 256",
        "symmetric": "no zero point: on or off (default: on)",
        "exclude": "names of nodes that stay in float32, separated by ;",
    }

    def check(self, options: Mapping[str, str]) -> None:
        """See :class:`harness.transforms.Transform`."""
        _require_switches(options, ("symmetric",))
        if options.get("block_size", "32") not in {"16", "32", "64", "128", "256"}:
            raise UsageError(f"block_size={options['block_size']} is unknown; write 16, 32, 64, 128 or 256")
        require_names(options, ("exclude",))

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`."""
        require_onnxruntime_tools(self.name)
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        exclude = names_in(request.options.get("exclude"))
        model = onnx.load(str(source))
        require_float32(request.word, model, "float16")
        require_nodes(model, exclude)
        quantizer = MatMulNBitsQuantizer(
            model,
            block_size=int(request.options.get("block_size", "32")),
            is_symmetric=SWITCH[request.options.get("symmetric", "on")],
            nodes_to_exclude=list(exclude) or None,
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(destination))
        require_precision(
            request.word, source, destination, ("MatMulNBits", "GatherBlockQuantized"), "MatMul with constant weights"
        )


def _check(options: Mapping[str, str]) -> None:
    _require_switches(options, ("per_channel", "reduce_range"))
    require_names(options, ("ops", "exclude"))


def _require_switches(options: Mapping[str, str], names: Sequence[str]) -> None:
    for name in names:
        if options.get(name, "on") not in SWITCH:
            raise UsageError(f"{name}={options[name]} is unknown; write on or off")


def _arguments(source: Path, request: TransformRequest) -> dict[str, Any]:
    """The arguments of the quantizers.

    Raises :class:`StageError` for an excluded node that ``source`` lacks, :class:`Unsupported` for a file that was
    lowered before: the quantizers fail in it, or write a file that no runtime loads.
    """
    import onnx

    options, model = request.options, onnx.load(str(source), load_external_data=False)
    require_float32(request.word, model)
    quantized = next((node.op_type for node in model.graph.node if node.op_type in _QUANTISED), None)
    if quantized is not None:
        raise Unsupported(f"the file is quantized already ({quantized}); apply one quantizer to the float32 file")
    # The quantizer makes a MatMul of a Gemm before it looks at the names.
    excluded = names_in(options.get("exclude"))
    require_nodes(model, excluded)
    return {
        "per_channel": SWITCH[options.get("per_channel", "off")],
        "reduce_range": SWITCH[options.get("reduce_range", "off")],
        "op_types_to_quantize": list(names_in(options["ops"])) if "ops" in options else None,
        "nodes_to_exclude": [*excluded, *(f"{name}_MatMul" for name in excluded)] or None,
        # The quantizer asks for it where it cannot infer the dtype: after operators of ONNX Runtime's own.
        "extra_options": {"DefaultTensorType": _FLOAT},
    }


PROVIDES: tuple[Transform, ...] = (Int8(), Int8Static(), Int4())
