"""The time to validate the largest files, and its growth with four times as many entries.

    python -m benchmarks.large_files [--entries 20000]

Times are CPU seconds. A growth of about x 4 is linear in the file's size, a growth of x 16 quadratic.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tabulate import tabulate

from harness.errors import Location, SpecError
from harness.gate import apply_known_failures
from harness.registry import plugins
from harness.result import Result
from harness.spec.discovery import known_failures_for, load_specs
from harness.spec.known_failures import KnownFailure
from harness.spec.language.expand import expand
from harness.spec.targets.sets import load_target_sets
from harness.spec.yaml import parse

X = "inputs: {x: {shape: [2]}}"
SHARED = f"harness: 1\nlayer: ReLU\ndefaults: {{{X}}}\ncases:\n"
MATRIX = f"harness: 1\nlayer: ReLU\ncases:\n- name: a\n  {X}\n  matrix: {{seed: [%s], args.inplace: [true, false]}}\n"
KNOWN = "- {cases: '%s', targets: '%s', stage: run, symptom: crash, reason: r}\n"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=20_000)
    most = parser.parse_args().entries
    plugins("exporters"), plugins("runtimes")
    rows = []
    for name, check in CHECKS.items():
        few, many = _seconds(check, most // 4), _seconds(check, most)
        rows.append([name, few, many, f"x {many / few:.1f}"])
    print(tabulate(rows, ["checked", f"{most // 4:,} entries", f"{most:,} entries", "growth"], floatfmt=".2f"))


def _seconds(check: Callable[[int], object], entries: int) -> float:
    began = time.process_time()
    try:
        check(entries)
    except SpecError as error:
        str(error)
    return time.process_time() - began


def _spec(text: str) -> object:
    return expand(parse(text, "f"), "f")


def _exclude(entries: int) -> object:
    values = ",".join(map(str, range(entries)))
    exclude = "".join(f"  - {{seed: {at}, args.inplace: true}}\n" for at in range(entries))
    return _spec(f"{MATRIX % values}  exclude:\n{exclude}")


def _wrong_exclude(entries: int) -> object:
    exclude = "".join(f"  - {{seed: {at + 1000}}}\n" for at in range(entries))
    return _spec(f"{MATRIX % ','.join(map(str, range(300)))}  exclude:\n{exclude}")


def _matrix(entries: int) -> object:
    return _spec(MATRIX % ",".join(map(str, range(entries))))


def _cases(form: str) -> Callable[[int], object]:
    return lambda entries: _spec(SHARED + "".join(f"- {{{form % at}}}\n" for at in range(entries)))


def _wires(entries: int) -> object:
    steps = "".join(f"  - {{layer: ReLU, in: w{at}, out: v{at}}}\n" for at in range(entries))
    return _spec(f"harness: 1\ncases:\n- name: a\n  {X}\n  returns: [v1]\n  graph:\n{steps}")


def _targets(form: str, before: str = "") -> Callable[[int], object]:
    def check(entries: int) -> object:
        with tempfile.TemporaryDirectory() as folder:
            text = before + "".join(form % at for at in range(1, entries))
            Path(folder, "targets.yaml").write_text(text, encoding="utf-8")
            return load_target_sets(folder)

    return check


def _known(form: str) -> Callable[[int], object]:
    """Half as many known failures for half as many cases; a longer list would exceed the limit of a file's size."""

    def check(entries: int) -> object:
        with tempfile.TemporaryDirectory() as folder:
            half = range(entries // 2)
            Path(folder, "a.yaml").write_text(SHARED + "".join(f"- {{name: c{at}}}\n" for at in half), encoding="utf-8")
            text = "".join(KNOWN % (form % at, "*/torch-cpu") for at in half)
            Path(folder, "known-failures.yaml").write_text(text, encoding="utf-8")
            return known_failures_for(load_specs([folder]), [folder])

    return check


def _gate(entries: int) -> object:
    known = [KnownFailure(f"c{at}[*", "*/b", "run", "crash", "", "r", None, Location("f", at)) for at in range(entries)]
    results = [Result(f"c{at}[x]", "a/b", "error", stage="run", symptom="crash") for at in range(entries)]
    return apply_known_failures(results, known, versions={})


CHECKS: Mapping[str, Callable[[int], object]] = {
    "exclude": _exclude,
    "exclude, each value wrong": _wrong_exclude,
    "a matrix": _matrix,
    "cases": _cases("name: c%s"),
    "cases, each layer wrong": _cases("name: a, layer: MaxPol%s"),
    "cases, each argument wrong": _cases("name: a, args: {inplac%s: 1}"),
    "layers of a graph, each wire wrong": _wires,
    "targets of a set": _targets("- onnx-dynamo@23/ort-cpu?threads=%s\n", "default:\n"),
    "sets of targets": _targets("set%s: [trace/torch-cpu]\n"),
    "known failures by their beginning": _known("a/c%s*"),
    "known failures by their end": _known("*c%s"),
    "known failures, each wrong": _known("a/d%s"),
    "results judged by known failures": _gate,
}


if __name__ == "__main__":
    main()
