"""What is expected of a file that a transform made compute in a lower precision.

float16 is judged like the module itself (:mod:`harness.compare.calibrated`), against eager torch's own run in float16.
Integers have no such run; their signal-to-noise ratio is held against the one that the step sizes of the quantizer
predict (:mod:`harness.check.judging.quantization_noise`). A tolerance that the spec names comes first. Whatever the
tolerance, each quantized weight is compared with the float weight (:mod:`harness.check.judging.quantized_weights`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.registry import plugins
from harness.result import QUANTIZED_WEIGHTS, Finding
from harness.spec.language.case import Case, StoredModel
from harness.spec.language.inputs.tensors import arrays_of
from harness.spec.language.tolerances import Calibrated, CaseTolerance, Close, Rule, Sqnr, Tolerance
from harness.spec.targets import Target, transform_named
from harness.transforms import KEEP_IO
from harness.transforms._apply import precision_of

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
    artifact: Callable[[Target], Artifact],
    references: Sequence[Reference],
    named: CaseTolerance,
    samples: Sequence[Mapping[str, NDArray[Any]]],
    references_in: Callable[[str], Sequence[Reference]],
) -> Tolerance | None:
    """The tolerance of the file of ``target``; None if its precision is not lower. ``artifact`` gives the files.

    ``named`` is the tolerance of the spec; what it says of single outputs stays. ``samples`` are further inputs that
    the quantizer was given. ``references_in`` gives the references with those of a run in half precision. The errors
    of several transforms add up.
    """
    precision = precision_of(target)
    if precision is None or named.rule is not None:
        return None
    if precision in HALF_PRECISION:
        return Tolerance(Calibrated(precision=precision), named.by_output)
    from harness.check.judging.quantization_noise import expected_ratio, lowest_ratio, ratio_of_sum

    inputs = [*(reference.inputs for reference in references), *samples]
    expected: dict[str, float] = {}
    for before, after in _around_quantizers(target):
        ratios = expected_ratio(artifact(before).path, artifact(after).path, inputs, reduced=_is_reduced(target)) or {}
        expected = {name: ratio_of_sum(expected.get(name, math.inf), ratio) for name, ratio in ratios.items()}
    half = half_precision_of(target)
    if half is not None:
        ratios = _ratios_of_runs(references_in(half.precision))
        expected = {name: ratio_of_sum(ratio, ratios.get(name, math.inf)) for name, ratio in expected.items()}
    by_output: dict[int, Rule] = {}
    sources = "the quantizer's step sizes" + ("" if half is None else f" and a run in {half.precision}")
    for index, (name, values) in enumerate(references[0].eager.items()):
        if name in expected:
            because = f"{sources} predict {expected[name]:.4g} dB"
            by_output[index] = Sqnr(lowest_ratio(expected[name], values.size), because)
    return Tolerance(Close(1e-3, 1e-5), {**by_output, **named.by_output})


def _around_quantizers(target: Target) -> list[tuple[Target, Target]]:
    """The targets of the files before and after each transform of ``target`` to integers."""
    return [
        (target.with_first_transforms(at), target.with_first_transforms(at + 1))
        for at, word in enumerate(target.transforms)
        if transform_named(word).precision not in {None, *HALF_PRECISION}
    ]


@dataclass(frozen=True, slots=True)
class HalfPrecision:
    """A transform to half precision: its ``word``, the ``precision``, and the target of the file ``before`` it."""

    word: str
    precision: str
    before: Target


def half_precision_of(target: Target) -> HalfPrecision | None:
    """The first transform of ``target`` to half precision; None if there is none."""
    for at, word in enumerate(target.transforms):
        precision = transform_named(word).precision
        if precision in HALF_PRECISION:
            return HalfPrecision(word, precision, target.with_first_transforms(at))
    return None


def missing_precision(artifact: Callable[[Target], Artifact], target: Target) -> str | None:
    """That the runtime lacks kernels in half precision, if it loads the file before that transform; else None."""
    half = half_precision_of(target)
    if half is None:
        return None
    try:
        plugins("runtimes")[target.runtime].load(artifact(half.before), target.options).close()
    except Exception:  # noqa: BLE001 - it does not run the model at all, so the precision is not the cause
        return None
    return f"{target.runtime} loads the file without +{half.word}, so it has no kernel for it in {half.precision}"


def _ratios_of_runs(references: Sequence[Reference]) -> dict[str, float]:
    """The SQNR of each output of the references' runs in half precision, the lowest over the sets of inputs."""
    from harness.check.judging.quantization_noise import decibels

    ratios: dict[str, float] = {}
    for reference in references:
        for name, lower in (reference.lower or {}).items():
            exact = reference.eager[name].astype(np.float64)
            if np.isfinite(lower).all() and np.isfinite(exact).all():
                ratios[name] = min(decibels(exact, lower - exact), ratios.get(name, math.inf))
    return ratios


@dataclass(frozen=True, slots=True)
class ComparedWeights:
    """The quantized weights of a file compared with the float weights that they were made of.

    ``findings`` decide; ``notes`` inform: which weights were not compared, and what is unusual in a file whose
    quantizer is not known.
    """

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def weights_of_transform(target: Target, artifact: Callable[[Target], Artifact]) -> ComparedWeights:
    """The weights of the file that a transform of ``target`` quantized; none if none did. ``artifact`` gives its files.

    Where the quantizer's rule is known, a weight that is not as the rule says is wrong.
    """
    compared = [
        _compared_weights(
            f"+{after.transforms[-1]}",
            artifact(after).path,
            partial(lambda source: _stored_floats(artifact(source).path), before),
            exact=transform_named(after.transforms[-1]).min_max,
            reduced=_is_reduced(target),
        )
        for before, after in _around_quantizers(target)
    ]
    findings = tuple(finding for each in compared for finding in each.findings)
    return ComparedWeights(findings, tuple(note for each in compared for note in each.notes))


def weights_of_file(file: StoredModel, floats: Callable[[], Mapping[str, NDArray[Any]]]) -> ComparedWeights:
    """The weights of a quantized file under test; ``floats`` gives those of the reference.

    Nothing fails: which rule its quantizer follows is not known, and trained or optimized rounding is not the nearest.
    """
    path = Path(file.path)
    return _compared_weights(path.name, path, floats, exact=False) if file.format == "onnx" else ComparedWeights()


def _compared_weights(
    name: str,
    path: Path,
    floats: Callable[[], Mapping[str, NDArray[Any]]],
    *,
    exact: bool,
    reduced: bool = False,
) -> ComparedWeights:
    import onnx

    from harness.check.judging.quantization_noise import LARGEST_MODEL
    from harness.check.judging.quantized_weights import compare_weights, is_quantized

    if not is_quantized(onnx.load(str(path), load_external_data=False)):
        return ComparedWeights()
    if path.stat().st_size > LARGEST_MODEL:
        return ComparedWeights((), (f"{name}: quantized weights were not compared: the file is larger than 1 GB",))
    compared = compare_weights(onnx.load(str(path)), floats(), exact=exact, reduced=reduced)
    notes = () if compared.left_out is None else (f"{name}: {compared.left_out}",)
    if not exact:
        problems = (f"{name}, quantized weights: {compared.message}",) if compared.problems else ()
        return ComparedWeights((), (*problems, *notes))
    if not compared.count:
        return ComparedWeights((), notes)
    good = f"{compared.count} quantized weights are as the quantizer's rule gives them"
    finding = Finding(QUANTIZED_WEIGHTS, not compared.problems, f"{name}: {compared.message or good}")
    return ComparedWeights((finding,), notes)


def _stored_floats(path: Path) -> Mapping[str, NDArray[Any]]:
    import onnx

    from harness.check.judging.quantized_weights import float_weights

    return float_weights(onnx.load(str(path)))


def _is_reduced(target: Target) -> bool:
    return target.export_options.get("reduce_range") == "on"
