"""The benchmark's report keeps earlier measurements and lists the goals that were not met."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.speed import work
from benchmarks.speed.call_times import REST, CallTimes
from benchmarks.speed.parts import Row
from benchmarks.speed.report import Measured, markdown, measured_before
from harness.plan import plan
from harness.spec.discovery import load_specs

QUICKER = Row("checks a second", 7.5, 5, "times", at_least=True, how="10 s against 75 s")
HEAVY = Row("memory", 412.0, 300, "MB", at_least=False, how="10,000 cases", why=["reports: 200 MB"])


def test_a_figure_is_met_above_a_lower_bound_and_below_an_upper_bound() -> None:
    assert QUICKER.met
    assert not HEAVY.met
    assert Row("share", 10, 10, "%", at_least=False, how="").met


def test_parts_measured_earlier_are_read_back_and_stay_in_the_report(tmp_path: Path) -> None:
    report = tmp_path / "performance.md"
    assert measured_before(report) == {}
    first = {"plain-loop": Measured.now([QUICKER], quick=False, seconds=85.0)}
    report.write_text(markdown(first), encoding="utf-8")
    assert measured_before(report) == first
    text = markdown(measured_before(report) | {"many-cases": Measured.now([HEAVY], quick=True, seconds=9.0)})
    assert "| 7.5 times" in text
    assert "10 s against 75 s" in text
    (heavy,) = [line for line in text.splitlines() if line.startswith("| memory")]
    assert "at most 300 MB" in heavy
    assert "**no**" in heavy
    assert "quick" in heavy
    assert "## Not reached: memory\n\n- reports: 200 MB\n" in text
    assert "Not reached: checks" not in text


class Steps:
    """A step that calls another step and a library."""

    def outer(self) -> None:
        """Call the inner step."""
        self.inner()

    def inner(self) -> None:
        """Do the inner work."""

    def library(self) -> None:
        """Count nested calls as time of the library."""
        self.inner()


def test_each_second_counts_once_and_inside_a_library_call_for_the_library() -> None:
    times, steps = CallTimes(), Steps()
    for name in ("outer", "inner"):
        times.time(steps, name, name)
    times.time(steps, "library", "library", library=True)
    times.begin()
    steps.library()
    assert set(times.end()) == {REST, "library"}
    steps.outer()
    assert set(times.end()) == {REST, "library", "outer", "inner"}


def test_both_sides_get_the_same_layers_arguments_and_shapes(tmp_path: Path) -> None:
    pieces = [*work.shipped(5), *work.many(4)]
    specs = load_specs([str(work.write_spec(pieces, tmp_path / "spec"))], allow_import=False)
    data = json.loads(work.write_data(pieces, tmp_path / "cases.json").read_text(encoding="utf-8"))
    seen = sorted((case.model.model.layer, list(case.inputs[0].shape or ())) for case in specs.cases)  # type: ignore[union-attr]
    assert seen == sorted((layer, shape) for layer, _, shape in data)
    todo = plan(specs.cases, specs.target_sets.select(["default"]), (), None)
    assert todo.checks == len(pieces) * len(work.TARGETS)
    assert len(set(work.TARGETS)) == 6
