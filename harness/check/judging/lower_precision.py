"""What is expected of a file that a transform made compute in a lower precision.

float16 is judged like the module itself (:mod:`harness.compare.calibrated`), against eager torch's own run in float16.
Integers have no such run; their signal-to-noise ratio is held against the one that the step sizes of the quantizer
predict (:mod:`harness.check.judging.quantization_noise`). A tolerance that the spec names comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.spec.language.case import Case
from harness.spec.language.inputs.tensors import arrays_of
from harness.spec.language.tolerances import Calibrated, CaseTolerance, Close, Rule, Sqnr, Tolerance
from harness.spec.targets import Target, transform_named
from harness.transforms import KEEP_IO
from harness.transforms._apply import precision_of

if TYPE_CHECKING:
    from harness.check.judging.quantization_noise import QuantizerSettings

CALIBRATION_SAMPLES = 32
"""A quantizer has the activations of all of them in memory at once."""
HALF_PRECISION = frozenset({"float16", "bfloat16"})


def reference_precision(target: Target) -> str | None:
    """The dtype that eager torch is to be run in as well for ``target``; None if it needs no such run."""
    precision = precision_of(target)
    return precision if precision in HALF_PRECISION else None


def changes_dtypes(target: Target) -> bool:
    """True if a transform of ``target`` makes float32 inputs and outputs float16."""
    has_option = any(KEEP_IO in transform_named(word).options for word in target.transforms)
    return has_option and target.export_options.get(KEEP_IO) == "off"


def inputs_for(target: Target, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """``inputs`` of the exported file as the transformed file of ``target`` takes them."""
    if not changes_dtypes(target):
        return inputs
    return {name: each.astype(np.float16) if each.dtype == np.float32 else each for name, each in inputs.items()}


def reference_for(target: Target, reference: Reference) -> Reference:
    """``reference`` with the inputs that the transformed file takes; its outputs are widened for the comparison."""
    if not changes_dtypes(target):
        return reference
    narrow = {name: "float16" for name, values in reference.eager.items() if values.dtype == np.float32}
    return replace(reference, inputs=inputs_for(target, reference.inputs), narrow={**reference.narrow, **narrow})


def calibration_inputs(case: Case) -> list[dict[str, NDArray[Any]]]:
    """The first samples of a case whose samples are run one by one, for a quantizer that calibrates; else none."""
    return [] if case.data is None else [arrays_of(inputs) for _, inputs in case.samples[:CALIBRATION_SAMPLES]]


def tolerance_in_lower_precision(
    target: Target,
    source: Artifact,
    transformed: Artifact,
    references: Sequence[Reference],
    named: CaseTolerance,
    samples: Sequence[Mapping[str, NDArray[Any]]] = (),
) -> Tolerance | None:
    """The tolerance of ``transformed``, which ``target`` made of ``source``; None if its precision is not lower.

    ``named`` is the tolerance of the spec; what it says of single outputs stays. ``samples`` are further inputs that
    the quantizer was given.
    """
    precision = precision_of(target)
    if precision is None or named.rule is not None:
        return None
    if precision in HALF_PRECISION:
        return Tolerance(Calibrated(precision=precision), named.by_output)
    from harness.check.judging.quantization_noise import expected_ratio, lowest_ratio

    inputs = [*(reference.inputs for reference in references), *samples]
    expected = expected_ratio(source.path, transformed.path, inputs, _settings(target, precision)) or {}
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
