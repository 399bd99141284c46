"""The layer table of a check: by itself for a whole model whose outputs differ, and for any check with ``--layers``.

Whatever goes wrong while the table is made is a note of the result. The verdict on the outputs does not depend on it.
"""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from harness.check.settings import Settings
from harness.check.stages import is_from_code_under_test, message_of
from harness.exporters import Artifact
from harness.inside.calls import NotVisible, ReferenceInside, SubjectInside, ValueStore
from harness.inside.table import LayerTable, layer_table
from harness.model.answer import Reference
from harness.result import NO_LAYERS, Layer, Result
from harness.runtimes import Profiled, Session
from harness.spec.bundle.entries import PackedModel
from harness.spec.language.case import Case, FactoryModel, GraphModel, SequentialModel, StoredModel
from harness.spec.targets import Target
from harness.transforms._apply import precision_of

if TYPE_CHECKING:
    from harness.inside.onnx_file import GraphSubject

Array = NDArray[Any]
LookInside = Callable[[Reference, ValueStore, str | None, Target], ReferenceInside]
"""As :meth:`harness.check.case_context.CaseContext.reference_inside`."""

STOCHASTIC = "the model is stochastic, so the values of its layers cannot be compared"
OUTPUTS_HIDE_IT = "the outputs agree, but a layer is wrong by itself"
NARROW = ("float16", "bfloat16")
PROFILED_RUNS = 3
TIME_SHARE = 0.25
"""The share of the time limit within which a check must have come to its verdict to get its layers unasked. The layers
take about twice as long as the rest."""
_FUSED = re.compile(r"/[^/]*Fusion.*$")


def with_layers(
    result: Result,
    case: Case,
    look_inside: LookInside,
    target: Target,
    artifact: Artifact,
    reference: Reference,
    session: Session,
    settings: Settings,
    seconds: float = 0.0,
) -> Result:
    """``result`` with its layers, if they are asked for, or if it is the failure of a whole model.

    A layer that is wrong by itself fails the check where layers are asked for. ``look_inside`` shows the inside of the
    case's reference, and ``session`` runs the artifact. ``seconds`` is the time that the check has taken: a failure
    that nobody asked the layers of must not become a timeout for them.
    """
    if settings.layers is None or not (settings.layers or (result.status == "failed" and is_whole_model(case))):
        return result
    if not settings.layers and settings.timeout is not None and seconds > settings.timeout * TIME_SHARE:
        return _with_note(result, f"{NO_LAYERS}they may take longer than the time limit; use --layers and --timeout")
    try:
        table = _table(look_inside, target, artifact, reference, session, passed=result.status == "passed")
    except NotVisible as reason:
        return _with_note(result, f"{NO_LAYERS}{reason}") if settings.layers else result
    except BaseException as error:
        if not is_from_code_under_test(error):
            raise
        return _with_note(result, f"{NO_LAYERS}{message_of(error)}")
    return with_table(result, table, fails=bool(settings.layers))


def with_table(result: Result, table: LayerTable, *, fails: bool) -> Result:
    """``result`` with ``table``. ``fails``: a pass becomes a failure if a layer is wrong by itself."""
    uncovered = table.uncovered
    result = replace(result, layers=table.layers, layers_show=table.sentence, layers_uncovered=uncovered)
    result = replace(result, notes=tuple(dict.fromkeys((*result.notes, *table.notes))))
    if not (fails and table.wrong and result.status == "passed"):
        return result
    message = f"{OUTPUTS_HIDE_IT}: {table.sentence}"
    return replace(
        result,
        status="failed",
        stage="compare",
        symptom="mismatch",
        message=message,
        blame=table.blame,
        evidence=table.evidence,
        layers_alone=True,
    )


def is_whole_model(case: Case) -> bool:
    """True for a model of several layers: a factory, a ``sequential``, a ``graph``, a model file, one packed so."""
    model = case.model.model
    if isinstance(model, PackedModel):
        return any(export.layers for export in model.entry.exports.values())
    return isinstance(model, FactoryModel | SequentialModel | GraphModel | StoredModel)


def _with_note(result: Result, note: str) -> Result:
    return replace(result, notes=(*result.notes, note))


def _table(
    look_inside: LookInside, target: Target, artifact: Artifact, reference: Reference, session: Session, *, passed: bool
) -> LayerTable:
    if reference.stochastic:
        raise NotVisible(STOCHASTIC)
    with tempfile.TemporaryDirectory(prefix="harness-layers-") as folder:
        store = ValueStore(Path(folder))
        run = partial(session.run, reference.inputs)
        inside, subject = both_insides(look_inside, target, artifact, reference, run, store)
        table = layer_table(inside, subject, passed=passed, judged=not subject.quantizes)
        name_of: Callable[[str], str] | None = getattr(subject, "name_of", None)
        if name_of is not None and isinstance(session, Profiled):
            return _with_runs(table, session, reference.inputs, Path(folder), name_of)
        return table


def both_insides(
    look_inside: LookInside,
    target: Target,
    artifact: Artifact,
    reference: Reference,
    run: Callable[[], object],
    store: ValueStore,
) -> tuple[ReferenceInside, SubjectInside]:
    """The inside of the reference, and that of the file, which ``run`` runs once on the inputs of ``reference``.

    Raises :class:`NotVisible` if one of them cannot be seen.
    """
    if artifact.format == "onnx":
        return onnx_inside(look_inside, target, artifact, reference, store)
    inside = look_inside(reference, store, None, target)
    return inside, _program(artifact, inside, run, store)


def onnx_inside(
    look_inside: LookInside, target: Target, artifact: Artifact, reference: Reference, store: ValueStore
) -> tuple[ReferenceInside, GraphSubject]:
    """The inside of the reference, and that of an ONNX file: run in the precision that the file computes in."""
    from harness.inside.graph import Graph
    from harness.inside.onnx_file import GraphSubject

    precision = precision_of(target)
    graph = Graph(artifact, target, reference.inputs, store)
    inside = look_inside(reference, store, precision if precision in NARROW else graph.narrow_dtype, target)
    return inside, GraphSubject(graph, store, exported=target.exports, matched=inside.matched)


def _with_runs(
    table: LayerTable,
    session: Profiled,
    inputs: Mapping[str, Array],
    folder: Path,
    name_of: Callable[[str], str],
) -> LayerTable:
    """``table`` with the median time of each layer's nodes and who ran them, as the runtime runs the whole file."""
    nodes = session.node_times(inputs, PROFILED_RUNS, folder / "trace.json")
    seconds: dict[str, float] = {}
    providers: dict[str, str] = {}
    for node in nodes:
        name = name_of(original_name(node.node))
        seconds[name] = seconds.get(name, 0.0) + statistics.median(node.us) / 1e6
        providers[name] = node.provider
    every = {node.provider for node in nodes}
    only = every.pop() if len(every) == 1 else None
    return replace(table, layers=tuple(_with_run(layer, seconds, providers, only) for layer in table.layers))


def original_name(name: str) -> str:
    """The name of a node, or of a value of it, before ONNX Runtime fused the node or changed its layout."""
    return _FUSED.sub("", name).removesuffix("_nchwc")


def _with_run(layer: Layer, seconds: Mapping[str, float], providers: Mapping[str, str], only: str | None) -> Layer:
    """``layer`` with its time and its providers. ``only`` is the one of all nodes: fused ones have no own name."""
    own = {name for name in (*layer.nodes, layer.value or "") if name in seconds}
    found = ", ".join(dict.fromkeys(filter(None, (providers[name] for name in sorted(own)))))
    provider = found or (only if layer.nodes else None)
    return replace(layer, provider=provider or None, seconds=sum(seconds[name] for name in own) if own else None)


def _program(
    artifact: Artifact, inside: ReferenceInside, run: Callable[[], object], store: ValueStore
) -> SubjectInside:
    if artifact.format not in {"torchscript", "program"}:
        raise NotVisible(f"the inside of a file of the format {artifact.format} cannot be seen")
    from harness.inside.program import ProgramSubject

    traced = getattr(inside, "traced", None)
    return ProgramSubject(run, getattr(inside, "run_once", None), store, traced)
