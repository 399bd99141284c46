"""Trying mutants: copies of the repository, a worker in each, and the outcomes of earlier runs."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from benchmarks.mutants.made import Mutant
from benchmarks.mutants.rooms import Room
from benchmarks.replay.trees import working_tree

Verdict = Literal["killed", "survived", "timeout"]

# A run without a mutant may take this long; a mutant gets a multiple of what its room took then.
_BASELINE_LIMIT = 300.0
_FACTOR, _EXTRA = 3.0, 20.0


class MutantsError(Exception):
    """The mutants cannot be tried; the message is one line."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests of ``room`` made of a mutant: ``by`` is the test that failed, ``passed`` how many passed.

    ``code`` and ``tests`` are digests of the file that was changed and of the room's tests.
    """

    key: str
    room: str
    outcome: Verdict
    by: str
    passed: int
    seconds: float
    code: str
    tests: str

    @property
    def noticed(self) -> bool:
        """Whether a test failed, or did not come to an end."""
        return self.outcome != "survived"


class Worker:
    """A copy of the working tree in ``folder``, and a process in it that tries mutants."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self._folder = folder
        self.tree, self._scratch = folder / "tree", folder / "scratch"
        working_tree(repository, self.tree)
        self._scratch.mkdir(parents=True)
        # PYTHONPATH comes before what is installed: harness is that of the copy, in the tests' own processes too.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutants.worker"],
            cwd=self.tree,
            env=os.environ | {"PYTHONPATH": str(self.tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, room: Room, mutant: Mutant | None, limit: float) -> dict[str, Any]:
        """The answer of the worker for ``mutant``, or for the unchanged code, by the tests of ``room``."""
        file, source = (mutant.file, mutant.source) if mutant else (None, None)
        request = {
            "file": file,
            "source": source,
            "tests": room.test_files(self.tree),
            "torch": room.needs_torch,
            "limit": limit,
            "scratch": str(self._scratch),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise MutantsError(f"a worker ended with exit code {self._process.wait()}")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def output(self) -> str:
        """What the last tests printed."""
        return (self._scratch / "output.txt").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Worker:  # noqa: PYI034 - typing.Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)


class Outcomes:
    """The outcomes of this and earlier runs, one JSON line each.

    An outcome counts as long as the mutant's file and the tests of its room are the same; a killed mutant, with
    ``keep_killed``, also after the tests changed.
    """

    def __init__(self, path: Path, root: Path, rooms: Iterable[Room], *, keep_killed: bool = False) -> None:
        self._path, self._root = path, root
        self._tests = {room.name: _digest(root, room.test_files(root)) for room in rooms}
        self._keep_killed = keep_killed
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        known = (Outcome(**json.loads(line)) for line in lines)
        self._known = {(each.room, each.key): each for each in known}

    def get(self, room: str, mutant: Mutant | None) -> Outcome | None:
        """The outcome of a mutant, or of the unchanged code; None where it was not tried."""
        found = self._known.get((room, mutant.key if mutant else ""))
        if found is None or found.code != self._code(mutant):
            return None
        kept = found.noticed and self._keep_killed
        return found if kept or found.tests == self._tests[room] else None

    def add(self, room: str, mutant: Mutant | None, answer: dict[str, Any]) -> Outcome:
        """Write down the answer for a mutant, or for the unchanged code."""
        key = mutant.key if mutant else ""
        outcome = Outcome(key, room, code=self._code(mutant), tests=self._tests[room], **answer)
        self._known[room, key] = outcome
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        return outcome

    def _code(self, mutant: Mutant | None) -> str:
        return _digest(self._root, [mutant.file] if mutant else [])


def _digest(root: Path, files: Iterable[str]) -> str:
    return hashlib.sha256(b"\0".join((root / file).read_bytes() for file in files)).hexdigest()[:16]


def try_all(
    jobs: Iterable[tuple[Room, Sequence[Mutant]]],
    repository: Path,
    folder: Path,
    outcomes: Outcomes,
    *,
    workers: int,
    seconds: float,
    note: Callable[[str], None],
) -> bool:
    """Try each mutant that has no outcome yet; return whether all were tried before ``seconds`` had passed.

    Raises :class:`MutantsError` where the tests of a room fail without a mutant.
    """
    deadline = time.monotonic() + seconds
    untried = [(room, each) for room, mutants in jobs for each in mutants if outcomes.get(room.name, each) is None]
    waiting: queue.SimpleQueue[tuple[Room, Mutant]] = queue.SimpleQueue()
    for one in untried:
        waiting.put(one)
    problems: list[MutantsError] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        try:
            with Worker(repository, folder / f"worker-{os.getpid()}-{number}") as worker:
                while time.monotonic() < deadline and not problems and not waiting.empty():
                    with suppress(queue.Empty):  # another worker took it
                        note(_try(worker, *waiting.get_nowait(), outcomes, lock))
        except MutantsError as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(min(workers, len(untried)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return waiting.empty()


def _try(worker: Worker, room: Room, mutant: Mutant, outcomes: Outcomes, lock: threading.Lock) -> str:
    """Try one mutant, write its outcome down, and return the line about it."""
    with lock:  # one worker runs the unchanged code, the others use its time
        baseline = outcomes.get(room.name, None)
        if baseline is None:
            baseline = outcomes.add(room.name, None, _baseline(worker, room))
    answer = worker.run(room, mutant, _FACTOR * baseline.seconds + _EXTRA)
    with lock:
        return _line(room, mutant, outcomes.add(room.name, mutant, answer))


def _baseline(worker: Worker, room: Room) -> dict[str, Any]:
    """The answer of the tests of ``room`` without a mutant. Raises :class:`MutantsError` where they fail."""
    answer = worker.run(room, None, _BASELINE_LIMIT)
    if answer["outcome"] != "survived" or not answer["passed"]:
        last = worker.output().strip().splitlines()[-1:] or ["no output"]
        raise MutantsError(f"the tests of {room.name} fail without a mutant ({answer['by']}): {last[0]}")
    return answer


def _line(room: Room, mutant: Mutant, outcome: Outcome) -> str:
    by = f" by {outcome.by.rpartition('::')[2]}" if outcome.by else ""
    where = f"{mutant.file}:{mutant.line}"
    return f"{room.name}: {outcome.outcome}{by} in {outcome.seconds:.1f} s: {where}: {mutant.was} -> {mutant.now}"
