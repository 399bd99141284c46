"""Transforms that are to change no result: ``+slim``, ``+simplify``, ``+optimized``, ``+opsetN``, ``+ort``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import StageError, Unsupported, UsageError, class_name
from harness.transforms import Transform, TransformRequest, require_library, stored_tensors

if TYPE_CHECKING:
    from harness.exporters import Format

_LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}


class Slim(Transform):
    """``onnxslim.slim``."""

    name = "slim"

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`."""
        del request
        require_library(self.name, "onnxslim", "onnxslim")
        import onnx
        import onnxslim

        onnx.save(onnxslim.slim(str(source)), str(destination))


class Simplify(Transform):
    """``onnxsim.simplify``, which also compares the two files on random inputs."""

    name = "simplify"

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`. Raises :class:`StageError` if onnxsim's own comparison fails."""
        del request
        require_library(self.name, "onnxsim", "onnxsim")
        import onnx
        import onnxsim

        simplified, equal = onnxsim.simplify(str(source))
        if not equal:
            raise StageError("onnxsim says that its simplified file gives other results")
        onnx.save(simplified, str(destination))


class Optimized(Transform):
    """ONNX Runtime's offline optimization: the graph as a CPU session optimizes it. ``level`` is ``extended``."""

    name = "optimized"

    options: Mapping[str, str] = {
        "level": f"graph optimizations: {', '.join(_LEVELS)} (default: extended; all is for this CPU only)"
    }

    def check(self, options: Mapping[str, str]) -> None:
        """See :class:`harness.transforms.Transform`."""
        if options.get("level", "extended") not in _LEVELS:
            raise UsageError(f"level={options['level']} is unknown; write {', '.join(_LEVELS)}")

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`."""
        self.write(source, destination, request.options.get("level", "extended"), {})

    def write(self, source: Path, destination: Path, level: str, entries: Mapping[str, str]) -> None:
        """Write the graph of a session. ``entries`` are further settings of the session."""
        require_library(self.name, "onnxruntime", "onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[level])
        options.optimized_model_filepath = str(destination)
        if not entries and _has_external_data(source):
            # Else the weights would be looked for in the folder of ``source``.
            external = "session.optimized_model_external_initializers_file_name"
            options.add_session_config_entry(external, f"{destination.name}.data")
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        try:
            onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if class_name(error) != "NotImplemented":
                raise
            missing = str(error).rpartition("NOT_IMPLEMENTED : ")[2]
            advice = f"write +{self.name} before +bf16" if _has_bfloat16(source) else f"leave out +{self.name}"
            raise Unsupported(f"{missing}; it is optimized on a CPU, which has no kernel for it: {advice}") from error


class Ort(Optimized):
    """ONNX Runtime's own format, as ``onnxruntime.tools.convert_onnx_models_to_ort`` writes it. It is the last one."""

    name = "ort"
    makes: Format = "ort"

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`."""
        level = request.options.get("level", "extended")
        self.write(source, destination, level, {"session.save_model_format": "ORT"})


def _has_bfloat16(path: Path) -> bool:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return any(each.data_type == onnx.TensorProto.BFLOAT16 for each in stored_tensors(graph))


def _has_external_data(path: Path) -> bool:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)


class Opset(Transform):
    """``onnx.version_converter``: the file in another opset of ONNX."""

    name = "opsetN"

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        """See :class:`harness.transforms.Transform`; :class:`Unsupported` for an opset that cannot be reached."""
        import onnx
        from onnx import version_converter

        model, opset = onnx.load(str(source)), int(request.word.removeprefix("opset"))
        highest = onnx.defs.onnx_opset_version()
        if opset > highest:
            raise Unsupported(f"onnx {onnx.__version__} has opsets 1 to {highest}")
        try:
            converted = version_converter.convert_version(model, opset)
        except (RuntimeError, version_converter.ConvertError) as error:
            raise Unsupported(_refusal(str(error), opset), from_library=True) from error
        onnx.save(converted, str(destination))


def _refusal(text: str, opset: int) -> str:
    """What the converter of onnx refuses, without the place in its source."""
    line = text.strip().splitlines()[-1]
    adapter = re.search(r"No Adapter (?:From|To) Version \$(\d+) for (\w+)", line)
    if adapter is not None:
        version, operator = adapter.groups()
        return f"onnx cannot convert {operator} to opset {opset}: it has no adapter at opset {version}"
    return f"onnx cannot convert the file to opset {opset}: {line.rpartition('failed: ')[2]}"


PROVIDES: tuple[Transform, ...] = (Slim(), Simplify(), Optimized(), Ort(), Opset())
