"""What a library says becomes one line, the same for the same failure anywhere."""

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
    ("said", "told"),
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
def test_a_message_is_the_line_that_says_something(said: str, told: str) -> None:
    assert message_of(RuntimeError(said)) == f"RuntimeError: {told}"


def test_what_harness_itself_says_has_no_kind_before_it() -> None:
    assert message_of(Unsupported("no complex numbers")) == "no complex numbers"


def test_where_torch_gives_advice_its_cause_speaks() -> None:
    advice = type("OnnxExporterError", (RuntimeError,), {"__module__": "torch.onnx.errors"})("open an issue")
    advice.__cause__ = ValueError("no such operator")
    assert message_of(advice) == "ValueError: no such operator"


def test_a_layer_that_exits_is_told() -> None:
    assert message_of(SystemExit(3)) == "the code called exit(3)"
