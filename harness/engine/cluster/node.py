"""What travels between machines: exported files by their content, and the files of recorded models.

What a machine of the cluster does with a job: the same as a run on one machine does, with one worker.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.check.cache.artifacts import DRAFTS, open_cache, read
from harness.check.cache.key import key
from harness.check.settings import cache_folder
from harness.engine.job import Job
from harness.engine.journal import Entry
from harness.engine.local import LocalEngine
from harness.engine.processes.temporary import temporary_folder
from harness.environment import versions
from harness.result import Result
from harness.spec.language.case import FactoryModel, FileModel

Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Freight:
    """``exports`` holds entries of the cache by name, each as its files; ``recorded`` the files of a recorded model."""

    exports: Mapping[str, Files] = field(default_factory=dict)
    recorded: Files = field(default_factory=dict)


def names(job: Job) -> set[str]:
    """The names under which the cache keeps the job's exports; none where it keeps none."""
    if isinstance(job.case.model.model, FactoryModel | FileModel) or job.settings.cache is None:
        return set()
    return {key(job.case, target) for target in job.targets}


def load(job: Job, cache: Path | None) -> Freight:
    """What the job needs of this machine's files."""
    model = job.case.model.model
    recorded = _files(Path(model.path).parent) if isinstance(model, FileModel) else {}
    return Freight(packed(names(job), cache), recorded)


def packed(wanted: Iterable[str], cache: Path | None) -> dict[str, Files]:
    """Those of the ``wanted`` entries that stand whole in the cache."""
    if cache is None:
        return {}
    places = {name: cache / name[:2] / name for name in wanted}
    return {name: _files(place) for name, place in places.items() if read(place) is not None}


def unpack(exports: Mapping[str, Files], cache: Path | None) -> None:
    """Put entries into the cache, each whole or not at all. What is there already stays."""
    if cache is None:
        return
    for name, files in exports.items():
        place = cache / name[:2] / name
        if read(place) is not None:
            continue
        (cache / DRAFTS).mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=cache / DRAFTS))
        _write(files, draft)
        place.parent.mkdir(exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        try:
            draft.rename(place)
        except OSError:  # another one brought it at the same moment
            shutil.rmtree(draft)


def new(job: Job, cache: Path | None, known: Collection[str]) -> dict[str, Files]:
    """The job's exports that were made here."""
    return packed(names(job) - set(known), cache)


def at_home(job: Job, recorded: Files, folder: Path) -> Job:
    """The job, with its recorded model's files in ``folder``."""
    model = job.case.model.model
    if not isinstance(model, FileModel):
        return job
    _write(recorded, folder)
    there = Path(model.path).parent
    moved = replace(
        model,
        path=str(folder / Path(model.path).name),
        data_sets=tuple(str(folder / Path(each).relative_to(there)) for each in model.data_sets),
    )
    return replace(job, case=replace(job.case, model=replace(job.case.model, model=moved)))


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _write(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


OWN_CODE = "own_code"
"""The folder, below the one that Ray starts its workers in, that holds what the run's own folder holds."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What comes back: the job's entries, the exports that were made for it, and what the machine has installed."""

    entries: tuple[Entry, ...]
    exports: Mapping[str, Files]
    versions: Mapping[str, str]
    machine: str


def carry_out(job: Job, freight: Freight) -> Brought:
    """Run the job's checks here, in contained workers."""
    cache = None if job.settings.cache is None else cache_folder()
    if cache is not None:
        open_cache(cache)
        unpack(freight.exports, cache)
    with temporary_folder() as scratch:
        journal = scratch / "journal.jsonl"
        journal.touch()
        settings = replace(job.settings, cache=cache, concurrent=1)
        own = Path.cwd() / OWN_CODE
        home = own if job.runs_own_code and own.is_dir() else Path.cwd()
        here = replace(job, settings=settings, journal=journal, scratch=scratch, home=home)
        here = at_home(here, freight.recorded, scratch / "recorded")
        entries = tuple(LocalEngine(1, journal, scratch).run([here]))
    machine = socket.gethostname()
    told = tuple(replace(entry, result=_told(entry.result, machine)) for entry in entries)
    return Brought(told, new(here, cache, freight.exports), versions(), machine)


def _told(result: Result, machine: str) -> Result:
    """The result, with the machine that its latency is of."""
    return result if result.latency is None else replace(result, latency={**result.latency, "machine": machine})
