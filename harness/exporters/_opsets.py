"""Which opsets the installed stack can write; the one file that reads torch's own bounds."""

from __future__ import annotations

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
