"""The answer of ``harness sensitivity`` as lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tabulate import tabulate

from harness.errors import shortened
from harness.precision.measure import decibel, latency_text, megabytes, share_text
from harness.precision.sensitivity import Sensitivity
from harness.precision.sensitivity.steps import Outcome
from harness.spec.quoting import count_of

SHOWN_LAYERS, SHOWN_HAZARDS = 12, 8
MAX_REASON = 60


def lines(sensitivity: Sensitivity) -> Iterator[str]:
    """The terminal's text: the conclusion, the most sensitive layers, the hazards, and the choices that were timed."""
    yield from conclusion(sensitivity)
    yield ""
    rows = [
        (
            "keep" if each.layer in sensitivity.kept else "",
            str(each.layer),
            shortened(each.outcome.failed, MAX_REASON) if each.outcome.failed else decibel(sqnr(each.outcome)),
            decided(each.outcome),
        )
        for each in sensitivity.search.ranking[:SHOWN_LAYERS]
    ]
    yield from tabulate(rows, ("", "layer alone lowered", "SQNR", "decisions"), "simple").splitlines()
    more = len(sensitivity.search.ranking) - SHOWN_LAYERS
    if more > 0:
        yield f"... and {more} more in sensitivity.json"
    yield ""
    yield from not_lowered(sensitivity)
    yield from _hazards(sensitivity)
    timed = [
        (each.name, latency_text(each.timing), megabytes(each.bytes), decibel(each.sqnr), "best" if each.best else "")
        for each in sensitivity.timed
    ]
    yield ""
    yield from tabulate(timed, ("choice", "latency", "size", "SQNR", ""), "simple", disable_numparse=True).splitlines()


def conclusion(sensitivity: Sensitivity) -> Iterator[str]:
    """What was found, in a few sentences."""
    start, word = sensitivity.start, sensitivity.lowering.word
    drawn = "drawn " if start.drawn else ""
    yield (
        f"{sensitivity.model} in {word}, {count_of(len(start.layers), 'layer')}, "
        f"{count_of(len(start.samples), f'{drawn}sample')}: "
        f"{_measured(start.everything)}"
    )
    if start.drawn:
        yield "The samples are random; give real ones with --inputs, since ranges and decisions depend on them."
    if start.decided is not None:
        yield f"Decisions: {start.decided}."
    yield f"Target: {sensitivity.target}."
    shortest = sensitivity.search.shortest
    if shortest is None:
        every = count_of(len(start.layers), "layer")
        yield f"The target is missed unless every layer ({every}) stays in float32."
        return
    verified = sensitivity.verified or shortest.outcome
    if not shortest.kept:
        yield f"The target is reached with nothing kept in float32: {_measured(verified)}"
        return
    names = ", ".join(layer.name for layer in shortest.kept)
    yield f"Keep {len(shortest.kept)} of {len(start.layers)} layers in float32: {names}"
    yield f"Measured with the written file: {_measured(verified)}"
    if sensitivity.search.all_tried:
        yield "Each layer of the list is needed: without it, the target is missed."
    if not sensitivity.reached:
        yield "The written file misses the target."


def not_lowered(sensitivity: Sensitivity) -> Iterator[str]:
    """What stays in float32 although nothing is kept, by operator, and why."""
    found = sensitivity.start.not_lowered
    if found:
        yield f"Not lowered by +{sensitivity.lowering.word}, so not in the table:"
    for each in found[:SHOWN_HAZARDS]:
        yield f"  {each}"
    if len(found) > SHOWN_HAZARDS:
        yield f"  ... and {len(found) - SHOWN_HAZARDS} more operators in sensitivity.json"


def how_to_use(sensitivity: Sensitivity, model_file: str) -> list[str]:
    """Lines of shell and Python that lower the model with the list."""
    call = {
        "fp16": "from onnxruntime.transformers.float16 import convert_float_to_float16",
        "int8": "from onnxruntime.quantization import quantize_dynamic",
        "int8-static": "from onnxruntime.quantization import quantize_static",
    }.get(sensitivity.lowering.word)
    use = {
        "fp16": "onnx.save(convert_float_to_float16(onnx.load('float32/model.onnx'), **keep), 'mixed.onnx')",
        "int8": "quantize_dynamic('float32/model.onnx', 'mixed.onnx', **keep)",
        "int8-static": "quantize_static('float32/model.onnx', 'mixed.onnx', samples, **keep)",
    }.get(sensitivity.lowering.word)
    shell = [f"harness run mixed.yaml --targets '{sensitivity.target_word}'  # float32/model.onnx is {model_file}"]
    if call is None or use is None:
        return shell
    note = []
    if sensitivity.lowering.word == "fp16" and sensitivity.kept:
        note = [
            "# The converter alone rounds values between kept nodes to float16; mixed/model.onnx, by +fp16, does not."
        ]
    return [*shell, "", *note, "import json, onnx", call, "keep = json.load(open('keep.json'))", use]


def _hazards(sensitivity: Sensitivity) -> Iterator[str]:
    if isinstance(sensitivity.hazards, str):
        yield f"Hazards: not known: {sensitivity.hazards}"
        return
    yield f"Hazards on the way: {len(sensitivity.hazards) or 'none found on these samples'}"
    for each in sensitivity.hazards[:SHOWN_HAZARDS]:
        yield f"  {each.node}: {each.sentence}"
    if len(sensitivity.hazards) > SHOWN_HAZARDS:
        yield f"  ... and {len(sensitivity.hazards) - SHOWN_HAZARDS} more in sensitivity.json"


def _measured(outcome: Outcome) -> str:
    measured = outcome.measure
    if measured is None:
        return f"fails: {outcome.failed}"
    text = f"SQNR {decibel(measured.sqnr)} (worst: {measured.output} on {measured.sample})"
    if measured.nonfinite:
        text += f", {measured.nonfinite:,} values became NaN or infinite"
    if measured.decisions is not None:
        text += f", decisions {decided(outcome)}"
    return text


def decided(outcome: Outcome) -> str:
    """The decisions of an outcome as :func:`share_text` writes them."""
    return "" if outcome.measure is None else share_text(outcome.measure)


def sqnr(outcome: Outcome) -> float:
    """The lowest SQNR, minus infinity where nothing was measured."""
    return -math.inf if outcome.measure is None else outcome.measure.sqnr
