"""What is expected of a file that a transform made compute in a lower precision.

float16 is judged like the module itself (:mod:`harness.compare.calibrated`), against eager torch's own run in float16.
Integers have no such run; their signal-to-noise ratio is held against the one that the step sizes of the quantizer
predict (:mod:`harness.check.judging.quantization_noise`). A tolerance that the spec names comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.spec.language.tolerances import Calibrated, CaseTolerance, Close, Rule, Sqnr, Tolerance
from harness.spec.targets import Target
from harness.transforms._apply import precision_of

if TYPE_CHECKING:
    from harness.check.judging.quantization_noise import QuantizerSettings

QUANTISED_WITHOUT_PREDICTION = Sqnr(20.0, "nothing is known of the quantizer's step sizes")


def reference_precision(target: Target) -> str | None:
    """The dtype that eager torch is to be run in as well for ``target``; None if it needs no such run."""
    return "float16" if precision_of(target) == "float16" else None


def tolerance_in_lower_precision(
    target: Target, source: Artifact, transformed: Artifact, references: Sequence[Reference], named: CaseTolerance
) -> Tolerance | None:
    """The tolerance of ``transformed``, which ``target`` made of ``source``; None if its precision is not lower.

    ``named`` is the tolerance of the spec; what it says of single outputs stays.
    """
    precision = precision_of(target)
    if precision is None or named.rule is not None:
        return None
    if precision == "float16":
        return Tolerance(Calibrated(precision=precision), named.by_output)
    from harness.check.judging.quantization_noise import expected_ratio, lowest_ratio

    samples = [reference.inputs for reference in references]
    expected = expected_ratio(source.path, transformed.path, samples, _settings(target, precision)) or {}
    by_output: dict[int, Rule] = {}
    for index, (name, values) in enumerate(references[0].eager.items()):
        if name in expected:
            because = f"the quantizer's step sizes predict {expected[name]:.4g} dB"
            by_output[index] = Sqnr(lowest_ratio(expected[name], values.size), because)
    return Tolerance(Close(1e-3, 1e-5), {**by_output, **named.by_output})


def _settings(target: Target, precision: str) -> QuantizerSettings:
    from harness.check.judging.quantization_noise import QuantizerSettings

    options = target.export_options
    if precision == "int4":
        return QuantizerSettings(bits=4, block=int(options.get("block_size", "32")))
    bits = 7 if options.get("reduce_range") == "on" else 8
    return QuantizerSettings(bits=bits, per_channel=options.get("per_channel") == "on")
