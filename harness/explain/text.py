"""An explanation in words, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.explain.explanation import Explanation, Script
from harness.explain.shrink import Shrunk
from harness.inside.divergence import Divergence, Walk
from harness.reproduction.source import keywords, module
from harness.reproduction.tensors import tensor
from harness.result import OutputComparison, Result
from harness.spec.language.case import Case, FactoryModel

PRINTED = 40
SIBLINGS = 12
SHORT = 120


def lines(told: Explanation, result: Result, written: Path) -> Iterator[str]:
    """The explanation line by line; ``result`` is judged by what is known, ``written`` is where the script stands."""
    yield f"{result.case} on {result.target}: {verdict(result)}"
    yield from (f"  {line}" for line in _numbers(result))
    if result.status in {"passed", "fixed", "skipped"}:
        return
    if result.blame or result.evidence:
        blamed = result.blame or "nobody can be blamed with reason"
        yield from _section(f"Blame: {blamed}", result.evidence or ("no evidence was gathered",))
    yield from _section("Elsewhere", [_one_line(other) for other in told.elsewhere])
    if told.walk is not None:
        yield from _section("First diverging node", list(_walk(told.walk, result)))
    if told.shrunk is not None:
        yield from _section("Smallest case", list(_shrunk(told.shrunk)))
    yield from _section("Script", list(_script(told.script, told.no_script, written)))


def verdict(result: Result) -> str:
    """The status with its stage, its symptom and what is known of it."""
    match result.status:
        case "passed":
            return "passed; there is nothing to explain"
        case "fixed":
            return f"fixed: it {result.message}; take it off the list"
        case "skipped":
            return f"skipped: {result.message}"
    known = f", as known: {result.reason} {result.issue or ''}".rstrip() if result.status == "known" else ""
    return f"{'known' if known else result.status} ({result.stage}: {result.symptom}){known}"


def _numbers(result: Result) -> Iterator[str]:
    failing = [finding for finding in result.findings if not finding.passed]
    if result.message and result.status not in {"fixed", "skipped"}:
        yield result.message.partition("; expect.")[0]
    for output in result.outputs:
        yield f"{output.name} {_measures(output)}"
    for distance in result.distances:
        eager, target = distance.eager_max_abs, distance.target_max_abs
        yield f"output_{distance.index} from the definition in float64: eager {eager:.3g}, the target {target:.3g}"
    yield from (f"expect.{finding.what}: {finding.message}" for finding in failing)
    if result.checker:
        yield f"onnx.checker objects: {result.checker}"


def _measures(output: OutputComparison) -> str:
    at = f" at {output.at}" if output.at else ""
    known = [
        f"max abs {output.max_abs:.3g}" if output.max_abs is not None else "",
        f"max rel {output.max_rel:.3g}" if output.max_rel is not None else "",
        f"max ulp {output.max_ulp}" if output.max_ulp is not None else "",
        f"{output.mismatched} of {output.of} outside {output.tolerance}",
    ]
    return f"{output.dtype}{list(output.shape)}{at}: {', '.join(filter(None, known))}"


def _one_line(result: Result) -> str:
    if result.status == "passed":
        return f"passes  {result.target}"
    how = f"{result.stage}: {result.symptom}" if result.stage else result.status
    blame = f", {result.blame} to blame" if result.blame else ""
    said = (result.message or "").partition("; ")[0]
    return f"fails   {result.target} ({how}{blame}): {said if len(said) <= SHORT else said[: SHORT - 3] + '...'}"


def _walk(walk: Walk | str, result: Result) -> Iterator[str]:
    if isinstance(walk, str):
        yield f"none was looked for: {walk}"
        return
    nodes = "1 node" if walk.nodes == 1 else f"{walk.nodes} nodes"
    yield nodes + (
        f"; {walk.matched} of {walk.modules} calls of torch modules found in the graph" if walk.modules else ""
    )
    if walk.note:
        yield walk.note
    yield from _divergence(walk.kernel, "the graph's own evaluation in float64", result)
    if walk.modules:
        yield from _divergence(walk.module, "torch's own modules", result)
    if walk.kernel is None and walk.module is None and result.blame == "optimizer":
        yield "with optimization off no node is off; it begins where the optimizer joins nodes"


def _matters(found: Divergence, result: Result) -> bool:
    """A difference by rounding tells something where rounding is what the check fails for."""
    return not found.rounding or result.blame == "rounding"


def _divergence(found: Divergence | None, against: str, result: Result) -> Iterator[str]:
    if found is None or not _matters(found, result):
        yield f"against {against}: no node is off by more than rounding"
        return
    rounding = ", by rounding" if found.rounding else ""
    yield f"against {against}: {found.node.op_type} {found.node.name!r}{rounding}"
    yield f"  {found.node}"
    yield f"  {found.difference}"
    if found.module is not None:
        rests = f" (matched by {found.matched_by})" if found.matched_by else ""
        yield f"  it belongs to torch's {found.module}{rests}"
    if found.siblings:
        yield "  which was written as"
        yield from (f"    {node}" for node in found.siblings[:SIBLINGS])
        if rest := found.siblings[SIBLINGS:]:
            yield f"    ... and {len(rest)} more nodes"


def _shrunk(shrunk: Shrunk) -> Iterator[str]:
    end = "no simpler one fails" if shrunk.minimal else "the time was over; --budget gives it more"
    yield f"{shrunk.steps} steps of {shrunk.tried} tried; {end}"
    yield from described(shrunk.case)


def described(case: Case) -> Iterator[str]:
    """The model and its inputs as a user would write them."""
    match case.model.model:
        case FactoryModel(factory, args):
            yield f"model = {factory}({keywords(args)})"
        case made_of_layers:
            model = module(made_of_layers, [spec.label for spec in case.inputs])
            yield from (line for line in model.definition.splitlines() if line)
            yield f"model = {model.call}"
    yield from (f"{spec.label} = {tensor(spec)}" for spec in case.inputs)
    yield from (f"{name} = {tensor(spec)}" for name, spec in case.model.weights.items())
    odd = [f"mode {case.mode}"] if case.mode != "eval" else []
    odd += [f"dtype {case.dtype}"] if case.dtype != "float32" else []
    odd += [f"open axes {dict(case.dynamic)}"] if case.dynamic else []
    odd += [f"also at {dict(shapes)}" for shapes in case.also]
    yield from odd


def _script(script: Script | None, no_script: str | None, written: Path) -> Iterator[str]:
    if script is None:
        yield f"none: {no_script}"
        return
    code = script.attempt.code or 0
    how = f"it was ended by signal {-code}" if code < 0 else f"its exit code is {code}"
    yield f"{written}: it was run and shows the failure; {how}, and it printed"
    printed = script.attempt.printed
    if rest := printed[PRINTED:]:
        printed = (*printed[: PRINTED - 2], f"... {len(rest) + 1} more lines ...", printed[-1])
    yield from (f"| {line}" for line in printed)


def _section(heading: str, content: object) -> Iterator[str]:
    body = list(content) if isinstance(content, list | tuple) else []
    if body:
        yield ""
        yield heading
        yield from (f"  {line}" for line in body)
