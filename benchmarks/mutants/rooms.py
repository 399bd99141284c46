"""The rooms of the code that decides a verdict, a blame or a regression, each with the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Room:
    """``files`` are globs below the repository, ``tests`` the test files, quick ones first.

    ``count`` mutants are drawn. ``needs_torch`` says that most of the tests load torch, ONNX and a runtime.
    """

    name: str
    decides: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    count: int
    needs_torch: bool = False

    def sources(self, root: Path) -> list[str]:
        """The files of the room, as paths below ``root``."""
        found = {path for pattern in self.files for path in root.glob(pattern) if path.name != "__init__.py"}
        found |= {root / pattern for pattern in self.files if pattern.endswith("__init__.py")}
        return sorted(path.relative_to(root).as_posix() for path in found)

    def test_files(self, root: Path) -> list[str]:
        """The test files of the room, as paths below ``root``, in their order."""
        found = [path for pattern in self.tests for path in sorted(root.glob(pattern))]
        return list(dict.fromkeys(path.relative_to(root).as_posix() for path in found))


ROOMS = (
    Room(
        "compare",
        "a verdict",
        (
            "harness/compare/calibrated.py",
            "harness/compare/inconclusive.py",
            "harness/compare/numbers.py",
            "harness/compare/output.py",
            "harness/compare/rules.py",
            "harness/compare/verdict.py",
            "harness/compare/metrics/differences.py",
        ),
        (
            "tests/test_compare_structure.py",
            "tests/test_compare_rules.py",
            "tests/test_compare_calibrated.py",
            "tests/test_compare_inconclusive.py",
            "tests/test_compare_metrics.py",
            "tests/test_compare_whole_output.py",
            "tests/test_compare_properties.py",
        ),
        60,
    ),
    Room(
        "judge",
        "a verdict",
        (
            "harness/check/judging/judge.py",
            "harness/check/results.py",
            "harness/check/stages.py",
            "harness/check/refusal.py",
        ),
        (
            "tests/test_check_judging.py",
            "tests/test_check_stages.py",
            "tests/test_check_refusal.py",
            "tests/test_check_expectations.py",
            "tests/test_check_draws.py",
            "tests/test_check_placement.py",
            "tests/test_check_evidence.py",
            "tests/test_strict_and_inconclusive.py",
        ),
        30,
        needs_torch=True,
    ),
    Room(
        "gate",
        "a verdict",
        ("harness/gate.py", "harness/spec/known_failures/*.py"),
        ("tests/test_gate.py", "tests/test_spec_known_failures.py", "tests/test_known_failures_update.py"),
        40,
    ),
    Room(
        "layers",
        "a verdict",
        ("harness/layers/*.py",),
        (
            "tests/test_layers_tolerances.py",
            "tests/test_layers_windows.py",
            "tests/test_layers_float64_reference.py",
            "tests/test_layers_mutants.py",
        ),
        36,
        needs_torch=True,
    ),
    Room(
        "blame",
        "a blame",
        ("harness/blame/*.py",),
        (
            "tests/test_blame_bounds.py",
            "tests/test_blame_evaluator.py",
            "tests/test_blame_recorded.py",
            "tests/test_blame_planted.py",
            "tests/test_blame_believed.py",
            "tests/test_blame.py",
        ),
        40,
        needs_torch=True,
    ),
    Room(
        "inside",
        "a blame",
        ("harness/inside/nodes/*.py",),
        ("tests/test_inside_values.py", "tests/test_explain_walk.py", "tests/test_explain_layer.py"),
        36,
        needs_torch=True,
    ),
    Room(
        "latency change",
        "a regression",
        ("harness/latency/change.py", "harness/latency/statistics.py"),
        ("tests/test_latency_change.py", "tests/test_latency_normalised.py", "tests/test_latency_statistics.py"),
        50,
    ),
    Room(
        "diff",
        "a regression",
        ("harness/report/diff/__init__.py", "harness/report/diff/latency.py"),
        ("tests/test_diff.py", "tests/test_bench_layers.py"),
        36,
    ),
    Room(
        "journal",
        "what a resumed run believes",
        ("harness/engine/journal.py",),
        ("tests/test_engine_journal.py",),
        20,
    ),
    Room(
        "artifact cache",
        "which file a check is made with",
        ("harness/check/cache/*.py",),
        ("tests/test_check_artifact_cache.py",),
        30,
    ),
)
