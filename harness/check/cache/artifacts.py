"""The artifact cache: exported files, stored under their key, so that nothing is exported twice.

An entry is a folder named by the key of its export (:mod:`harness.check.cache.entry`). It holds the exported file, or
how the exporter refused, and ``entry.json``. That file holds a note and the note's SHA-256; the note names the files of
the entry and holds their SHA-256.

An entry is written to a draft folder and renamed into place; a damaged one is exported again. An outcome that may
differ next time (out of memory, a full disk) is not stored.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from harness.check.cache.disk_space import (
    PROBE_BYTES,
    check_free_space,
    disk_errors_as_disk_full,
    has_ample_space,
    is_disk_error,
    raise_if_disk_full,
)
from harness.check.cache.entry import ENTRY_FILE, CacheEntry, key, keys, read_entry, write_entry
from harness.check.cache.memo import Capture, NullCapture
from harness.check.stages import chain_text, message_of, symptom_of
from harness.errors import DiskFull, StageError, cause_chain
from harness.exporters import Artifact
from harness.exporters._files import is_refusal
from harness.exporters._speed_ups import fallback_note
from harness.forked import exit_if_forked
from harness.spec.language.case import Case, FactoryModel
from harness.spec.targets import Target

DRAFTS = "drafts"
DRAFT_LIFETIME_S = 86400.0
STATEFUL_EXPORTERS = {"script"}
"""Exporters that leave state in torch even when they fail because they do not support something."""

# Errors that may not occur another day, or on another machine of the same kind.
_TRANSIENT_ERRORS = (OSError, MemoryError, ImportError, DiskFull)
_TRANSIENT_TEXTS = ("PytorchStreamWriter", "can't start new thread")


@dataclass
class ExportHistory:
    """What a process did before an export that may change what the export answers.

    ``ran_checks`` is True after the first check of the process. ``failed_after_checks`` becomes True once an export
    failed then: an earlier check may be the cause, so a fresh process must decide. ``left_state`` becomes True once an
    export may have left something in torch that changes a later one.
    """

    ran_checks: bool = False
    failed_after_checks: bool = False
    left_state: bool = False

    def record_failure(self, error: BaseException, exporter: str, expected: str | None = None) -> None:
        """Record that an export failed.

        What an exporter does not support, it does not support in any process. Nor does an error in the words
        ``expected``, with which eager torch refuses the case too, come from an earlier check.
        """
        is_expected = expected is not None and expected in chain_text(error)
        if isinstance(error, Exception) and exporter not in STATEFUL_EXPORTERS and (is_expected or is_refusal(error)):
            return
        self.left_state = True
        self.failed_after_checks |= self.ran_checks


class ArtifactCache:
    """The artifacts of one run; with a ``folder``, also those of earlier runs.

    ``model_size`` is the size of the model in bytes, 0 if it is not known. ``history`` is that of the process.
    """

    def __init__(
        self,
        folder: Path | None,
        scratch: Path,
        capture: Capture | None = None,
        history: ExportHistory | None = None,
    ) -> None:
        """Store artifacts in ``folder``. Those that cannot be cached go to ``scratch``, which the caller removes."""
        self._folder, self._scratch = folder, scratch
        self._capture = capture or NullCapture()
        self._exported = self._reused = 0
        self._process = os.getpid()
        self._keys: tuple[Case, Callable[[Target], str]] | None = None
        self._kept: dict[str, Path] = {}
        self.model_size = 0
        self.history = history or ExportHistory()

    def get(self, case: Case, target: Target, suffix: str, export: Callable[[Path], Artifact]) -> Artifact:
        """The artifact of ``case`` for ``target.export``: from the cache if it is valid there, else from ``export``.

        Raises what ``export`` raises, or an error that makes the same result: a refusal that the exporter would repeat
        is stored too, unless an earlier check may be the cause. A factory runs a user's code, which no key can cover,
        so its exports are never stored.
        """

        def counted_export(path: Path) -> Artifact:
            self._exported += 1
            note = fallback_note()
            try:
                return export(path)
            except BaseException as error:
                self.history.record_failure(error, target.exporter, case.expect.raises)
                raise
            finally:
                exit_if_forked(self._process)
                self.history.left_state |= fallback_note() != note

        if self._keys is None or self._keys[0] is not case:
            self._keys = case, keys(case)
        name, filename = self._keys[1](target), f"model{suffix}"
        if self._folder is None or isinstance(case.model.model, FactoryModel):
            return self.write_uncached(name, filename, counted_export)
        place = _entry_folder(self._folder, name)
        entry = read_entry(place)
        if entry is None:
            entry = self._export_into_cache(self._folder, place, filename, counted_export)
        else:
            self._reused += 1
        self._capture.write(entry.output)
        artifact = entry.artifact_or_raise()
        self._kept[artifact.digest] = artifact.path
        return artifact

    def path_of(self, digest: str | None) -> str | None:
        """Where the artifact with ``digest`` is kept, with ``~`` for the home folder; None if it ends with the run."""
        path = None if digest is None else self._kept.get(digest)
        if path is None:
            return None
        with suppress(ValueError, RuntimeError):  # outside the home folder, or there is none
            return f"~/{path.relative_to(Path.home()).as_posix()}"
        return str(path)

    def without_counting(self) -> ArtifactCache:
        """The same cache, for exports that do not count as exports of this run."""
        return ArtifactCache(self._folder, self._scratch, self._capture, self.history)

    def take_counts(self) -> tuple[int, int]:
        """The numbers of exports made and of exports reused from the cache since the last call."""
        counts = self._exported, self._reused
        self._exported = self._reused = 0
        return counts

    def write_uncached(self, name: str, filename: str, export: Callable[[Path], Artifact]) -> Artifact:
        """The artifact that ``export`` writes to a folder called ``name``, which ends with the run."""
        folder = self._scratch / name
        try:
            folder.mkdir(exist_ok=True)
            return export(folder / filename)
        except BaseException as error:
            # A user's code may have written to another disk, so the error alone does not show that this disk is full.
            needed = PROBE_BYTES + 2 * self.model_size if is_disk_error(error) else PROBE_BYTES
            check_free_space(self._scratch, needed)
            raise

    def _export_into_cache(
        self, folder: Path, place: Path, filename: str, export: Callable[[Path], Artifact]
    ) -> CacheEntry:
        """Export and store the outcome. Raises the exporter's error if it may not occur next time."""
        with _draft_folder(folder) as draft:
            with self._capture.capturing() as captured:
                artifact, error = _try_export(export, draft / filename)
            if error is not None:
                raise_if_disk_full(error, folder)
                repeatable = not self.history.failed_after_checks and _is_repeatable(error)
                if not (repeatable and has_ample_space(folder)):
                    self._capture.write(captured.lines)
                    raise error
            with disk_errors_as_disk_full(folder):
                artifact = artifact and replace(artifact, path=place / artifact.path.name)
                entry = _entry_of(artifact, error, captured.lines)
                write_entry(entry, draft)
                return _move_into_place(entry, draft, place)


def is_cached(folder: Path | None, case: Case, target: Target) -> bool:
    """True if the cache in ``folder`` has an entry for the export of ``case`` for ``target``, valid or not."""
    return folder is not None and (_entry_folder(folder, key(case, target)) / ENTRY_FILE).exists()


def open_cache(folder: Path) -> None:
    """Create ``folder`` if needed, check that it is writable, and remove drafts that killed runs left.

    Raises ``OSError`` if it is not writable.
    """
    drafts = folder / DRAFTS
    drafts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=drafts):
        pass
    for draft in drafts.iterdir():
        if draft.stat().st_mtime < time.time() - DRAFT_LIFETIME_S:
            shutil.rmtree(draft, ignore_errors=True)


def _entry_folder(folder: Path, name: str) -> Path:
    return Path(folder, name[:2], name)


@contextmanager
def _draft_folder(folder: Path) -> Iterator[Path]:
    """A folder to write an entry to. It is removed at the end if it was not moved into place."""
    draft = Path(folder, DRAFTS, token_hex(16))
    with disk_errors_as_disk_full(folder):
        draft.mkdir(mode=0o700, parents=True)
    try:
        yield draft
    finally:
        if os.access(draft, os.F_OK):
            shutil.rmtree(draft, ignore_errors=True)


def _try_export(export: Callable[[Path], Artifact], path: Path) -> tuple[Artifact | None, BaseException | None]:
    try:
        return export(path), None
    except BaseException as error:  # noqa: BLE001 - returned, and raised by the caller
        return None, error


def _is_repeatable(error: BaseException) -> bool:
    """True if the exporter would raise ``error`` again."""
    if not isinstance(error, Exception):
        return False
    message = message_of(error)
    if symptom_of(error) not in {"exception", "unsupported"} or any(text in message for text in _TRANSIENT_TEXTS):
        return False
    return not any(isinstance(cause, _TRANSIENT_ERRORS) for cause in cause_chain(error))


def _entry_of(artifact: Artifact | None, error: BaseException | None, output: tuple[str, ...]) -> CacheEntry:
    if error is None:
        return CacheEntry(artifact, None, unsupported=False, output=output)
    from_library = not isinstance(error, StageError) or error.from_library
    return CacheEntry(None, message_of(error), symptom_of(error) == "unsupported", output, from_library)


def _move_into_place(entry: CacheEntry, draft: Path, place: Path) -> CacheEntry:
    """Rename ``draft`` to ``place``. Returns the entry that is there: another run may have been faster."""
    try:
        _rename(draft, place)
    except OSError:
        return _replace_if_damaged(draft, place)
    return entry


def _rename(draft: Path, place: Path) -> None:
    try:
        draft.rename(place)
    except FileNotFoundError:
        place.parent.mkdir(exist_ok=True)
        draft.rename(place)


def _replace_if_damaged(draft: Path, place: Path) -> CacheEntry:
    """Replace what is at ``place`` by ``draft`` unless it is a valid entry. A lock admits one run at a time."""
    from filelock import FileLock

    with FileLock(place.parents[1] / "repair.lock"):
        if read_entry(place) is None:
            place.rename(draft.with_name(f"{draft.name}.damaged"))
            draft.rename(place)
    shutil.rmtree(draft.with_name(f"{draft.name}.damaged"), ignore_errors=True)
    entry = read_entry(place)
    if entry is None:
        raise DiskFull(f"{place} cannot be read back as it was written; check that disk, or use --no-cache")
    return entry
