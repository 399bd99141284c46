"""Answers that are identical to the last bit are judged once; any other answer is judged by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.check.cache.artifacts import ArtifactCache
from harness.check.cache.memo import CapturedOutput
from harness.check.check import check
from harness.check.judging.judge import Expected, Verdict, check_expectations, run_twice
from harness.check.module.prepared_case import PreparedCase
from harness.check.results import NOTHING_COMPARED, with_latency, with_verdict
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.compare.inconclusive import with_cause
from harness.compare.metrics import ComparedValues
from harness.errors import DiskFull
from harness.model.answer import Reference
from harness.registry import plugins
from harness.result import Result
from harness.runtimes import Availability
from harness.spec.discovery import load_specs
from harness.spec.language.tolerances import Exact, Scaled, Tolerance, Ulp
from harness.spec.targets import Target
from tests.report_samples import AGREES, DIFFERS

SPEC = """
harness: 1
layer: ReLU
cases:
  - {name: few, inputs: {x: {values: [[1.0, -2.0], [3.0, 0.0]]}}}
"""
RIGHT = np.array([[1, 0], [3, 0]], np.float32)


@dataclass
class FixedAnswer:
    """A runtime, and its own session, with a fixed answer."""

    answer: NDArray[Any]
    name: str = "fixed"
    takes: str = "torchscript"
    options: Mapping[str, str] = field(default_factory=dict)

    def availability(self) -> Availability:
        return Availability()

    def load(self, *_: object) -> FixedAnswer:
        return self

    def run(self, _: object) -> dict[str, NDArray[Any]]:
        return {"output_0": self.answer}

    def placement(self) -> None:
        return None

    def close(self) -> None:
        pass


def reference(values: NDArray[Any], second_call: NDArray[Any] | None = None) -> Reference:
    second = None if second_call is None else {"y": second_call}
    return Reference({}, {"y": values}, None, (), (), stochastic=False, second_call=second)


@dataclass
class Counter:
    """A session that counts its calls: a module with state."""

    calls: int = 0
    closed: bool = False

    def run(self, _: object) -> dict[str, NDArray[Any]]:
        self.calls += 1
        return {"y": np.array([self.calls])}

    def close(self) -> None:
        self.closed = True


def test_each_further_set_of_inputs_of_a_module_with_state_gets_a_session_of_its_own() -> None:
    opened: list[Counter] = []

    def open_session() -> Any:
        opened.append(Counter())
        return opened[-1]

    first: Any = Counter()
    one, two = np.array([1]), np.array([2])
    references, answers, varies = run_twice([reference(one, two)] * 2, first, open_session)
    assert [answer["y"].item() for answer in answers] == [1, 2, 1, 2]
    assert [each.eager["y"].item() for each in references] == [1, 2, 1, 2]
    assert (first.calls, first.closed, varies) == (2, False, True)
    assert [(each.calls, each.closed) for each in opened] == [(2, True)]


def test_expected_outputs_have_no_terms_to_scale_by() -> None:
    """The scaled rule of an output needs the magnitudes of its terms. Without them it allows nothing."""
    answer, right = np.array([1.0], np.float32), np.nextafter(np.array([1.0], np.float32), np.float32(2))
    for tolerance in (Tolerance(Scaled(9.0)), Tolerance(Exact(), {0: Scaled(9.0)})):
        for outputs, passed in ((answer, True), (right, False)):
            expected = Expected(outputs={"y": outputs})
            (finding,) = check_expectations(expected, reference(answer), {"y": answer}, tolerance)
            assert finding.passed == passed


class Untimeable:
    """A session that cannot be timed."""

    error: BaseException = RuntimeError("no bindings")

    def bind(self, _: object) -> None:
        raise self.error


def test_a_session_that_cannot_be_timed_passes_with_a_note_and_a_full_disk_ends_the_run() -> None:
    passed = Result("c", "t", "passed")
    session: Any = Untimeable()
    arguments: Any = ({}, lambda: None, Clock(), Settings(timeout=None))
    timed = with_latency(passed, session, *arguments)
    assert (timed.status, timed.notes) == ("passed", ("not timed: RuntimeError: no bindings",))
    session.error = DiskFull("the disk is full")
    with pytest.raises(DiskFull):
        with_latency(passed, session, *arguments)


class PrintCapture:
    """Captures what Python prints."""

    @contextmanager
    def capturing(self) -> Iterator[CapturedOutput]:
        captured = CapturedOutput()
        with redirect_stdout(StringIO()) as printed:
            yield captured
        captured.lines = tuple(printed.getvalue().splitlines())

    def write(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            print(line)


class PrintingMetric:
    """A metric that prints a line each time it is measured."""

    name = "printing"

    def measure(self, compared: ComparedValues) -> float:
        print(f"measured {compared.shape}")
        return 1.0


@pytest.fixture
def prepared(spec: Callable[[str, str], Path], tmp_path: Path) -> PreparedCase:
    (case,) = load_specs([spec("a.yaml", SPEC).parent]).cases
    return PreparedCase(case, ArtifactCache(None, tmp_path), capture=PrintCapture())


@pytest.fixture
def check_answer(prepared: PreparedCase, monkeypatch: pytest.MonkeyPatch) -> Callable[[NDArray[Any]], Result]:
    """The result of the case on a target that gives the answer."""

    def check_on_fixed(answer: NDArray[Any]) -> Result:
        monkeypatch.setitem(plugins("runtimes"), "fixed", FixedAnswer(answer))
        return check(prepared, Target("trace", "fixed"), Settings(latency=False), Clock())

    return check_on_fixed


def test_the_same_answer_is_judged_once_and_its_output_is_repeated(
    check_answer: Callable[[NDArray[Any]], Result], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = check_answer(RIGHT)
    monkeypatch.setitem(plugins("compare.metrics"), "printing", PrintingMetric())
    again, other = check_answer(RIGHT.copy()), check_answer(RIGHT + np.float32(1))
    assert "printing" not in again.outputs[0].extra, "it was compared anew"
    assert (first.status, again.status, other.status) == ("passed", "passed", "failed")
    assert other.outputs[0].extra["printing"] == 1.0
    assert capsys.readouterr().out.count("measured (2, 2)") == 1
    assert check_answer(RIGHT + np.float32(1)) is not other
    assert capsys.readouterr().out.count("measured (2, 2)") == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.nextafter(RIGHT, np.float32(9)), "4 of 4 values differ by more than the tolerance"),
        (RIGHT.view(np.int32), "int32"),
        (RIGHT.reshape(4, 1), "shape"),
        (np.where(RIGHT == 0, np.float32(np.nan), RIGHT), "NaN"),
    ],
    ids=["the next number", "the same bits of another dtype", "the same bits in another shape", "NaN"],
)
def test_an_answer_close_to_one_that_passed_fails(
    check_answer: Callable[[NDArray[Any]], Result], answer: NDArray[Any], message: str
) -> None:
    assert check_answer(RIGHT).status == "passed"
    wrong = check_answer(answer)
    assert (wrong.status, wrong.symptom) == ("failed", "mismatch")
    assert message in str(wrong.message)
    assert check_answer(RIGHT).status == "passed"


def test_the_sign_of_zero_is_noted_for_the_answer_that_has_it(check_answer: Callable[[NDArray[Any]], Result]) -> None:
    assert not check_answer(RIGHT).notes
    assert check_answer(np.where(RIGHT == 0, np.float32(-0.0), RIGHT)).notes == (
        "output_0: the sign of zero differs in 2 of 4 values, which counts as equal",
    )


def test_the_same_answer_under_another_tolerance_is_judged_again(
    check_answer: Callable[[NDArray[Any]], Result], prepared: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = np.nextafter(RIGHT, np.float32(9))
    monkeypatch.setattr(prepared, "tolerance", lambda *_: Tolerance(Ulp(1)))
    assert check_answer(near).status == "passed"
    monkeypatch.setattr(prepared, "tolerance", lambda *_: Tolerance(Exact()))
    assert check_answer(near).status == "failed"


def test_text_in_the_same_memory_is_not_the_same_answer(check_answer: Callable[[NDArray[Any]], Result]) -> None:
    """The objects of an array may change without a bit of the array."""
    strings: list[str] = ["a"]
    result = check_answer(np.array([strings], dtype=object))
    assert result.status == "failed"
    assert result.outputs[0].problem is not None


def test_a_cause_comes_before_the_message_and_before_the_first_problem() -> None:
    outputs = (AGREES, DIFFERS, DIFFERS)
    result = with_cause(Result("c", "t", "failed", message="1 of 2 differs", outputs=outputs), "a baked value")
    assert result.message == "a baked value: 1 of 2 differs"
    assert [output.problem for output in result.outputs] == [None, f"a baked value: {DIFFERS.problem}", DIFFERS.problem]
    assert with_cause(Result("c", "t", "failed"), "a baked value").message == "a baked value"


def test_why_nothing_was_compared_is_told_where_it_is_known() -> None:
    case: Any = None
    passed, verdict = Result("case", "target", "passed"), Verdict((), (), ())
    assert with_verdict(passed, case, verdict, ()).message == NOTHING_COMPARED
    known = with_verdict(passed, case, replace(verdict, unrepeatable="two calls differ"), ())
    assert (known.status, known.message) == (
        "failed",
        "nothing was compared: two calls differ; say under `expect` what must hold",
    )
