"""Inputs beside those of a case at which a file under test is compared with its reference.

Open axes are a promise of the file: a module that it is compared with is run at other sizes of them. And a bound that
no drawn input reaches may be in one of the two models alone: ReLU6 for ReLU, ``Clip(-3, 3)`` for none. What a module
compares its values with shows in eager torch (:mod:`harness.model.thresholds`), what an ONNX file does is read here.
What else a file keeps of its example inputs shows at further draws.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from onnx.inliner import inline_local_functions

from harness.blame.disagreement import model_quantizes
from harness.blame.evaluator import evaluation_of_all, limited_work
from harness.check.files.matching import MatchedInputs
from harness.check.files.signatures import FileSignature
from harness.check.judging.example_values import OtherInputs, OtherKind
from harness.data_files.onnx_files import to_array
from harness.model.reaching import LARGEST, Inputs, Threshold, Thresholds, inputs_beyond
from harness.spec.language.case import StoredModel

Array = NDArray[Any]
Record = Callable[[Inputs], Thresholds]

COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"})
"""Operators of two inputs, one of which may be a number."""
SAME_NUMBER = frozenset({"Cast", "CastLike", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output is their first input, if that is one number."""
ALPHA = {"HardSigmoid": 0.2, "ThresholdedRelu": 1.0}
BETA, LAMBD = 0.5, 0.5
"""What ONNX takes for attributes that are left out."""

MAX_RUNS, MAX_SETS = 4, 3
"""Evaluations that look for inputs which reach a bound of one of the two models, and sets at which it may be reached
already. For the bounds that two files share there is one evaluation more."""
ALIKE = 1e-4
"""Values in float32 and in float64 that differ by so much are of the same comparison."""
MAX_MULTIPLICATIONS = 10**9
"""Of all evaluations of a file together, which take about a second then; bounds of a larger file are not looked for."""
MAX_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class FileFurtherInputs:
    """The further inputs of a file under test, by the labels of the case, with the reference's answers.

    ``inputs`` is how the case's inputs reach the file. ``reference`` is a
    :class:`harness.check.files.reference.ReferenceAnswers`; one that is a file has a ``file`` too.
    """

    file: StoredModel
    signature: FileSignature
    inputs: MatchedInputs
    reference: Any

    def of(self, kinds: Collection[OtherKind]) -> Iterator[OtherInputs]:
        """Those of ``kinds``, as far as the reference takes them."""
        if "promised sizes" in kinds and hasattr(self.reference, "at_open_axes"):
            yield from self.reference.at_open_axes(open_axes(self.signature, self.inputs))
        if "alike" in kinds and hasattr(self.reference, "further_inputs"):
            yield from self.reference.further_inputs({"alike"})
        if "thresholds" in kinds:
            yield from self._beyond_thresholds()

    def _beyond_thresholds(self) -> Iterator[OtherInputs]:
        """Inputs on the other side of the bounds that one of the two models has; none if one rounds to steps."""
        other = getattr(self.reference, "file", None)
        onnx_files = (each for each in (self.file, other) if each is not None and each.format == "onnx")
        models = {each.path: onnx.load(each.path, load_external_data=False) for each in onnx_files}
        if any(map(model_quantizes, models.values())):
            return
        first = self.reference.references[0].inputs
        sets = [first]
        if hasattr(self.reference, "further_inputs"):
            for each in self.reference.further_inputs({"thresholds"}):
                sets.append(each.inputs)
                yield each
        if not any(values.dtype.kind == "f" and values.size for values in first.values()):
            return
        own = recorder(self.file, models, self.inputs.applied_to)
        searched: list[tuple[Record | None, int]]
        if other is None or other.path not in models:
            searched = [(_without(own, self._of_module() if own else (), first), MAX_RUNS)]
        else:
            of_other = recorder(other, models, self.reference.matched_inputs.applied_to)
            of_one = (_without(of_other, _at(own, first), first), _without(own, _at(of_other, first), first))
            searched = [*((each, MAX_RUNS) for each in of_one), (own, 1)]
        for record, runs in searched:
            for name, reaching in () if record is None else inputs_beyond(record, sets[:MAX_SETS], runs):
                sets.append(reaching)
                yield from self.reference.answered(name, reaching)

    def _of_module(self) -> Collection[Threshold]:
        thresholds: Collection[Threshold] = getattr(self.reference, "thresholds", ())
        return thresholds


def _at(record: Record | None, inputs: Inputs) -> Collection[Threshold]:
    return () if record is None else record(inputs).values()


def _without(record: Record | None, known: Collection[Threshold], first: Inputs) -> Record | None:
    """``record`` without the thresholds that are ``known`` from the other model; None if none is left.

    Those of both models at the ``first`` inputs are compared.
    """
    if record is None:
        return None
    left = {key for key, own in record(first).items() if not any(_are_alike(own, other) for other in known)}
    return (lambda inputs: {key: each for key, each in record(inputs).items() if key in left}) if left else None


def _are_alike(one: Threshold, other: Threshold) -> bool:
    """True if both models compare the same values with the same number."""
    near = ALIKE * max(abs(one.low), abs(one.high))
    same_number = abs(one.at - other.at) <= ALIKE * abs(one.at)
    return same_number and abs(one.low - other.low) <= near and abs(one.high - other.high) <= near


def open_axes(signature: FileSignature, inputs: MatchedInputs) -> dict[str, list[int]]:
    """The axes that a file declares open, as axes of the case's ``inputs``, by label."""
    declared = {each.name: each.shape or () for each in signature.inputs}
    axes: dict[str, list[int]] = {}
    for each in inputs.bindings:
        sizes = declared.get(each.name, ())
        order = each.permutation or range(len(sizes))
        axes[each.label] = [axis for axis, size in zip(order, sizes, strict=True) if not isinstance(size, int)]
    return {label: own for label, own in axes.items() if own}


def recorder(
    file: StoredModel, models: Mapping[str, ModelProto], applied_to: Callable[[Inputs], Inputs]
) -> Record | None:
    """What gives the values that the file compares with numbers, in float64; None if it compares with none.

    ``models`` are the ONNX files by path, without external data. ``applied_to`` gives the file's inputs from those of a
    case.
    """
    bounds = _bounds_of(models[file.path]) if file.path in models else ()
    if not bounds:
        return None
    with limited_work(MAX_MULTIPLICATIONS, MAX_BYTES):
        try:
            evaluate = evaluation_of_all(Path(file.path))
        except Exception:  # noqa: BLE001 - a file that cannot be evaluated shows nothing
            return None
    seen: dict[int, tuple[Inputs, Thresholds]] = {}

    def record(given: Inputs) -> Thresholds:
        if id(given) not in seen:
            seen[id(given)] = given, _recorded(bounds, evaluate, applied_to(given))
        return seen[id(given)][1]

    return record


@dataclass(frozen=True, slots=True)
class _Bound:
    """A node that compares the value ``name`` with the numbers ``at``."""

    operator: str
    name: str
    at: tuple[float, ...]


def _recorded(bounds: Sequence[_Bound], evaluate: Callable[[Inputs], Inputs], inputs: Inputs) -> Thresholds:
    try:
        values = {**inputs, **evaluate(inputs)}
    except Exception:  # noqa: BLE001 - too large for an evaluation, or refused
        return {}
    found: dict[tuple[int, str, float], Threshold] = {}
    for number, bound in enumerate(bounds):
        compared = values.get(bound.name)
        if compared is None or compared.dtype.kind != "f" or not compared.size or not np.isfinite(compared).all():
            continue
        for at in bound.at:
            threshold = Threshold(bound.operator, at, float(compared.min()), float(compared.max()))
            found[number, bound.operator, at] = threshold
    return found


def _bounds_of(model: ModelProto) -> list[_Bound]:
    """The nodes of the graph that compare values with numbers, those in local functions included."""
    if model.functions:
        model = inline_local_functions(model)
    numbers = _numbers(model)
    bounds = []
    for node in model.graph.node:
        for name, at in _compared(node, numbers) if node.domain in {"", "ai.onnx"} else ():
            kept = tuple(dict.fromkeys(each for each in at if each is not None and abs(each) <= LARGEST))
            if kept and name not in numbers:
                bounds.append(_Bound(node.op_type, name, kept))
    return bounds


def _compared(node: NodeProto, numbers: Mapping[str, float]) -> Iterator[tuple[str, Sequence[float | None]]]:
    """The values that ``node`` compares with numbers, by name, each with these numbers."""
    attributes = {each.name: float(each.f) for each in node.attribute if each.type == onnx.AttributeProto.FLOAT}
    values = [name for name in node.input if name]
    match node.op_type:
        case "Clip":  # the bounds were attributes before opset 11
            yield node.input[0], [*map(numbers.get, node.input[1:]), attributes.get("min"), attributes.get("max")]
        case "HardSwish":
            yield node.input[0], [-3.0, 3.0]
        case "HardSigmoid":
            alpha, beta = attributes.get("alpha", ALPHA["HardSigmoid"]), attributes.get("beta", BETA)
            yield node.input[0], [-beta / alpha, (1 - beta) / alpha] if alpha else []
        case "ThresholdedRelu":
            yield node.input[0], [attributes.get("alpha", ALPHA["ThresholdedRelu"])]
        case "Shrink":
            at = attributes.get("lambd", LAMBD)
            yield node.input[0], [-at, at]
        case operator if operator in COMPARISONS and len(values) == 2:
            for name, other in (values, reversed(values)):
                yield name, [numbers.get(other)]


def _numbers(model: ModelProto) -> dict[str, float]:
    """The values of the graph that are one floating number, by name."""
    numbers: dict[str, float] = {}
    tensors = [(each.name, each) for each in model.graph.initializer]
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                tensors.append((node.output[0], attribute.t))
            elif attribute.name == "value_float":
                numbers[node.output[0]] = float(attribute.f)
    for name, tensor in tensors:
        if int(np.prod(tensor.dims)) == 1 and tensor.data_location != onnx.TensorProto.EXTERNAL:
            value = to_array(tensor)
            if value.dtype.kind in "fiu":
                numbers[name] = float(value.reshape(-1)[0])
    for node in model.graph.node:
        if node.op_type in SAME_NUMBER and node.input[0] in numbers:
            numbers.setdefault(node.output[0], numbers[node.input[0]])
    return numbers
