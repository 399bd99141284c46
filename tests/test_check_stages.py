"""The message of an exception is one line, and the same for the same failure on every machine."""

from __future__ import annotations

import pytest

from harness.check.stages import message_of
from harness.errors import Unsupported

CALL_STACK = """Exception from src/core.cpp:132:
Exception from src/plugin.cpp:59:
Check 'false' failed at src/frontends/unconverted_ops_report.cpp:151:
While validating node 'opset1::AvgPool AvgPool_2' with friendly_name 'AvgPool_2':
Expected a 3D, 4D or 5D tensor for the input. Got: [3,8]

Summary:
-- Conversion is failed for: AveragePool-17
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one line", "one line"),
        ("", "no message"),
        ("\n  first that says\x1b[31m something\x1b[0m\nsecond", "first that says something"),
        ("the reason:\nits shape", "the reason: its shape"),
        ("the reason:", "the reason:"),
        ("the reason:\nand that of this:", "the reason: and that of this:"),
        (CALL_STACK, "Exception from src/core.cpp:132: Expected a 3D, 4D or 5D tensor for the input. Got: [3,8]"),
        ("at 0x7ffd1234abcd in /tmp/run-1/model.onnx", "at 0x... in model.onnx"),
        ("running OpenVINOExecutionProvider_316509305950113885_0_0 node", "running OpenVINOExecutionProvider node"),
    ],
)
def test_the_message_is_the_first_informative_line(text: str, message: str) -> None:
    assert message_of(RuntimeError(text)) == f"RuntimeError: {message}"


def test_the_message_of_harness_own_error_has_no_class_name() -> None:
    assert message_of(Unsupported("no complex numbers")) == "no complex numbers"


def test_the_cause_replaces_the_advice_of_torch() -> None:
    advice = type("OnnxExporterError", (RuntimeError,), {"__module__": "torch.onnx.errors"})("open an issue")
    advice.__cause__ = ValueError("no such operator")
    assert message_of(advice) == "ValueError: no such operator"


def test_a_layer_that_exits_has_a_message() -> None:
    assert message_of(SystemExit(3)) == "the code called exit(3)"
