"""Which opsets the installed stack can write; the one file that reads torch's own bounds.

What an ONNX file says about itself, read back before anyone relies on it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import StageError, Unsupported
from harness.exporters import Artifact
from harness.exporters._files import companions, sha256, staged

if TYPE_CHECKING:
    from onnx import ModelProto

    from harness.model.build import Subject


# What torch 2.9 to 2.14 say; used where a release keeps its bounds elsewhere.
_LOWEST, _HIGHEST_TORCHSCRIPT, _DEFAULT = 7, 20, 18


def torchscript_opsets() -> range:
    """What ``torch.onnx.export(dynamo=False)`` accepts."""
    try:
        from torch.onnx import _constants

        return range(_constants.ONNX_MIN_OPSET, _constants.ONNX_MAX_OPSET + 1)
    except (ImportError, AttributeError):
        return range(_LOWEST, _HIGHEST_TORCHSCRIPT + 1)


def default_opset() -> int:
    """What ``torch.onnx.export`` writes where no opset is asked for."""
    try:
        from torch.onnx import _constants
    except ImportError:
        return _DEFAULT
    return int(getattr(_constants, "ONNX_DEFAULT_OPSET", _DEFAULT))


def dynamo_opsets() -> range:
    """What ``torch.onnx.export(dynamo=True)`` may end at: written at 18 and converted, up to what onnx itself knows."""
    from onnx.defs import onnx_opset_version

    return range(torchscript_opsets().start, onnx_opset_version() + 1)


def written(exporter: str, subject: Subject, path: Path, opset: int | None, write: Callable[[Path], None]) -> Artifact:
    """The artifact at ``path``, once ``write`` has written it and it is what was asked for.

    Raises :class:`Unsupported` where the exporter ended at another opset than the one asked for,
    :class:`StageError` where inputs or outputs were renamed, reordered or dropped.
    """
    import onnx

    with staged(path) as draft:
        write(draft)
        held = draft.read_bytes()
        digest = sha256(held, *companions(draft))
        model = onnx.load_model_from_string(held)
        del held
        reached = opset_of(model)
        if opset is not None and reached != opset:
            raise Unsupported(
                f"{exporter} could not convert the model to opset {opset} and left it at {reached}; "
                f"ask for @{reached} or above"
            )
        _same_names(exporter, "inputs", [value.name for value in model.graph.input], list(subject.inputs))
        _same_names(exporter, "outputs", [value.name for value in model.graph.output], subject.output_names)
        objected = objection(draft)
    return Artifact("onnx", path, digest, opset=reached, checker=objected)


def opset_of(model: ModelProto) -> int:
    """The opset of the default domain; an empty graph may import none, and then means the lowest."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 1)


def _same_names(exporter: str, what: str, found: list[str], wanted: list[str]) -> None:
    if found != wanted:
        lost = [name for name in wanted if name not in found]
        dropped = f" (it dropped {', '.join(lost)})" if lost else ""
        raise StageError(
            f"{exporter} wrote the {what} {', '.join(found) or 'none'}{dropped}; right are {', '.join(wanted)}"
        )


def objection(path: Path) -> str | None:
    """The first line of what ``onnx.checker`` with full checks objects to; None where it is content."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as objection:
        return next(line.strip() for line in str(objection).splitlines() if line.strip())
    except ValueError as stumble:  # over a name that is no UTF-8, or an element type that ONNX does not have
        return f"onnx.checker cannot read it: {stumble}"
    return None
