"""Walk through an exported graph node by node, to the first one that diverges.

The target's runtime returns the value of every node, with graph optimization off. Each is compared with the graph's
own evaluation in float64, which finds a node that computes something else than ONNX defines. A node that was exported
wrongly is found with float64 on both sides, where rounding vanishes: the graph's evaluation is compared with the
outputs of torch's modules in float64. If that finds nothing, or cannot run, the runtime's values are compared with
torch's modules in their own dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto

from harness.blame.evaluator import evaluate_all, not_believed_reason
from harness.blame.file_runs import error_summary
from harness.data_files.onnx_files import read_model, to_array
from harness.exporters import Artifact
from harness.inside.nodes.divergence import (
    EXACT_SHARE,
    FOLDING_SHARE,
    Divergence,
    ModuleCall,
    ValueDifference,
    Walk,
    computed_difference,
    elementwise_difference,
    float64_difference,
)
from harness.inside.nodes.matching import (
    CONSTANT_OPERATORS,
    Match,
    describe_node,
    first_output,
    has_folded_calls,
    match_values,
    owning_calls,
    with_all_values_as_outputs,
)
from harness.registry import plugins
from harness.spec.targets import Target

if TYPE_CHECKING:
    from harness.inside.nodes.torch_calls import TorchCalls
    from harness.model.answer import Reference
    from harness.model.build import Subject

Array = NDArray[Any]
DifferenceTest = Callable[[str, Array, Array], ValueDifference | None]


def walk(subject: Subject, artifact: Artifact, target: Target, references: Sequence[Reference], scratch: Path) -> Walk:
    """The walk at the first of ``references`` at which the target diverges; at the case's own shapes if none does."""
    from harness.inside.nodes.torch_calls import TorchCalls

    input_sets = [reference.inputs for reference in references]
    return _first_divergent(
        _walk(TorchCalls.of(subject, inputs), artifact, target, inputs, scratch) for inputs in input_sets
    )


def walk_file(artifact: Artifact, target: Target, input_sets: Sequence[Mapping[str, Array]], scratch: Path) -> Walk:
    """The same for a file that was not exported here and has no torch module to compare with."""
    return _first_divergent(_walk(None, artifact, target, inputs, scratch) for inputs in input_sets)


def _first_divergent(walks: Iterator[Walk]) -> Walk:
    first = next(walks)
    if first.kernel or first.module:
        return first
    return next((later for later in walks if later.kernel or later.module), first)


def _walk(
    torch_calls: TorchCalls | None, artifact: Artifact, target: Target, inputs: Mapping[str, Array], scratch: Path
) -> Walk:
    model = read_model(artifact.path)
    computed = computed_values(with_all_values_as_outputs(model), artifact, target, inputs, scratch)
    float64, note = _float64_values(artifact.path, inputs)
    known = {**{value.name: to_array(value) for value in model.graph.initializer}, **computed, **inputs}
    calls = () if torch_calls is None else torch_calls.calls
    matches = matches_by_value(model.graph, computed, calls)
    search = _Search(model.graph, known, calls, {})
    return Walk(
        nodes=sum(node.op_type not in CONSTANT_OPERATORS for node in model.graph.node),
        kernel=search.first(computed, float64, computed_difference),
        module=None if torch_calls is None else _against_torch(torch_calls, model.graph, known, float64, computed),
        matched=len({id(match.call) for match in matches.values()}),
        modules=len(calls),
        note=note,
    )


def _against_torch(
    torch_calls: TorchCalls,
    graph: GraphProto,
    known: Mapping[str, Array],
    float64: Mapping[str, Array],
    computed: Mapping[str, Array],
) -> Divergence | None:
    """The first node that differs from torch's module: in float64, else as the runtime computes it."""
    if float64 and torch_calls.float64 is not None:
        matches = matches_by_value(graph, float64, torch_calls.float64)
        search, expected = _Search(graph, known, torch_calls.float64, matches), _expected_values(matches)
        differences: tuple[DifferenceTest, ...] = (float64_difference, elementwise_difference)
        if has_folded_calls(float64, torch_calls.float64, matches.values()):
            differences = (partial(float64_difference, share=_folding_share(computed)),)
        for difference in differences:
            if (divergence := search.first(float64, expected, difference)) is not None:
                return divergence
    matches = matches_by_value(graph, computed, torch_calls.calls)
    search = _Search(graph, known, torch_calls.calls, matches)
    return search.first(computed, _expected_values(matches), computed_difference)


def _folding_share(computed: Mapping[str, Array]) -> float:
    """What folding may change, by the narrowest dtype of the graph: weights are folded in the file's own dtype."""
    return max((FOLDING_SHARE.get(values.dtype.name, EXACT_SHARE) for values in computed.values()), default=EXACT_SHARE)


def matches_by_value(graph: GraphProto, values: Mapping[str, Array], calls: Sequence[ModuleCall]) -> dict[str, Match]:
    """The values of the graph that are outputs of torch's modules, by the name of the value."""
    return {match.value: match for match in match_values(graph, values, calls)}


def _expected_values(matches: Mapping[str, Match]) -> dict[str, Array]:
    return {name: match.expected for name, match in matches.items()}


def computed_values(
    model: onnx.ModelProto, artifact: Artifact, target: Target, inputs: Mapping[str, Array], scratch: Path
) -> dict[str, Array]:
    """Every value of the graph, as the target's runtime computes it without optimization."""
    path = scratch / "every-value.onnx"
    onnx.save(model, str(path))
    runtime = plugins("runtimes")[target.runtime]
    optimizer_off = {"optimization": "disabled"} if "optimization" in runtime.options else {}
    session = runtime.load(replace(artifact, path=path), {**target.options, **optimizer_off})
    try:
        return dict(session.run(inputs))
    finally:
        session.close()


def _float64_values(path: Path, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], str | None]:
    """Every value of the graph in float64; if that fails or is not believed, none and the reason."""
    try:
        if reason := not_believed_reason(path):
            return {}, reason
        return evaluate_all(path, inputs), None
    except Exception as error:  # noqa: BLE001 - a graph that cannot be evaluated is noted
        return {}, f"the graph could not be evaluated in float64: {error_summary(error)}"


@dataclass(frozen=True, slots=True)
class _Search:
    """A search for the first divergent node.

    ``known`` are the values of the graph as the runtime computes them, for descriptions. ``matches`` are the values
    matched with outputs of torch's ``calls``.
    """

    graph: GraphProto
    known: Mapping[str, Array]
    calls: Sequence[ModuleCall]
    matches: Mapping[str, Match]

    def first(
        self, actual: Mapping[str, Array], expected: Mapping[str, Array], difference_test: DifferenceTest
    ) -> Divergence | None:
        """The first node that differs by more than rounding; else the first that differs at all."""
        by_rounding: Divergence | None = None
        for node in self.graph.node:
            for name in node.output:
                if name not in expected or name not in actual or node.op_type in CONSTANT_OPERATORS:
                    continue
                difference = difference_test(name, actual[name], expected[name])
                if difference is None or (by_rounding is not None and difference.rounding):
                    continue
                divergence = self._divergence(node, name, difference)
                if not difference.rounding:
                    return divergence
                by_rounding = divergence
        return by_rounding

    def _divergence(self, node: NodeProto, name: str, difference: ValueDifference) -> Divergence:
        match = self.matches.get(name)
        owning = owning_calls(self.graph.node, self.calls)
        call = match.call if match is not None else owning.get(first_output(node))
        same_module = [
            other for other in self.graph.node if call is not None and owning.get(first_output(other)) is call
        ]
        siblings = [
            describe_node(other, self.known) for other in same_module if other.op_type not in CONSTANT_OPERATORS
        ]
        return Divergence(
            node=describe_node(node, self.known),
            value=name,
            difference=difference.description,
            module=None if call is None else str(call),
            siblings=tuple(siblings) if len(siblings) > 1 else (),
            rounding=difference.rounding,
            matched_by=None if match is None else match.matched_by,
        )
