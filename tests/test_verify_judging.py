"""What an answer comes to is found once for all targets that answer so to the last bit, and for no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.check.cache.artifacts import Artifacts
from harness.check.check import check
from harness.check.memo import CapturedOutput
from harness.check.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.compare.metrics import Judged
from harness.registry import plugins
from harness.result import Result
from harness.runtimes import Availability
from harness.spec.discovery import load
from harness.spec.language.tolerances import Exact, Tolerance, Ulp
from harness.spec.targets import Target

SPEC = """
harness: 1
layer: ReLU
cases:
  - {name: few, inputs: {x: {values: [[1.0, -2.0], [3.0, 0.0]]}}}
"""
RIGHT = np.array([[1, 0], [3, 0]], np.float32)


@dataclass
class Told:
    """A runtime, and its own session, that answers what it was told."""

    answer: NDArray[Any]
    name: str = "told"
    takes: str = "torchscript"
    options: Mapping[str, str] = field(default_factory=dict)

    def availability(self) -> Availability:
        return Availability()

    def load(self, *_: object) -> Told:
        return self

    def run(self, _: object) -> dict[str, NDArray[Any]]:
        return {"output_0": self.answer}

    def placement(self) -> None:
        return None

    def close(self) -> None:
        pass


class Prints:
    """An capture that hears what Python prints."""

    @contextmanager
    def listening(self) -> Iterator[CapturedOutput]:
        heard = CapturedOutput()
        with redirect_stdout(StringIO()) as printed:
            yield heard
        heard.lines = tuple(printed.getvalue().splitlines())

    def say(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            print(line)


class Counting:
    """A metric that says each time that it is asked."""

    name = "asked"

    def measure(self, judged: Judged) -> float:
        print(f"asked about {judged.shape}")
        return 1.0


@pytest.fixture
def prepared(spec: Callable[[str, str], Path], tmp_path: Path) -> PreparedCase:
    (case,) = load([spec("a.yaml", SPEC).parent]).cases
    return PreparedCase(case, Artifacts(None, tmp_path), capture=Prints())


@pytest.fixture
def told(prepared: PreparedCase, monkeypatch: pytest.MonkeyPatch) -> Callable[[NDArray[Any]], Result]:
    """What the case comes to on a target that gives that answer."""

    def checked(answer: NDArray[Any]) -> Result:
        monkeypatch.setitem(plugins("runtimes"), "told", Told(answer))
        return check(prepared, Target("trace", "told"), Settings(latency=False), Clock())

    return checked


def test_the_same_answer_is_judged_once_and_what_was_printed_meanwhile_comes_again(
    told: Callable[[NDArray[Any]], Result], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = told(RIGHT)
    monkeypatch.setitem(plugins("compare.metrics"), "asked", Counting())
    again, other = told(RIGHT.copy()), told(RIGHT + np.float32(1))
    assert "asked" not in again.outputs[0].extra, "it was judged anew"
    assert (first.status, again.status, other.status) == ("passed", "passed", "failed")
    assert other.outputs[0].extra == {"asked": 1.0}
    assert capsys.readouterr().out.count("asked about (2, 2)") == 1
    assert told(RIGHT + np.float32(1)) is not other
    assert capsys.readouterr().out.count("asked about (2, 2)") == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.nextafter(RIGHT, np.float32(9)), "4 of 4 elements are outside exact"),
        (RIGHT.view(np.int32), "int32"),
        (RIGHT.reshape(4, 1), "shape"),
        (np.where(RIGHT == 0, np.float32(np.nan), RIGHT), "NaN"),
    ],
    ids=["the next number", "the same bits of another dtype", "the same bits in another shape", "NaN"],
)
def test_an_answer_that_is_nearly_one_that_passed_fails(
    told: Callable[[NDArray[Any]], Result], answer: NDArray[Any], said: str
) -> None:
    assert told(RIGHT).status == "passed"
    wrong = told(answer)
    assert (wrong.status, wrong.symptom) == ("failed", "mismatch")
    assert said in str(wrong.message)
    assert told(RIGHT).status == "passed"


def test_the_sign_of_zero_is_told_of_the_answer_that_has_it(told: Callable[[NDArray[Any]], Result]) -> None:
    assert not told(RIGHT).notes
    assert told(np.where(RIGHT == 0, np.float32(-0.0), RIGHT)).notes == (
        "output_0: the sign of zero differs at 2 of 4 elements",
    )


def test_the_same_answer_under_another_tolerance_is_judged_anew(
    told: Callable[[NDArray[Any]], Result], prepared: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = np.nextafter(RIGHT, np.float32(9))
    monkeypatch.setattr(prepared, "tolerance", lambda _opset: Tolerance(Ulp(1)))
    assert told(near).status == "passed"
    monkeypatch.setattr(prepared, "tolerance", lambda _opset: Tolerance(Exact()))
    assert told(near).status == "failed"


def test_text_that_lies_in_the_same_memory_is_not_the_same_answer(told: Callable[[NDArray[Any]], Result]) -> None:
    """What an array of objects holds may change without a bit of the array."""
    held: list[str] = ["a"]
    text = np.array([held], dtype=object)
    one = told(text)
    assert one.status == "failed"
    assert one.outputs[0].problem is not None
