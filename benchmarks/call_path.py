"""Measure the way of one check through the code: how many files it enters, climbs back to, and returns to.

    python -m benchmarks.call_path [--root CHECKOUT] [--case-only] [--calls]

Checks two cases in this process and follows every call from ``check`` on: ``AvgPool2d(2)``, which passes, and
``AvgPool2d(2, divisor_override=3)``, which the TorchScript exporter gets wrong, on ``onnx-torchscript@17/ort-cpu``.

A call counts if it goes from one file of harness to another and passes the check on: an argument, ``self`` or a
variable that the function captured is one of :data:`PARTS`, or an object with such an attribute (a prepared case, a
disagreement). A call that only takes arrays, paths, tolerances, names or lists does not count. Reads of properties are
calls; comprehensions and lambdas are part of the file that they are written in. Library code between two files of
harness is looked through. A call counts each time it is made, and a generator each time it is resumed.

- ``files``: the files that the check enters, that of ``check`` included.
- ``climbs``: calls into a file that the check entered earlier than the file that makes the call.
- ``returns``: calls into a file that the check entered before; the climbs are among them.

With ``--root`` the harness of another checkout is measured, from bae0b76 on, with the libraries of this environment.
``--case-only`` counts only calls that pass on the case itself or an object that holds it. ``--calls`` lists the calls.
Measured:

    revision          passing check                    failing check
    bae0b76           18 files, 11 climbs, 33 returns  25 files, 14 climbs, 51 returns
    dd31a69           17 files,  6 climbs, 35 returns  22 files,  8 climbs, 47 returns
    85d98be           25 files,  8 climbs, 52 returns  33 files, 19 climbs, 81 returns
    8df2c96           18 files,  4 climbs, 30 returns  25 files,  6 climbs, 43 returns
    a663992           20 files,  2 climbs, 34 returns  26 files,  4 climbs, 51 returns

    with --case-only
    bae0b76           10 files,  4 climbs, 12 returns  14 files,  5 climbs, 19 returns
    dd31a69            8 files,  0 climbs, 12 returns   8 files,  0 climbs, 13 returns
    85d98be           13 files,  2 climbs, 19 returns  13 files,  5 climbs, 21 returns
    8df2c96           10 files,  2 climbs, 16 returns  11 files,  2 climbs, 16 returns
    a663992           11 files,  0 climbs, 15 returns  11 files,  0 climbs, 17 returns
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

PARTS = frozenset(
    {"Case", "Subject", "Reference", "Artifact", "Target", "Result", "Verdict", "Clock", "Settings"},
)
"""The classes of harness, by name, that a check consists of. Their subclasses count too."""

TARGET = "onnx-torchscript@17/ort-cpu"
SPEC = """
harness: 1
layer: AvgPool2d
defaults: {inputs: {x: {shape: [1, 1, 4, 4]}}}
cases:
  - {name: passing, args: {kernel_size: 2}}
  - {name: failing, args: {kernel_size: 2, divisor_override: 3}}
"""
NAMES = {
    "load": ("harness.spec.discovery:load_specs", "harness.spec.discovery:load", "harness.spec.discover:load"),
    "parse": ("harness.spec.targets:parse_target",),
    "check": ("harness.check.check:check", "harness.verify.check:check"),
    "prepared": (
        "harness.check.module.prepared_case:PreparedCase",
        "harness.check.prepared_case:PreparedCase",
        "harness.verify.trial:Trial",
    ),
    "cache": ("harness.check.cache.artifacts:ArtifactCache", "harness.verify.artifacts:Artifacts"),
    "settings": ("harness.check.settings:Settings", "harness.verify.settings:Settings"),
    "clock": ("harness.check.stages:Clock", "harness.verify.stages:Clock"),
}
"""What the measurement uses of harness, by the names of each revision, newest first."""


@dataclass
class CallPath:
    """The calls of one check. Used as a context manager, it follows those of the function with the code ``start``."""

    root: Path
    start: Any
    parts: frozenset[str] = PARTS
    files: list[str] = field(default_factory=list)
    climbs: int = 0
    returns: int = 0
    calls: list[str] = field(default_factory=list)
    _depth: int = 0

    def __enter__(self) -> None:
        sys.setprofile(self._follow)

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)

    def __str__(self) -> str:
        return f"{len(self.files)} files, {self.climbs} climbs, {self.returns} returns"

    def _follow(self, frame: FrameType, event: str, _argument: object) -> None:
        file = self._file_of(frame)
        if event not in {"call", "return"} or file is None:
            return
        if not self._depth and frame.f_code is not self.start:
            return
        self._depth += 1 if event == "call" else -1
        if event == "call" and not frame.f_code.co_name.startswith("<"):
            self._count(frame, file)

    def _count(self, frame: FrameType, file: str) -> None:
        caller = frame.f_back
        while caller is not None and self._file_of(caller) is None:
            caller = caller.f_back
        origin = self._file_of(caller) if self.files and caller is not None else None
        if file == origin or (self.files and not self._passes_on(frame)):
            return
        climbs = origin in self.files and file in self.files[: self.files.index(str(origin))]
        returns = file in self.files
        self.climbs, self.returns = self.climbs + climbs, self.returns + returns
        if not returns:
            self.files.append(file)
        kind = "climb" if climbs else "return" if returns else "new"
        self.calls.append(f"{kind:6} {origin or 'start'} -> {file}: {frame.f_code.co_name}")

    def _passes_on(self, frame: FrameType) -> bool:
        """True if the call that ``frame`` runs has a part of the check as an argument or in a captured variable."""
        code = frame.f_code
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        names = (*code.co_varnames[:count], *code.co_freevars)
        values = [frame.f_locals[name] for name in names if name in frame.f_locals]
        return any(self._is_part(value) or any(map(self._is_part, _attributes(value))) for value in values)

    def _is_part(self, value: object) -> bool:
        bases = (base for base in type(value).__mro__ if base.__module__.startswith("harness."))
        return any(base.__name__ in self.parts for base in bases)

    def _file_of(self, frame: FrameType) -> str | None:
        name = frame.f_code.co_filename
        return name.removeprefix(f"{self.root}/") if name.startswith(f"{self.root}/") else None


def _attributes(value: object) -> Iterator[object]:
    if not type(value).__module__.startswith("harness."):
        return
    yield from getattr(value, "__dict__", {}).values()
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            descriptor = base.__dict__.get(name)
            if descriptor is not None and not name.startswith("__"):
                try:
                    yield descriptor.__get__(value)
                except AttributeError:  # not set yet: this is the constructor
                    continue


def measure(root: Path, parts: frozenset[str] = PARTS) -> Iterator[tuple[str, str, CallPath]]:
    """The name, the status and the path of each of the two checks, with the harness in ``root``."""
    use = {name: _first_of(places) for name, places in NAMES.items()}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = Path(folder, "spec.yaml")
        spec.write_text(SPEC)
        for case in use["load"]([str(spec)], allow_import=False).cases:
            scratch = Path(folder, case.id.rpartition("/")[2])
            scratch.mkdir()
            prepared = use["prepared"](case, use["cache"](None, scratch))
            target, settings, clock = use["parse"](TARGET), use["settings"](), use["clock"]()
            path = CallPath(root / "harness", use["check"].__code__, parts)
            with path:
                result = use["check"](prepared, target, settings, clock)
            yield scratch.name, result.status, path


def _first_of(places: tuple[str, ...]) -> Any:
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise SystemExit(f"none of {', '.join(places)} exists; this revision is older than bae0b76")


def main() -> None:
    """Print the figures of both checks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="checkout to measure")
    parser.add_argument("--case-only", action="store_true", help="only the case, and what holds it, is passed on")
    parser.add_argument("--calls", action="store_true", help="list the calls that count")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    sys.path.insert(0, str(root))
    import harness

    if not str(harness.__file__).startswith(f"{root}/"):
        raise SystemExit(f"{harness.__file__} was imported, which is not in {root}")
    for name, status, path in measure(root, frozenset({"Case"}) if arguments.case_only else PARTS):
        print(f"{name} ({status}): {path}")
        for line in path.calls if arguments.calls else ():
            print(f"  {line}")


if __name__ == "__main__":
    main()
