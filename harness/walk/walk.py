"""Walks an exported graph node by node, to where it first leaves the right path.

Every value that a node computes is given out, with graph optimization off, and held against two others: the graph's own
evaluation in float64, which finds a node that computes something else than ONNX defines; and what torch's modules
answered, which finds a node that should not have been written as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from harness.blame.float64 import evaluate_all
from harness.compare.verdict import compare
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.model.subject import Subject
from harness.model.tensors import to_torch
from harness.registry import plugins
from harness.spec.target import Target
from harness.spec.tolerance import Close, Exact, Rule, Tolerance, Ulp
from harness.walk.found import Divergence, Walk
from harness.walk.graph import FOLDED, described, giving_all, read
from harness.walk.matching import Match, matched, owner
from harness.walk.torch_values import ModuleCall, module_calls

Array = NDArray[Any]

GROSS: Mapping[str, Rule] = {
    "float16": Close(1e-3, 1e-5),
    "bfloat16": Close(1.6e-2, 1e-5),
    "float32": Close(1.3e-6, 1e-5),
    "float64": Close(1e-7, 1e-7),
}
"""More than rounding: the defaults of torch.testing.assert_close."""

ROUNDING = Ulp(0)


def walk(subject: Subject, artifact: Artifact, target: Target, references: Sequence[Reference], scratch: Path) -> Walk:
    """The walk at the first of ``references`` where the target diverges; at the case's own shapes if it never does."""
    walks = (_walk(subject, artifact, target, reference, scratch) for reference in references)
    first = next(walks)
    return first if first.kernel or first.module else next((one for one in walks if one.kernel or one.module), first)


def _walk(subject: Subject, artifact: Artifact, target: Target, reference: Reference, scratch: Path) -> Walk:
    model = read(artifact.path)
    given = _values(giving_all(model), artifact, target, reference, scratch)
    truth, note = _truth(artifact.path, reference.inputs)
    calls = module_calls(subject, [to_torch(array) for array in reference.inputs.values()])
    pairs = {pair.value: pair for pair in matched(model.graph, given, calls)}
    held = {**{value.name: onnx.numpy_helper.to_array(value) for value in model.graph.initializer}, **given}
    held |= reference.inputs
    view = _View(model.graph, given, held, calls)
    return Walk(
        nodes=sum(node.op_type not in FOLDED for node in model.graph.node),
        kernel=view.first(truth, {}),
        module=view.first({name: pair.expected for name, pair in pairs.items()}, pairs),
        matched=len({id(pair.call) for pair in pairs.values()}),
        modules=len(calls),
        note=note,
    )


def _values(
    opened: onnx.ModelProto, artifact: Artifact, target: Target, reference: Reference, scratch: Path
) -> dict[str, Array]:
    """Every value of the graph, as the target's runtime computes it without optimization."""
    path = scratch / "every-value.onnx"
    onnx.save(opened, str(path))
    runtime = plugins("runtimes")[target.runtime]
    plain = {"optimization": "disabled"} if "optimization" in runtime.options else {}
    session = runtime.load(replace(artifact, path=path), {**target.options, **plain})
    try:
        return dict(session.run(reference.inputs))
    finally:
        session.close()


def _truth(path: Path, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], str | None]:
    """Every value in float64; without them, why there are none."""
    try:
        return evaluate_all(path, inputs), None
    except Exception as error:  # noqa: BLE001 - whatever the evaluator cannot do is told
        said = str(error).splitlines()[0] if str(error) else "no message"
        return {}, f"the graph could not be evaluated in float64: {type(error).__name__}: {said}"


@dataclass(frozen=True, slots=True)
class _View:
    """The graph with what its values held, and torch's calls beside it."""

    graph: GraphProto
    given: Mapping[str, Array]
    held: Mapping[str, Array]
    calls: Sequence[ModuleCall]

    def first(self, expected: Mapping[str, Array], pairs: Mapping[str, Match]) -> Divergence | None:
        """The first node off ``expected`` by more than rounding; else the first that is off at all."""
        by_rounding: Divergence | None = None
        for node in self.graph.node:
            for name in node.output:
                if name not in expected or name not in self.given or node.op_type in FOLDED:
                    continue
                wrong, gross = _difference(name, self.given[name], expected[name])
                if wrong is None or (by_rounding is not None and not gross):
                    continue
                found = self._told(node, name, wrong, pairs.get(name), rounding=not gross)
                if gross:
                    return found
                by_rounding = found
        return by_rounding

    def _told(self, node: NodeProto, name: str, wrong: str, pair: Match | None, *, rounding: bool) -> Divergence:
        call = pair.call if pair is not None else owner(node, self.calls)
        own = [other for other in self.graph.node if call is not None and owner(other, self.calls) is call]
        siblings = [described(other, self.held) for other in own if other.op_type not in FOLDED]
        return Divergence(
            node=described(node, self.held),
            value=name,
            difference=wrong,
            module=None if call is None else str(call),
            siblings=tuple(siblings) if len(siblings) > 1 else (),
            rounding=rounding,
            how=None if pair is None else pair.how,
        )


def _difference(name: str, actual: Array, expected: Array) -> tuple[str | None, bool]:
    """What is wrong with ``actual``, and whether it is more than rounding; None and False where nothing is."""
    if actual.dtype != expected.dtype and expected.dtype.kind == "f":
        with np.errstate(all="ignore"):
            expected = expected.astype(actual.dtype)
    gross = compare({name: actual}, {name: expected}, Tolerance(GROSS.get(actual.dtype.name, Exact())))
    if not gross.passed:
        return gross.message, True
    exact = compare({name: actual}, {name: expected}, Tolerance(ROUNDING))
    return (None, False) if exact.passed else (exact.message, False)
