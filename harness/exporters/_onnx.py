"""ONNX files: the opsets that the installed libraries can write, and the checks of a file that was just written.

This is the only module that reads torch's own opset bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.environment import versions
from harness.errors import StageError, Unsupported, UsageError
from harness.exporters import Artifact
from harness.exporters._files import sha256, sibling_files

if TYPE_CHECKING:
    from onnx import ModelProto

    from harness.spec.targets import Target

LARGE_FILE_BYTES = 64 << 20
"""Above this size, a file is not searched for what differs from process to process: that would copy it."""

# torch numbers the code that it generates in a process; a node's stack trace, which no runtime reads, holds the number.
_TRACED_CODE = re.compile(rb"(?<=<eval_with_key>)\.\d+")
_OPSET_OF_OLDEST_ONNX = 23  # onnx 1.18
# The bounds of torch 2.9 to 2.14, for a release that keeps them elsewhere.
_LOWEST_OPSET, _HIGHEST_TORCHSCRIPT_OPSET, _DEFAULT_OPSET = 7, 20, 18


def torchscript_opsets() -> range:
    """The opsets that ``torch.onnx.export(dynamo=False)`` accepts."""
    try:
        from torch.onnx import _constants

        return range(_constants.ONNX_MIN_OPSET, _constants.ONNX_MAX_OPSET + 1)
    except (ImportError, AttributeError):
        return range(_LOWEST_OPSET, _HIGHEST_TORCHSCRIPT_OPSET + 1)


def dynamo_opsets() -> range:
    """The opsets of ``torch.onnx.export(dynamo=True)``: it writes opset 18 and converts, up to onnx's newest opset."""
    from onnx.defs import onnx_opset_version

    return range(torchscript_opsets().start, onnx_opset_version() + 1)


def require_existing_opsets(targets: Iterable[Target]) -> None:
    """Raise :class:`UsageError` for the first of ``targets`` at an opset that the installed onnx does not know.

    onnx is imported only for an opset that the oldest release of it that harness takes does not know, and torch never:
    an exporter whose newest opset is torch's is left to :func:`harness.check.refusal.check_opsets`.
    """
    for target in targets:
        by_onnx = target.exporter == "onnx-dynamo"
        if by_onnx and target.opset is not None and target.opset > _OPSET_OF_OLDEST_ONNX:
            from onnx.defs import onnx_opset_version

            if target.opset > (newest := onnx_opset_version()):
                problem = f"onnx {versions()['onnx']} knows opsets up to {newest}, not {target.opset}"
                raise UsageError(f"{target}: {problem}; write {target.exporter}@{newest}")


def default_opset() -> int:
    """The opset that ``torch.onnx.export`` writes if none is requested."""
    try:
        from torch.onnx import _constants
    except ImportError:
        return _DEFAULT_OPSET
    return int(getattr(_constants, "ONNX_DEFAULT_OPSET", _DEFAULT_OPSET))


def checked_artifact(
    exporter: str, staging_path: Path, path: Path, opset: int | None, names: tuple[Sequence[str], Sequence[str]]
) -> Artifact:
    """The artifact at ``path`` of the file that ``exporter`` has just written to ``staging_path``.

    ``names`` are those of the inputs and outputs. Raises :class:`Unsupported` if the file has another opset than the
    requested one, and :class:`StageError` if inputs or outputs were renamed, reordered or dropped.
    """
    import onnx

    content = staging_path.read_bytes()
    model = onnx.load_model_from_string(content)
    # The numbers are in stack traces of onnx-dynamo, which keeps large weights out of this file.
    content = content if len(content) > LARGE_FILE_BYTES else _TRACED_CODE.sub(b"", content)
    digest = sha256(content, *sibling_files(staging_path))
    del content
    written_opset = opset_of(model)
    if opset is not None and written_opset != opset:
        raise Unsupported(
            f"{exporter} could not convert the model to opset {opset} and left it at {written_opset}; "
            f"use @{written_opset} or above"
        )
    initializers = {tensor.name for tensor in model.graph.initializer}  # with keep_initializers_as_inputs
    inputs = [value.name for value in model.graph.input if value.name not in initializers]
    _require_names(exporter, "inputs", inputs, list(names[0]))
    _require_names(exporter, "outputs", [value.name for value in model.graph.output], list(names[1]))
    return Artifact("onnx", path, digest, opset=written_opset, checker=checker_error(staging_path))


def opset_of(model: ModelProto) -> int:
    """The opset of the default domain; 1 if the model imports none, which an empty graph may do."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 1)


def checker_error(path: Path) -> str | None:
    """The first line of the error of ``onnx.checker`` with full checks; None if the model passes."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return next(line.strip() for line in str(error).splitlines() if line.strip())
    except ValueError as error:  # a name that is not UTF-8, or an element type that ONNX does not have
        return f"onnx.checker cannot read the file: {error}"
    return None


def _require_names(exporter: str, kind: str, actual: list[str], expected: list[str]) -> None:
    if actual != expected:
        missing = [name for name in expected if name not in actual]
        dropped = f" (dropped: {', '.join(missing)})" if missing else ""
        problem = f"{exporter} wrote the {kind} {', '.join(actual) or 'none'}{dropped}; expected {', '.join(expected)}"
        if kind == "inputs" and len(actual) > len(expected) and not missing:
            problem += (
                "; the exporter makes an input of a number that is a default of forward: pass it as a constant, "
                "under `forward` in a spec or in a module around this one"
            )
        raise StageError(problem)


def positional(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """``inputs`` as ``torch.onnx.export`` takes them by position: it takes a dict at the end as keyword arguments."""
    return (*inputs, {}) if inputs and isinstance(inputs[-1], dict) else inputs
