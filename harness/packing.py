"""``harness pack``: exports the cases in worker processes and writes a bundle, complete or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from harness.check.judging.layers import is_whole_model
from harness.check.recorded.content_store import ENTRIES, ContentStore, layers_of
from harness.check.recorded.packed_layers import LayersEntry, read_layers
from harness.check.settings import Settings
from harness.engine.bench import bench_cases, with_shapes
from harness.engine.processes.temporary import folder_becoming, temporary_folder
from harness.engine.run_checks import run_jobs
from harness.environment import usable_cpus, versions
from harness.errors import Interrupted, Location, RequestError, UsageError
from harness.pipeline import ProgressListener
from harness.plan import Plan, plan
from harness.registry import plugins
from harness.result import Result, to_json
from harness.spec import KNOWN_FAILURES_FILE
from harness.spec.bundle.entries import CaseEntry
from harness.spec.bundle.reader import (
    FORMAT,
    MANIFEST_FILE,
    BundleTargets,
    manifest_seal,
    sha256_of,
)
from harness.spec.discovery import load_specs
from harness.spec.glob import NameIndex
from harness.spec.known_failures import KnownFailure, load_known_failures
from harness.spec.language.case import Case
from harness.spec.targets import Target, split_target

PACKED_FORMATS = ("torchscript", "onnx")


@dataclass(frozen=True, slots=True)
class PackRequest:
    """The options of ``harness pack``; each field is the option of the same name, ``out`` that of ``-o``."""

    paths: tuple[str, ...]
    out: Path
    targets: tuple[str, ...] = ("default",)
    keywords: tuple[str, ...] = ()
    workers: int = 0
    known_failures: Path | None = None
    bench: bool = True
    allow_import: bool = False
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class LayersSummary:
    """The layers in a bundle: of how many ``exports``, how many ``rows`` a layer table of all of them has.

    ``bytes`` is what their values take, those of the outputs included. ``remarks`` are lines about layers that are
    missing, or whose values are.
    """

    exports: int
    rows: int
    bytes: int
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PackSummary:
    """The size of a bundle, and the exports that it holds no file of.

    ``bytes_on_disk`` counts a file with several names once, ``bytes_by_name`` counts it for each name. ``layers`` is
    None if they were not asked for. ``unmatched`` are the keywords that match no case.
    """

    cases: int
    exports: int
    bytes_on_disk: int
    bytes_by_name: int
    not_packed: tuple[Result, ...]
    layers: LayersSummary | None = None
    unmatched: tuple[str, ...] = ()


def pack(request: PackRequest, watcher: ProgressListener) -> PackSummary:
    """Write the bundle. Raises :class:`harness.errors.RequestError` if the request is wrong."""
    specs = load_specs(request.paths, allow_import=request.allow_import)
    if recorded := next((case for case in specs.cases if case.is_recorded), None):
        advice = "copy it as it is, harness run needs no torch for it"
        raise RequestError(f"{recorded.where.file}: {recorded.id} is a recorded model already; {advice}")
    if compared := next((case for case in specs.cases if case.files), None):
        advice = "harness record writes a folder with both sides that needs no torch; or copy the spec with its files"
        raise RequestError(
            f"{compared.where.file}: {compared.id} has files under test, which no bundle holds yet; {advice}"
        )
    targets = specs.target_sets.select(request.targets)
    unportable = {name for name, exporter in plugins("exporters").items() if exporter.makes not in PACKED_FORMATS}
    if target := next((each for each in targets if each.exporter in unportable), None):
        raise UsageError(f"{target}: its files run on this machine only; a bundle holds TorchScript and ONNX files")
    one_per_export = tuple({target.export: target for target in targets}.values())
    export_plan = plan(specs.cases, one_per_export, request.keywords, None)
    cases = [case for case, _ in export_plan.jobs]
    known_failures = load_known_failures(request.known_failures or specs.known_failures)
    with folder_becoming(request.out) as folder:
        results = _export(request, with_shapes(export_plan) if request.bench else export_plan, folder, watcher)
        entries, not_packed = _entries(folder, cases, one_per_export, results)
        (folder / KNOWN_FAILURES_FILE).write_text(_matching_list(known_failures, cases, targets), encoding="utf-8")
        shutil.rmtree(folder / ENTRIES, ignore_errors=True)
        manifest = _manifest(folder, entries, targets)
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        exports = sum(len(each["exports"]) for entry in entries for each in (entry, *entry["bench"]))
        layers = None if request.settings.pack_layers is None else _layers(folder, entries, cases, results)
        return PackSummary(len(cases), exports, *_sizes(folder), not_packed, layers, export_plan.unmatched)


def _export(request: PackRequest, export_plan: Plan, folder: Path, watcher: ProgressListener) -> list[Result]:
    """Export each case for each of its targets into ``folder``; the results say which exports succeeded."""
    workers = min(request.workers or usable_cpus(), len(export_plan.jobs))
    settings = replace(request.settings, latency=False, pack=folder.resolve())
    watcher.begin(export_plan.checks, "exports")
    try:
        with temporary_folder() as report_dir:
            state = run_jobs(export_plan.jobs, settings, workers, report_dir, watcher, resume=False)
    finally:
        watcher.end()
    if state.interrupted_by is not None:
        raise Interrupted(state.interrupted_by)
    return state.results


def _entries(
    folder: Path, cases: Sequence[Case], targets: Sequence[Target], results: Sequence[Result]
) -> tuple[list[dict[str, Any]], tuple[Result, ...]]:
    """The manifest's entry for each case, and the results of the exports without a file."""
    store = ContentStore(folder)
    not_packed: list[Result] = []
    result_of = {(result.case, result.target): result for result in results}
    entries = []
    for case in cases:
        entry = store.get_entry(case.id) or CaseEntry.of(case).model_dump(exclude={"further", "training"})
        bench_shapes = [shape for shape in bench_cases(case) if (shape.id, str(targets[0])) in result_of]
        entry["bench"], bench_not_packed = _entries(folder, bench_shapes, targets, results)
        not_packed += bench_not_packed
        for target in targets:
            result = result_of[case.id, str(target)]
            # A file may be complete although its worker died or timed out afterwards; without a pass it is not packed.
            if result.status == "passed" and (export := store.get_entry(case.id, target.export)) is not None:
                layers = store.get_entry(case.id, layers_of(target.export)) or {}
                entry["exports"][target.export] = {**export, **layers}
            else:
                entry["not_packed"][target.export] = to_json(result)
                not_packed.append(result)
        entries.append(entry)
    return entries, tuple(not_packed)


def _layers(
    folder: Path, entries: Sequence[dict[str, Any]], cases: Sequence[Case], results: Sequence[Result]
) -> LayersSummary:
    """The layers that were packed of the ``entries``, and what is missing of them."""
    notes = {(result.case, split_target(result.target)[0]): result.notes for result in results}
    remarks = [] if any(map(is_whole_model, cases)) else ["no layers: none of these cases is a whole model"]
    packed: list[LayersEntry] = []
    exports = rows = 0
    for case, entry in zip(cases, entries, strict=True):
        for export, each in entry["exports"].items() if is_whole_model(case) else ():
            layers = [read_layers(folder / path) for path in each.get("layers", ())]
            reasons = [one.reason for one in layers if one.reason] if layers else notes[case.id, export]
            remarks += [f"no layers: {case.id} on {export} | {reason}" for reason in dict.fromkeys(reasons)]
            left = dict.fromkeys(one.not_packed for one in layers if one.not_packed)
            remarks += [f"not all layers: {case.id} on {export} | {text}" for text in left]
            packed += layers
            exports += any(one.calls for one in layers)
            rows += max((len(one.calls) for one in layers), default=0)
    files = {path for one in packed for path in one.files}
    size = sum((folder / path).stat().st_size for path in files)
    return LayersSummary(exports, rows, size, tuple(remarks))


def _matching_list(known_failures: Sequence[KnownFailure], cases: Sequence[Case], targets: Sequence[Target]) -> str:
    """The list of the known failures that match a check of the bundle; the other entries would be stale there."""
    packed_for = [str(target) for target in targets]
    bundle_targets = NameIndex(map(str, BundleTargets.of(packed_for, Location(MANIFEST_FILE)).all))
    case_ids = NameIndex(case.id for case in cases)
    kept = [
        {key: value for key, value in asdict(entry).items() if key != "where" and value}
        for entry in known_failures
        if case_ids.any_matching(entry.cases) and bundle_targets.any_matching(entry.targets)
    ]
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _manifest(folder: Path, entries: Sequence[dict[str, Any]], targets: Sequence[Target]) -> dict[str, Any]:
    content = {
        "format": FORMAT,
        "versions": dict(versions()),
        "targets": [str(target) for target in targets],
        "files": {name: sha256_of(folder / name) for name in sorted(_file_names(folder))},
        "cases": list(entries),
    }
    return {**content, "seal": manifest_seal(content)}


def _file_names(folder: Path) -> Iterator[str]:
    yield from (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _sizes(folder: Path) -> tuple[int, int]:
    """The bytes on disk, where each file counts once, and the bytes by name."""
    stats = [(folder / name).stat() for name in _file_names(folder)]
    return sum({stat.st_ino: stat.st_size for stat in stats}.values()), sum(stat.st_size for stat in stats)
