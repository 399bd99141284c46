"""``harness run --watch``: run the checks, then run them again whenever one of their files is saved.

The server with the libraries, some workers and the journal stay: after a change, only the changed specs are read, and
of their checks only those are run whose case changed. Files are compared by their size and time, many times a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cli.process import echo
from harness.engine.job import callables_of, source_files
from harness.engine.processes.fork_server import start_server
from harness.engine.processes.temporary import temporary_folder
from harness.engine.worker_slot import Workers
from harness.errors import HarnessError, SpecError, one_line
from harness.pipeline import Outcome, Request
from harness.pipeline import run as run_pipeline
from harness.report.terminal import Progress
from harness.spec import KNOWN_FAILURES_FILE, TARGETS_FILE, has_specs
from harness.spec.discovery import Specs, load_specs
from harness.spec.glob import path_and_case
from harness.spec.language.case import Case, StoredModel
from harness.spec.quoting import count_of

PAUSE_S = 0.02
SHARE_OF_TIME = 0.1
"""How much of one CPU looking at the files may take."""
KEPT_WORKERS = 4
"""How many workers wait for the next save; each holds memory."""

State = tuple[int, int, int]
Show = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Change:
    """The ``paths`` to run after a save; ``fresh`` is True if checks may differ although their cases do not."""

    paths: tuple[str, ...]
    fresh: bool


def watch(request: Request, show: Show) -> int:
    """Run the checks of ``request`` now and after each change of their files, until a signal ends it."""
    start_server(torch=has_specs(path_and_case(path)[0] for path in request.paths))
    with temporary_folder() as folder, closing(Workers(folder, KEPT_WORKERS)) as workers:
        return _watch(replace(request, kept=workers), show)


def _watch(request: Request, show: Show) -> int:
    watched = Watched(request)
    change = Change(request.paths, fresh=not request.resume)
    first = True
    while True:
        began = time.perf_counter()
        asked = replace(request, paths=change.paths, resume=not change.fresh)
        try:
            specs = load_specs(asked.paths, allow_import=asked.allow_import, known_failures=asked.known_failures)
            watched.remember(specs)
            outcome = run_pipeline(asked, Progress(quiet=not first), specs)
        except HarnessError as error:
            if first and not isinstance(error, SpecError):  # the request is wrong: no save corrects it
                raise
            echo(str(error) if isinstance(error, SpecError) else one_line(str(error)), error=True)
        else:
            show(outcome)
            if outcome.report.run["interrupted"]:
                return outcome.exit_code
        first = False
        took = time.perf_counter() - began
        echo(f"{took:.2f} s; watching {count_of(len(watched.states), 'file')}, Ctrl-C ends", error=True)
        change = watched.next_change()


class Watched:
    """The files that the checks depend on: specs, targets, known failures, modules of factories, and model files."""

    def __init__(self, request: Request) -> None:
        self._paths = request.paths
        self._shared = {request.known_failures} if request.known_failures else set()
        self._users: dict[Path, set[str]] = {}
        self.states: Mapping[Path, State] = self._states()

    def remember(self, specs: Specs) -> None:
        """Watch what the cases of ``specs`` name as well, and what applies to them."""
        self._shared |= {specs.root / TARGETS_FILE, specs.known_failures or specs.root / KNOWN_FAILURES_FILE}
        for case in specs.cases:
            for file in _sources(case):
                self._users.setdefault(file, set()).add(case.where.file)
        self.states = {**self._states(), **self.states}  # a file that was saved meanwhile keeps its earlier state

    def next_change(self) -> Change:
        """Wait for the next change, and until no file has changed for a moment: it may still be being written."""
        previous = self.states
        while True:
            began = time.thread_time()
            states = self._states()
            if states == previous != self.states:
                changed = {file for file in states.keys() | self.states if states.get(file) != self.states.get(file)}
                self.states = states
                return self._change(changed)
            previous = states
            took = time.thread_time() - began
            time.sleep(PAUSE_S if states != self.states else max(PAUSE_S, took / SHARE_OF_TIME))

    def _change(self, changed: Iterable[Path]) -> Change:
        """The paths to run: changed specs alone, everything if a spec is gone or what all of them share changed."""
        used = {spec for file in changed for spec in self._users.get(file, ())}
        specs = {file for file in changed if file not in self._users}
        fresh = any(file in self._users and file.suffix == ".py" for file in changed)
        if specs & self._shared or not specs <= self.states.keys():
            return Change(self._paths, fresh)
        return Change(tuple(sorted(self._as_given({*map(str, specs), *used}))), fresh)

    def _as_given(self, specs: Iterable[str]) -> Iterator[str]:
        """The specs as the command line names them, which may be single cases of a file."""
        given: dict[str, list[str]] = {}
        for path in self._paths:
            given.setdefault(str(path_and_case(path)[0]), []).append(path)
        for spec in specs:
            yield from given.get(spec, [spec])

    def _states(self) -> Mapping[Path, State]:
        files = {*self._users, *_spec_files(self._paths), *self._shared}
        return {file: state for file in files if (state := _state(file)) is not None}


def _spec_files(paths: Iterable[str]) -> Iterator[Path]:
    for path, _ in map(path_and_case, paths):
        if path.is_dir():
            yield from (
                Path(parent, name) for parent, _, names in os.walk(path) for name in names if name[-5:] == ".yaml"
            )
        else:
            yield path


def _sources(case: Case) -> Iterator[Path]:
    """The files outside the specs that a case is made of: model files, and the user's modules that it runs."""
    for stored in (case.model.model, *case.files.values()):
        if isinstance(stored, StoredModel):
            yield Path(stored.path)
    yield from source_files(callables_of(case))


def _state(file: Path) -> State | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
