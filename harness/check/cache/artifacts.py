"""One entry of the cache: a folder with a sealed note of what an export came to, and the exported file if there is one.

``entry.json`` holds the note and its SHA-256. The note names the files that stand beside it, and
holds the SHA-256 of them all.

Exported files, kept by what they are made of, so that nothing is exported twice.

An entry is named by the digest of everything that the export depends on, and holds the exported
file, or how the exporter refused. It is written beside its place and renamed into it; one that is
damaged is made anew. What may be another time otherwise (want of memory, the disk) is not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from secrets import token_hex
from typing import Any

from harness.check.cache.disk_space import PROBE, is_about_room, is_ample, see_room, stop_if_full, writing_to
from harness.check.cache.key import key, keys
from harness.check.memo import Capture, NullCapture
from harness.check.stages import message_of, symptom_of
from harness.errors import DiskFull, StageError, Unsupported, causes
from harness.exporters import Artifact
from harness.exporters._files import sha256
from harness.forked import end_if_forked
from harness.serialization import one_line
from harness.spec.language.case import Case, FactoryModel
from harness.spec.targets import Target

NOTE = "entry.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """What an export came to: an artifact, or ``refused`` with the message of the row. ``said`` is what was printed.

    ``of_library`` is False where it was harness that refused, as :class:`StageError` tells it.
    """

    artifact: Artifact | None
    refused: str | None
    unsupported: bool
    said: tuple[str, ...]
    of_library: bool = True

    def give(self) -> Artifact:
        """The artifact. Raises what makes the same row as the exporter's own exception did, where it refused."""
        if self.artifact is not None:
            return self.artifact
        assert self.refused is not None
        raise (Unsupported if self.unsupported else StageError)(self.refused, of_library=self.of_library)


def write(entry: Entry, folder: Path) -> None:
    """Put the note into ``folder``, where the exported file stands already."""
    with os.scandir(folder) as held:
        files = sorted(file.name for file in held)
    note = {
        "artifact": None if entry.artifact is None else _noted(entry.artifact),
        "refused": entry.refused,
        "unsupported": entry.unsupported,
        "said": entry.said,
        "of_library": entry.of_library,
        "files": files,
        "sum": _sum(folder, files),
    }
    text = one_line(note).decode()
    (folder / NOTE).write_bytes(one_line({"seal": _seal(text), "note": text}))


def read(folder: Path) -> Entry | None:
    """The entry in ``folder`` where it is whole, else None."""
    if not (folder / NOTE).is_file():  # by far the most in a first run; what is there and no file may never end
        return None
    try:
        sealed = json.loads((folder / NOTE).read_bytes())
        if sealed["seal"] != _seal(sealed["note"]):
            return None
        note = json.loads(sealed["note"])
        files = note.pop("files")
        if not all((folder / name).is_file() for name in files) or note.pop("sum") != _sum(folder, files):
            return None
        artifact = None if note["artifact"] is None else _artifact(note["artifact"], folder)
        return Entry(**note | {"artifact": artifact, "said": tuple(note["said"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _noted(made: Artifact) -> dict[str, Any]:
    return {field.name: getattr(made, field.name) for field in fields(made)} | {"path": made.path.name}


def _artifact(note: dict[str, Any], folder: Path) -> Artifact:
    return Artifact(**note | {"path": folder / note["path"], "notes": tuple(note["notes"])})


def _sum(folder: Path, files: Iterable[str]) -> str:
    return sha256(*(folder / name for name in files))


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


DRAFTS = "drafts"
LEAVING_STATE = {"script"}
ABANDONED = 86400.0
# What another day, or another machine of the same make, may answer otherwise.
PASSING = (OSError, MemoryError, ImportError, DiskFull)
PASSING_WORDS = ("PytorchStreamWriter", "can't start new thread")


class Artifacts:
    """The exported files of one run; with a ``folder``, of the runs before it too.

    ``doubtful`` is True once an exporter failed that leaves state behind in torch, which changes what it says next.
    ``size`` is how many bytes an export may well take, 0 where that is not known.
    """

    def __init__(self, folder: Path | None, scratch: Path, capture: Capture | None = None) -> None:
        """Keep what may be kept in ``folder``, and the rest in ``scratch``, which is the caller's to remove."""
        self._folder, self._scratch = folder, scratch
        self._ear = capture or NullCapture()
        self._exported = self._reused = 0
        self._process = os.getpid()
        self.size = 0
        self._keys: tuple[Case, Callable[[Target], str]] | None = None
        self.doubtful = False

    def get(self, case: Case, target: Target, suffix: str, export: Callable[[Path], Artifact]) -> Artifact:
        """The artifact of ``case`` for ``target.export``, from the cache where it holds, else by calling ``export``.

        Raises what ``export`` raises, or what makes the same row: where an exporter would refuse again, the cache
        answers for it the next time. A factory runs a user's code, which no key can cover: its exports are never kept.
        """

        def watched(path: Path) -> Artifact:
            self._exported += 1
            try:
                return export(path)
            except BaseException:
                self.doubtful |= target.exporter in LEAVING_STATE
                raise
            finally:
                end_if_forked(self._process)

        if self._keys is None or self._keys[0] is not case:
            self._keys = case, keys(case)
        name, filename = self._keys[1](target), f"model{suffix}"
        if self._folder is None or isinstance(case.model.model, FactoryModel):
            return self._anew(self._scratch / name, filename, watched)
        place = _place(self._folder, name)
        entry = read(place)
        if entry is None:
            entry = self._made(self._folder, place, filename, watched)
        else:
            self._reused += 1
        self._ear.say(entry.said)
        return entry.give()

    def beside(self) -> Artifacts:
        """The same cache, for exports that are not counted as this run's."""
        return Artifacts(self._folder, self._scratch, self._ear)

    def counted(self) -> tuple[int, int]:
        """How many exports were made, and how many came from the cache, since the last call."""
        counts = self._exported, self._reused
        self._exported = self._reused = 0
        return counts

    def _anew(self, place: Path, filename: str, export: Callable[[Path], Artifact]) -> Artifact:
        try:
            place.mkdir(exist_ok=True)
            return export(place / filename)
        except BaseException as error:
            # The code of a user may have written to another disk, so that what is said is not enough.
            see_room(self._scratch, PROBE + 2 * self.size if is_about_room(error) else PROBE)
            raise

    def _made(self, folder: Path, place: Path, filename: str, export: Callable[[Path], Artifact]) -> Entry:
        """Export, and keep what came of it; raise what came of it where another time it may be otherwise."""
        with _draft(folder) as draft:
            with self._ear.listening() as heard:
                made, error = _attempt(export, draft / filename)
            if error is not None:
                stop_if_full(error, folder)
                if not (_lasting(error) and is_ample(folder)):
                    self._ear.say(heard.lines)
                    raise error
            with writing_to(folder):
                entry = _entry(made and replace(made, path=place / made.path.name), error, heard.lines)
                write(entry, draft)
                return _put(entry, draft, place)


def is_kept(folder: Path | None, case: Case, target: Target) -> bool:
    """True where the cache in ``folder`` has an entry for that export, whole or not."""
    return folder is not None and (_place(folder, key(case, target)) / NOTE).exists()


def is_empty(folder: Path | None) -> bool:
    """True where there is no entry in the cache in ``folder``."""
    return folder is None or next(folder.glob("??/*"), None) is None


def _place(folder: Path, name: str) -> Path:
    return Path(folder, name[:2], name)


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A place to make an entry in; what is still there in the end is thrown away."""
    draft = Path(folder, DRAFTS, token_hex(16))
    with writing_to(folder):
        draft.mkdir(mode=0o700, parents=True)
    try:
        yield draft
    finally:
        if os.access(draft, os.F_OK):
            shutil.rmtree(draft, ignore_errors=True)


def open_cache(folder: Path) -> None:
    """See that ``folder`` is there and can be written to, and throw away what killed runs left unfinished.

    Raises ``OSError`` where it cannot.
    """
    drafts = folder / DRAFTS
    drafts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=drafts):
        pass
    for draft in drafts.iterdir():
        if draft.stat().st_mtime < time.time() - ABANDONED:
            shutil.rmtree(draft, ignore_errors=True)


def _attempt(export: Callable[[Path], Artifact], path: Path) -> tuple[Artifact | None, BaseException | None]:
    try:
        return export(path), None
    except BaseException as error:  # noqa: BLE001 - kept, and raised by the caller
        return None, error


def _lasting(error: BaseException) -> bool:
    """True for what the exporter would say again."""
    if not isinstance(error, Exception):
        return False
    said = message_of(error)
    passing = symptom_of(error) not in {"exception", "unsupported"} or any(word in said for word in PASSING_WORDS)
    return not passing and not any(isinstance(cause, PASSING) for cause in causes(error))


def _entry(made: Artifact | None, error: BaseException | None, said: tuple[str, ...]) -> Entry:
    if error is None:
        return Entry(made, None, unsupported=False, said=said)
    of_library = not isinstance(error, StageError) or error.of_library
    return Entry(None, message_of(error), symptom_of(error) == "unsupported", said, of_library)


def _put(entry: Entry, draft: Path, place: Path) -> Entry:
    """Move a finished entry into its place, and tell what stands there: another run may have been quicker."""
    try:
        _rename(draft, place)
    except OSError:
        return _take_the_place(draft, place)
    return entry


def _rename(draft: Path, place: Path) -> None:
    try:
        draft.rename(place)
    except FileNotFoundError:
        place.parent.mkdir(exist_ok=True)
        draft.rename(place)


def _take_the_place(draft: Path, place: Path) -> Entry:
    """Put ``draft`` where something stands, unless that is a whole entry; one run at a time."""
    from filelock import FileLock

    with FileLock(place.parents[1] / "repair.lock"):
        if read(place) is None:
            place.rename(draft.with_name(f"{draft.name}.damaged"))
            draft.rename(place)
    shutil.rmtree(draft.with_name(f"{draft.name}.damaged"), ignore_errors=True)
    entry = read(place)
    if entry is None:
        raise DiskFull(f"{place} cannot be read back as it was written; look at that disk, or use --no-cache")
    return entry
