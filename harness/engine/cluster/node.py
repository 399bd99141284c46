"""What a machine of the cluster does with a job: it runs the local engine with one worker.

Files travel with a job and back: exported files as entries of the artifact cache, and the files of recorded models.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.check.cache.artifacts import DRAFTS, open_cache
from harness.check.cache.entry import key, read_entry
from harness.check.settings import cache_folder
from harness.engine.job import Job
from harness.engine.journal import Entry
from harness.engine.local import LocalEngine
from harness.engine.processes.temporary import temporary_folder
from harness.environment import versions
from harness.result import Result
from harness.spec.language.case import FactoryModel, FileModel

Files = Mapping[str, bytes]
"""Relative paths with the content of the files."""

USER_CODE = "user_code"
"""The folder with the content of the run's working directory, below the folder that Ray starts its workers in."""


@dataclass(frozen=True, slots=True)
class JobFiles:
    """``exports`` are cache entries by key, each with its files; ``recorded`` are the files of a recorded model."""

    exports: Mapping[str, Files] = field(default_factory=dict)
    recorded: Files = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What comes back: the job's entries, the exports that were made for it, and the machine's installed versions."""

    entries: tuple[Entry, ...]
    exports: Mapping[str, Files]
    versions: Mapping[str, str]
    machine: str


def run_on_node(job: Job, files: JobFiles) -> NodeResult:
    """Run the job's checks on this machine, in contained workers."""
    cache = None if job.settings.cache is None else cache_folder()
    if cache is not None:
        open_cache(cache)
        write_cache_entries(files.exports, cache)
    with temporary_folder() as scratch:
        journal = scratch / "journal.jsonl"
        journal.touch()
        settings = replace(job.settings, cache=cache, concurrent=1)
        user_code = Path.cwd() / USER_CODE
        home = user_code if job.runs_user_code and user_code.is_dir() else Path.cwd()
        here = replace(job, settings=settings, journal=journal, scratch=scratch, home=home)
        here = _with_recorded_files(here, files.recorded, scratch / "recorded")
        entries = tuple(LocalEngine(1, journal, scratch).run([here]))
    machine = socket.gethostname()
    named = tuple(replace(entry, result=_with_machine(entry.result, machine)) for entry in entries)
    return NodeResult(named, _new_exports(here, cache, files.exports), versions(), machine)


def _with_machine(result: Result, machine: str) -> Result:
    """The result, whose latency names the machine."""
    return result if result.latency is None else replace(result, latency={**result.latency, "machine": machine})


def files_of(job: Job, cache: Path | None) -> JobFiles:
    """Read the files of this machine that the job needs."""
    model = job.case.model.model
    recorded = _read_folder(model.folder) if isinstance(model, FileModel) else {}
    return JobFiles(read_cache_entries(_cache_keys(job), cache), recorded)


def _new_exports(job: Job, cache: Path | None, sent: Collection[str]) -> dict[str, Files]:
    """The job's exports that were made here."""
    return read_cache_entries(_cache_keys(job) - set(sent), cache)


def _cache_keys(job: Job) -> set[str]:
    """The cache keys of the job's exports; empty where the cache keeps none of them."""
    if isinstance(job.case.model.model, FactoryModel | FileModel) or job.settings.cache is None:
        return set()
    return {key(job.case, target) for target in job.targets}


def read_cache_entries(keys: Iterable[str], cache: Path | None) -> dict[str, Files]:
    """Read those entries of ``keys`` that are intact in the cache."""
    if cache is None:
        return {}
    folders = {name: cache / name[:2] / name for name in keys}
    return {name: _read_folder(folder) for name, folder in folders.items() if read_entry(folder) is not None}


def write_cache_entries(exports: Mapping[str, Files], cache: Path | None) -> None:
    """Write entries into the cache, each completely or not at all. Existing entries stay."""
    if cache is None:
        return
    for name, files in exports.items():
        folder = cache / name[:2] / name
        if read_entry(folder) is not None:
            continue
        (cache / DRAFTS).mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=cache / DRAFTS))
        _write_folder(files, draft)
        folder.parent.mkdir(exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            draft.rename(folder)
        except OSError:  # another process wrote it at the same moment
            shutil.rmtree(draft)


def _with_recorded_files(job: Job, recorded: Files, folder: Path) -> Job:
    """The job, with its recorded model's files in ``folder``."""
    model = job.case.model.model
    if not isinstance(model, FileModel):
        return job
    _write_folder(recorded, folder)

    def moved_path(path: str) -> str:
        return str(folder / Path(path).relative_to(model.folder))

    moved = replace(
        model,
        path=moved_path(model.path),
        data_sets=tuple(map(moved_path, model.data_sets)),
        recorded_with=moved_path(model.recorded_with) if model.recorded_with else "",
    )
    return replace(job, case=replace(job.case, model=replace(job.case.model, model=moved)))


def _read_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _write_folder(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
