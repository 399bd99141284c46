"""An explanation as lines of text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import one_line
from harness.explain.explanation import FAILING, Explanation, Script
from harness.explain.failing_layer import FailingLayer
from harness.explain.failing_nodes import SCRIPT, FailingNodes
from harness.explain.shrink import ShrunkCase
from harness.inside.nodes.divergence import Divergence, Walk
from harness.report.layers import layer_lines
from harness.report.wording import blame_words, expectation_name
from harness.reproduction.source import keywords, module_source
from harness.reproduction.tensors import tensor_expression
from harness.result import OutputComparison, Result
from harness.spec.language.case import Case, FactoryModel
from harness.spec.language.description import describe_model

MAX_PRINTED_LINES = 40
MAX_SIBLINGS = 12
MAX_MESSAGE_LENGTH = 120


def explanation_lines(explanation: Explanation, result: Result, script_path: Path) -> Iterator[str]:
    """The lines of ``explanation``. ``result`` is its result after known failures; ``script_path`` is the script."""
    yield f"{result.case} on {result.target}: {outcome_line(result)}"
    yield from (f"  {line}" for line in _result_lines(result))
    if result.status in {"passed", "fixed", "skipped"}:
        yield from _section("Layers", list(layer_lines(result)))
        return
    if result.blame or result.evidence:
        yield from _section(
            f"Blame: {blame_words(result) or 'undetermined'}", result.evidence or ("there is no evidence",)
        )
    yield from _section("Layers", list(layer_lines(result)))
    others = [_other_result_line(other) for other in explanation.other_results]
    if explanation.unanswered:
        names = ", ".join(map(str, explanation.unanswered))
        others.append(f"no answer within {explanation.seconds:.0f} s: {names}")
    yield from _section("Other targets", others)
    if explanation.walk is not None:
        yield from _section("First node that differs", list(_walk_lines(explanation.walk, result)))
    yield from _section("Failing nodes", list(_node_lines(explanation.nodes)))
    yield from _section("Failing layer", list(_layer_lines(explanation.layer)))
    if explanation.shrunk is not None:
        yield from _section("Smallest case", list(_shrunk_lines(explanation.shrunk)))
    yield from _section("Script", list(_script_lines(explanation.script, explanation.no_script, script_path)))


def private_lines(explanation: Explanation) -> Iterator[str]:
    """What may be shown of a private model: the failing nodes, and no name of anything else."""
    yield f"{explanation.target}: {explanation.result.status}"
    if explanation.result.status in FAILING:
        yield from _node_lines(explanation.nodes or "no node of the file fails by itself, so there is nothing to show")


def outcome_line(result: Result) -> str:
    """The status with the stage and the symptom, and the reason of a known failure."""
    match result.status:
        case "passed":
            return "passed; there is nothing to explain"
        case "fixed":
            return f"fixed: the check {result.message}; remove the entry from the list of known failures"
        case "skipped":
            return f"skipped: {result.message}"
    if result.status == "known":
        return f"known ({result.stage}: {result.symptom}): {result.reason} {result.issue or ''}".rstrip()
    return f"{result.status} ({result.stage}: {result.symptom})"


def described(case: Case) -> Iterator[str]:
    """The model and its inputs as Python, then the keys of the spec that are not at their defaults."""
    match case.model.model:
        case FactoryModel(factory, args, forward):
            yield f"model = {factory}({keywords(args)})"
            if forward:
                yield f"output = model(..., {keywords(forward)})"
        case model:
            source = module_source(model, [spec.label for spec in case.inputs])
            yield from (line for line in source.definition.splitlines() if line)
            yield f"model = {source.call}"
    yield from (f"{spec.label} = {tensor_expression(spec)}" for spec in case.inputs)
    yield from (f"{name} = {tensor_expression(spec)}" for name, spec in case.model.weights.items())
    if case.mode != "eval":
        yield f"mode: {case.mode}"
    if case.dtype != "float32":
        yield f"dtype: {case.dtype}"
    if case.dynamic:
        yield f"dynamic: {dict(case.dynamic)}"
    yield from (f"also: {dict(shapes)}" for shapes in case.also)


# The sections


def _result_lines(result: Result) -> Iterator[str]:
    if result.message and result.status not in {"fixed", "skipped"}:
        yield from result.message.partition("; expect.")[0].splitlines()
    for output in result.outputs:
        yield f"{output.name} {_comparison(output)}"
    for distance in result.distances:
        eager, target = distance.eager_max_abs, distance.target_max_abs
        yield f"output_{distance.index}, max abs from the float64 reference: eager {eager:.3g}, target {target:.3g}"
    for finding in result.findings:
        if not finding.passed:
            name = expectation_name(finding)
            yield f"{f'expect.{name}' if name == finding.what else name}: {finding.message}"
    if result.checker:
        yield f"onnx.checker rejects the file: {result.checker}"


def _comparison(output: OutputComparison) -> str:
    at = f" at {output.at}" if output.at else ""
    numbers = [
        f"max abs {output.max_abs:.3g}" if output.max_abs is not None else "",
        f"max rel {output.max_rel:.3g}" if output.max_rel is not None else "",
        f"max ulp {output.max_ulp:.4g}" if output.max_ulp is not None else "",
        f"{output.mismatched} of {output.of} values differ by more than the tolerance ({output.tolerance})",
    ]
    return f"{output.dtype}{list(output.shape)}{at}: {', '.join(filter(None, numbers))}"


def _other_result_line(result: Result) -> str:
    if result.status == "passed":
        return f"passes  {result.target}"
    outcome = f"{result.stage}: {result.symptom}" if result.stage else result.status
    blame = f", blame: {blame_words(result)}" if result.blame else ""
    message = one_line(result.message or "").partition("; ")[0]
    if len(message) > MAX_MESSAGE_LENGTH:
        message = message[: MAX_MESSAGE_LENGTH - 3] + "..."
    return f"fails   {result.target} ({outcome}{blame}): {message}"


def _walk_lines(walk: Walk | str, result: Result) -> Iterator[str]:
    if isinstance(walk, str):
        yield f"not searched: {walk}"
        return
    nodes = "1 node" if walk.nodes == 1 else f"{walk.nodes} nodes"
    matched = f"; {walk.matched} of {walk.modules} calls of torch modules found in the graph" if walk.modules else ""
    yield nodes + matched
    if walk.note:
        yield walk.note
    yield from _divergence_lines(walk.kernel, "the graph's float64 evaluation", result)
    if walk.modules:
        yield from _divergence_lines(walk.module, "torch's modules", result)
    if walk.kernel is None and walk.module is None and result.blame == "optimizer":
        yield "without graph optimization no node differs; the optimizer introduces the difference"


def _divergence_lines(divergence: Divergence | None, reference: str, result: Result) -> Iterator[str]:
    if divergence is None or not _is_relevant(divergence, result):
        yield f"compared with {reference}: no node differs by more than rounding"
        return
    rounding = ", rounding only" if divergence.rounding else ""
    yield f"compared with {reference}: {divergence.node.op_type} {divergence.node.name!r}{rounding}"
    yield f"  {divergence.node}"
    yield f"  {divergence.difference}"
    if divergence.module is not None:
        matched = f" (matched by {divergence.matched_by})" if divergence.matched_by else ""
        yield f"  exported from the torch module {divergence.module}{matched}"
    if divergence.siblings:
        yield "  all nodes of this module:"
        yield from (f"    {node}" for node in divergence.siblings[:MAX_SIBLINGS])
        if further := divergence.siblings[MAX_SIBLINGS:]:
            yield f"    ... and {len(further)} more nodes"


def _is_relevant(divergence: Divergence, result: Result) -> bool:
    """A node that differs by rounding only is relevant only if the check fails because of rounding."""
    return not divergence.rounding or result.blame == "rounding"


def _node_lines(nodes: FailingNodes | str | None) -> Iterator[str]:
    if isinstance(nodes, FailingNodes):
        number = "1 node" if nodes.nodes == 1 else f"{nodes.nodes} nodes"
        yield f"{nodes.folder}/: {number} with the tensors that reach {'it' if nodes.nodes == 1 else 'them'}"
        yield f"{nodes.folder}/{SCRIPT} was run and shows the failure; it printed:"
        yield from (f"| {line}" for line in nodes.printed)
    elif nodes is not None:
        yield nodes


def _layer_lines(layer: FailingLayer | str | None) -> Iterator[str]:
    if isinstance(layer, FailingLayer):
        yield f"{layer.path}: {describe_model(layer.case)} fails alone ({layer.result.stage}: {layer.result.symptom})"
        yield from (one_line(line) for line in (layer.result.message or "").splitlines())
    elif layer is not None:
        yield layer


def _shrunk_lines(shrunk: ShrunkCase) -> Iterator[str]:
    end = "no simpler case fails" if shrunk.minimal else "the time is over; use a larger --budget to go on"
    yield f"{shrunk.steps} of {shrunk.tried} simplifications still fail; {end}"
    yield from described(shrunk.case)


def _script_lines(script: Script | None, no_script: str | None, path: Path) -> Iterator[str]:
    if script is None:
        yield f"none: {no_script}"
        return
    exit_code = script.run.exit_code or 0
    ended = f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    printed = script.run.printed
    yield f"{path}: was run and reproduces the failure ({ended}){'; it printed:' if printed else ''}"
    if further := printed[MAX_PRINTED_LINES:]:
        omitted = f"... {len(further) + 1} more lines ..."
        printed = (*printed[: MAX_PRINTED_LINES - 2], omitted, printed[-1])
    yield from (f"| {line}" for line in printed)


def _section(heading: str, content: Sequence[str]) -> Iterator[str]:
    if content:
        yield ""
        yield heading
        yield from (f"  {line}" for line in content)
