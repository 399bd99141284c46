"""Operators in NumPy, in place of those that ``onnx.reference`` gets wrong or does not have.

Each computes in float64 and rounds its outputs to the dtype of its input once, so that it serves the evaluation in
float64 and the one in the dtypes of a file. One family a file; none shares code with a runtime.
"""

from __future__ import annotations

from onnx.reference.op_run import OpRun

from harness.blame.operators.conversions import CONVERSION_OPERATORS
from harness.blame.operators.microsoft_fused import MICROSOFT_FUSED_OPERATORS
from harness.blame.operators.microsoft_quantized import MICROSOFT_QUANTIZED_OPERATORS
from harness.blame.operators.normalization import NORMALIZATION_OPERATORS
from harness.blame.operators.pooling import POOLING_OPERATORS
from harness.blame.operators.recurrent import RECURRENT_OPERATORS
from harness.blame.operators.resizing import RESIZING_OPERATORS
from harness.blame.operators.sampling import SAMPLING_OPERATORS

OPERATORS: tuple[type[OpRun], ...] = (
    *CONVERSION_OPERATORS,
    *MICROSOFT_FUSED_OPERATORS,
    *MICROSOFT_QUANTIZED_OPERATORS,
    *NORMALIZATION_OPERATORS,
    *POOLING_OPERATORS,
    *RECURRENT_OPERATORS,
    *RESIZING_OPERATORS,
    *SAMPLING_OPERATORS,
)
"""For ``new_ops`` of :class:`onnx.reference.ReferenceEvaluator`."""
