"""``harness pack``: specs are read, exported in contained workers, and put into a bundle, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from harness.bench import with_shapes
from harness.bench.settings import bench_cases
from harness.check.recorded.content_store import ENTRIES, ContentStore
from harness.check.settings import Settings
from harness.engine.processes.temporary import temporary_folder
from harness.engine.run_checks import run_jobs
from harness.environment import versions
from harness.errors import Interrupted, Location, RequestError, UsageError
from harness.pipeline import Watcher
from harness.plan import Plan, plan
from harness.registry import plugins
from harness.result import Result, to_json
from harness.spec.bundle.entries import CaseEntry
from harness.spec.bundle.reader import FORMAT, KNOWN_FAILURES, MANIFEST, BundleTargets, seal_of, sha256_of
from harness.spec.discovery import load
from harness.spec.glob import Names
from harness.spec.known_failures import KnownFailure, load_known_failures
from harness.spec.language.case import Case
from harness.spec.targets import Target

PACKED = ("torchscript", "onnx")


@dataclass(frozen=True, slots=True)
class PackRequest:
    """What ``harness pack`` was asked for; each field is the option of the same name, ``out`` that of ``-o``."""

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
class Packed:
    """What came of it: how much there is, in bytes on disk and in bytes by name, and what there is no file of."""

    cases: int
    exports: int
    on_disk: int
    by_name: int
    not_packed: tuple[Result, ...]


def pack(request: PackRequest, watcher: Watcher) -> Packed:
    """Write the bundle. Raises :class:`harness.errors.RequestError` where the request is wrong."""
    specs = load(request.paths, allow_import=request.allow_import)
    if there := next((case for case in specs.cases if case.is_recorded), None):
        right = "copy it as it is, harness run takes it without torch"
        raise RequestError(f"{there.where.file}: {there.id} is recorded already; {right}")
    targets = specs.target_sets.select(request.targets)
    unpacked = {name for name, exporter in plugins("exporters").items() if exporter.makes not in PACKED}
    if bound := next((one for one in targets if one.exporter in unpacked), None):
        raise UsageError(f"{bound}: what it makes is for this machine; a bundle holds TorchScript and ONNX files")
    one_each = tuple({target.export: target for target in targets}.values())
    work = plan(specs.cases, one_each, request.keywords, None)
    cases = [case for case, _ in work.work]
    known = load_known_failures(request.known_failures or specs.known_failures)
    with _in_the_making(request.out) as folder:
        results = _exports(request, with_shapes(work) if request.bench else work, folder, watcher)
        entries, not_packed = _entries(folder, cases, one_each, results)
        (folder / KNOWN_FAILURES).write_text(_still_true(known, cases, targets), encoding="utf-8")
        shutil.rmtree(folder / ENTRIES, ignore_errors=True)
        manifest = _manifest(folder, entries, targets)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        exports = sum(len(one["exports"]) for entry in entries for one in (entry, *entry["bench"]))
        return Packed(len(cases), exports, *_sizes(folder), not_packed)


@contextmanager
def _in_the_making(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that becomes it when all is done, and is gone when it is not."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"-o {out}: is there already; name a folder that is not, or an empty one")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UsageError(f"-o {out}: {error.strerror}; name a folder that can be written") from error
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exports(request: PackRequest, work: Plan, folder: Path, watcher: Watcher) -> list[Result]:
    """Each case exported for each of its targets: written into ``folder``, or told why not."""
    workers = min(request.workers or len(os.sched_getaffinity(0)), len(work.work))
    settings = replace(request.settings, latency=False, pack=folder.resolve())
    watcher.begin(work.checks, "exports")
    try:
        with temporary_folder() as place:
            done = run_jobs(work.work, settings, workers, place, watcher, resume=False)
    finally:
        watcher.end()
    if done.interrupted_by is not None:
        raise Interrupted(done.interrupted_by)
    return done.results


def _entries(
    folder: Path, cases: Sequence[Case], targets: Sequence[Target], results: Sequence[Result]
) -> tuple[list[dict[str, Any]], tuple[Result, ...]]:
    """What the manifest says of each case; and the exports that there is no file of."""
    store = ContentStore(folder)
    not_packed: list[Result] = []
    came_to = {(result.case, result.target): result for result in results}
    entries = []
    for case in cases:
        entry = store.left(case.id) or CaseEntry.of(case).model_dump()
        packed_shapes = [other for other in bench_cases(case) if (other.id, str(targets[0])) in came_to]
        entry["bench"], not_packed_there = _entries(folder, packed_shapes, targets, results)
        not_packed += not_packed_there
        for target in targets:
            result = came_to[case.id, str(target)]
            # A file that was written before its worker died, or ran out of its time, is whole, but was not vouched for.
            if result.status == "passed" and (export := store.left(case.id, target.export)) is not None:
                entry["exports"][target.export] = export
            else:
                entry["not_packed"][target.export] = to_json(result)
                not_packed.append(result)
        entries.append(entry)
    return entries, tuple(not_packed)


def _still_true(known: Sequence[KnownFailure], cases: Sequence[Case], targets: Sequence[Target]) -> str:
    """The entries that speak of what the bundle can be taken to: the others would be stale there."""
    reached = Names(map(str, BundleTargets.of([str(target) for target in targets], Location(MANIFEST)).all))
    packed = Names(case.id for case in cases)
    kept = [
        {key: value for key, value in asdict(entry).items() if key != "where" and value}
        for entry in known
        if packed.any_matching(entry.cases) and reached.any_matching(entry.targets)
    ]
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _manifest(folder: Path, entries: Sequence[dict[str, Any]], targets: Sequence[Target]) -> dict[str, Any]:
    content = {
        "format": FORMAT,
        "versions": dict(versions()),
        "targets": [str(target) for target in targets],
        "files": {name: sha256_of(folder / name) for name in sorted(_names(folder))},
        "cases": list(entries),
    }
    return {**content, "seal": seal_of(content)}


def _names(folder: Path) -> Iterator[str]:
    yield from (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _sizes(folder: Path) -> tuple[int, int]:
    """Bytes on disk, where each file counts once, and bytes by name."""
    found = [(folder / name).stat() for name in _names(folder)]
    return sum({one.st_ino: one.st_size for one in found}.values()), sum(one.st_size for one in found)
