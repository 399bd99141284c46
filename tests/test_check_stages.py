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
FRAMES = CALL_STACK.partition("While")[0]
UNCONVERTED = f"""{FRAMES}FrontEnd API failed with OpConversionFailure:
Model wasn't fully converted.
Summary:
-- No conversion rule found for operations: Det-17, my.ops.Foo
"""
ONNX_NODE = f"""{FRAMES}FrontEnd API failed with OpConversionFailure:
Model wasn't fully converted. Failed operations detailed log:
-- MatMul-17 with a message:
While validating ONNX node '<Node(MatMul): y>': Check 'merge(a, b)' failed at src/matmul.hpp:65:
While validating node 'opset1::MatMul MatMul_38 (opset1::Parameter x[0]:f32[2,3]) -> (dynamic[...])':
Incompatible MatMul matrix dimension

Summary:
-- Conversion is failed for: MatMul-17
"""
ONLY_OPERATOR = f"{FRAMES}bogus is not supported\nSummary:\n-- Conversion is failed for: Resize-17\n"
AT_RUN_TIME = """Exception from src/infer_request.cpp:224:
[CPU] Reshape node with name 'y' Check 'inputProduct == outputProduct' failed at src/reshape.cpp:77:
the shape of input data (2.3) conflicts with the reshape pattern (7)
"""
CAUSES = """Failed analyse for node #2 "r" Reshape

Caused by:
    0: Infering facts
    1: Reshape volume mismatch

Stack backtrace:
   0: <anyhow::Error>::msg
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
        (CALL_STACK, "opset1::AvgPool node 'AvgPool_2': Expected a 3D, 4D or 5D tensor for the input. Got: [3,8]"),
        (UNCONVERTED, "No conversion rule found for operations: Det-17, my.ops.Foo"),
        (ONNX_NODE, "MatMul node 'y': Incompatible MatMul matrix dimension"),
        (ONLY_OPERATOR, "Resize-17: bogus is not supported"),
        (AT_RUN_TIME, "Reshape node 'y': the shape of input data (2.3) conflicts with the reshape pattern (7)"),
        ("Exception from src/core.cpp:132:\nno such device", "no such device"),
        ("Exception from src/core.cpp:132:", "Exception from src/core.cpp:132:"),
        (CAUSES, 'Failed analyse for node #2 "r" Reshape: Infering facts: Reshape volume mismatch'),
        ("Building node rs (Resize)\n\nCaused by:\n    mode: bogus", "Building node rs (Resize): mode: bogus"),
        ("Caused by:\n    its shape", "Caused by: its shape"),
        ("at 0x7ffd1234abcd in /tmp/run-1/model.onnx", "at 0x... in model.onnx"),
        ("load from nets/relu/model.onnx failed", "load from model.onnx failed"),
        ("load from 'nets/relu/model.onnx' failed", "load from 'model.onnx' failed"),
        ("running OpenVINOExecutionProvider_316509305950113885_0_0 node", "running OpenVINOExecutionProvider node"),
    ],
)
def test_the_message_is_the_first_informative_line(text: str, message: str) -> None:
    assert message_of(RuntimeError(text)) == f"RuntimeError: {message}"


def test_the_message_of_an_error_of_harness_has_no_class_name() -> None:
    assert message_of(Unsupported("no complex numbers")) == "no complex numbers"


def test_the_cause_replaces_the_advice_of_torch() -> None:
    advice = type("OnnxExporterError", (RuntimeError,), {"__module__": "torch.onnx.errors"})("open an issue")
    advice.__cause__ = ValueError("no such operator")
    assert message_of(advice) == "ValueError: no such operator"


def test_a_layer_that_exits_has_a_message() -> None:
    assert message_of(SystemExit(3)) == "the code called exit(3)"
