"""``make mutants`` itself: which mutants are made and drawn, what it counts, and when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mutants import __main__ as command
from benchmarks.mutants import made
from benchmarks.mutants.argued import ARGUED, Argument, read_arguments
from benchmarks.mutants.made import OPERATORS, Mutant, sample
from benchmarks.mutants.report import LEAST, RoomResult, markdown
from benchmarks.mutants.rooms import ROOMS, Room
from benchmarks.mutants.trial import Outcome, Outcomes

ROOT = Path(__file__).resolve().parent.parent
ROOM = Room("sums", "a sum", ("sums.py",), ("test_sums.py",), 10)
MUTANT = Mutant("sums.py", 3, "total", "arithmetic", "return a + b", "return a - b", "def total(a, b): return a - b\n")


def outcome(mutant: Mutant, verdict: Any = "survived") -> Outcome:
    return Outcome(mutant.key, ROOM.name, verdict, "", 3, 0.1, "code", "tests")


def result(survived: int, killed: int, *arguments: Argument) -> RoomResult:
    survivors = [replace(MUTANT, now=f"return {number}") for number in range(survived)]
    others = [replace(MUTANT, now=f"return -{number}") for number in range(killed)]
    tried = [(each, outcome(each)) for each in survivors] + [(each, outcome(each, "killed")) for each in others]
    return RoomResult(ROOM, 100, tried, arguments)


def argument(number: int) -> Argument:
    return Argument(
        file="sums.py", function="total", was="return a + b", now=f"return {number}", why="the sum is never read"
    )


# Rooms


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_has_files_and_tests(room: Room) -> None:
    assert room.sources(ROOT)
    for patterns in (room.files, room.tests):
        assert all(any(ROOT.glob(pattern)) for pattern in patterns)
    assert len(room.test_files(ROOT)) == len(set(room.test_files(ROOT)))


def test_no_file_is_in_two_rooms() -> None:
    files = [file for room in ROOMS for file in room.sources(ROOT)]
    assert len(files) == len(set(files))


# Mutants


CODE = """
from __future__ import annotations
from dataclasses import dataclass

Sum = int | float


@dataclass(frozen=True)
class Pair:
    first: int | None = 1

    def total(self, second: int | None) -> int | None:
        assert second != 3
        array = self.array.reshape(-1).astype(float, copy=True)
        for one, other in zip([1], [2], strict=True):
            if one < other:
                return one - other
        return None
"""


class Turned:
    """An operator in the place of cosmic-ray's: it finds ``old`` and writes ``new``."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def places(self, source: str) -> list[tuple[tuple[int, int], str]]:
        offsets = [at for at in range(len(source)) if source.startswith(self.old, at)]
        return [(self._place(source[:at]), source[:at] + self.new + source[at + len(self.old) :]) for at in offsets]

    @staticmethod
    def _place(before: str) -> tuple[int, int]:
        return before.count("\n") + 1, len(before) - before.rfind("\n") - 1


def made_by(monkeypatch: pytest.MonkeyPatch, folder: Path, operators: Mapping[str, Turned]) -> list[tuple[str, str]]:
    (folder / "sums.py").write_text(CODE, encoding="utf-8")
    monkeypatch.setattr(made, "OPERATORS", {"boolean": tuple(operators)})
    monkeypatch.setattr(made, "_mutated", lambda source, name: operators[name].places(source))
    return [(mutant.function, mutant.now) for mutant in made.mutants_of(folder, "sums.py")]


def test_annotations_decorators_asserts_and_strict_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    operators = {"core/X_True_False": Turned("True", "False"), "core/X_BitOr_BitAnd": Turned("|", "&")}
    assert (
        made_by(
            monkeypatch, tmp_path, {**operators, "core/X_NotEq_Eq": Turned("!=", "=="), "core/X_-1": Turned("-1", "-2")}
        )
        == []
    )


def test_a_mutant_knows_its_line_and_its_function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    operators = {
        "core/X_Lt_LtE": Turned("<", "<="),
        "core/X_1_2": Turned("= 1", "= 2"),
        "core/X_no": Turned("-", "not"),
    }
    assert made_by(monkeypatch, tmp_path, operators) == [
        ("Pair.total", "if one <= other:"),
        ("Pair", "first: int | None = 2"),
    ], "what is no Python is no mutant"


def test_a_sample_is_the_same_each_time_and_has_each_kind() -> None:
    mutants = [replace(MUTANT, kind=kind, now=str(number)) for kind in OPERATORS for number in range(20)]
    drawn = sample(mutants, 12)
    assert drawn == sample(reversed(mutants), 12)
    assert sorted({mutant.kind for mutant in drawn}) == sorted(OPERATORS)
    assert len(sample(mutants[:30], 99)) == 30
    moved = [replace(mutant, line=99, source="") for mutant in mutants]
    assert [mutant.key for mutant in sample(moved, 12)] == [mutant.key for mutant in drawn], "lines may move"


# Trying


def test_a_mutant_is_killed_by_a_test_that_fails_and_the_file_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.mutants import worker

    monkeypatch.chdir(tmp_path)
    Path("sums.py").write_text("def total(a, b): return a + b\n", encoding="utf-8")
    Path("test_sums.py").write_text(
        "import sys; sys.path.insert(0, '')\nfrom sums import total\n\ndef test_sum(): assert total(1, 2) == 3\n",
        encoding="utf-8",
    )
    before = Path("sums.py").stat().st_mtime_ns
    request = {
        "file": "sums.py",
        "source": MUTANT.source,
        "tests": ["test_sums.py"],
        "limit": 60,
        "scratch": ".",
        "torch": False,
    }
    monkeypatch.setattr(worker, "OURS", ("sums",))
    killed = worker._answer(request)
    assert (killed["outcome"], killed["by"]) == ("killed", "test_sums.py::test_sum")
    survived = worker._answer({**request, "source": "def total(a, b): return b + a\n"})
    assert (survived["outcome"], survived["passed"]) == ("survived", 1)
    endless = worker._answer({**request, "source": "while True: pass\n", "limit": 0.2})
    assert endless["outcome"] == "timeout"
    assert worker._answer({**request, "file": None})["outcome"] == "survived"
    assert Path("sums.py").read_text(encoding="utf-8") == "def total(a, b): return a + b\n"
    assert Path("sums.py").stat().st_mtime_ns == before


def test_outcomes_count_until_the_code_or_the_tests_change(tmp_path: Path) -> None:
    for name in ("sums.py", "test_sums.py"):
        (tmp_path / name).write_text("", encoding="utf-8")
    other = replace(MUTANT, now="return 0")

    def outcomes(*, keep_killed: bool = False) -> list[str | None]:
        known = Outcomes(tmp_path / "out/outcomes.jsonl", tmp_path, [ROOM], keep_killed=keep_killed)
        if not (tmp_path / "out/outcomes.jsonl").exists():
            known.add("sums", MUTANT, {"outcome": "killed", "by": "t", "passed": 0, "seconds": 0.1})
            known.add("sums", other, {"outcome": "survived", "by": "", "passed": 1, "seconds": 0.1})
        found = [known.get("sums", mutant) for mutant in (MUTANT, other, replace(MUTANT, now="return 9"))]
        return [None if each is None else each.outcome for each in found]

    assert outcomes() == ["killed", "survived", None]
    (tmp_path / "test_sums.py").write_text("# more", encoding="utf-8")
    assert outcomes() == [None, None, None]
    assert outcomes(keep_killed=True) == ["killed", None, None]
    (tmp_path / "sums.py").write_text("# changed", encoding="utf-8")
    assert outcomes(keep_killed=True) == [None, None, None]


# Judging


def test_each_survivor_needs_an_argument_and_each_room_its_share() -> None:
    assert LEAST == 0.92
    assert result(2, 23, argument(0), argument(1)).problems == []
    assert result(2, 23, argument(0)).problems == ["sums.py:3: survived without an argument: return a + b -> return 1"]
    few = result(3, 22, argument(0), argument(1), argument(2))
    assert few.problems == ["sums: 22 of 25 killed, less than 92%"], "an argument makes no kill"
    assert result(0, 0).problems == ["sums: no mutant was tried"]
    ended = RoomResult(ROOM, 1, [(MUTANT, outcome(MUTANT, "timeout"))])
    assert (ended.killed, ended.problems) == (1, [])


def test_an_argument_is_about_one_line_of_one_function() -> None:
    ours = Argument(file=MUTANT.file, function="total", was=MUTANT.was, now=MUTANT.now, why="the sum is never read")
    assert ours.is_about(MUTANT)
    for change in ({"function": "other"}, {"now": "return 0"}, {"was": "return"}, {"file": "other.py"}):
        assert not ours.model_copy(update=change).is_about(MUTANT)


@pytest.mark.parametrize(
    "text", ["- {file: a}", "just text", "- {file: a, was: b, now: c, why: no}", "[", "- {more: 1}"]
)
def test_arguments_that_cannot_be_read_are_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "argued.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"argued.yaml: ") as raised:
        read_arguments(path)
    assert len(str(raised.value).splitlines()) == 1


def test_the_committed_arguments_are_about_code_that_is_there() -> None:
    arguments = read_arguments(ARGUED)
    for each in arguments:
        lines = [" ".join(line.split()) for line in (ROOT / each.file).read_text(encoding="utf-8").splitlines()]
        assert each.was in lines, each
        assert each.was != each.now


def test_the_report_has_the_figures_and_the_survivors() -> None:
    text = markdown([result(1, 24, argument(0))], {"cosmic-ray": "8.7.0"})
    assert "**24 of 25 mutants were killed (96.0%), 1 survived.**" in text
    assert "- `sums.py:3` `return a + b` -> `return 0`: the sum is never read" in text
    assert "| sums   | a sum     |         100 |         0 |     25 |       24 |          1 |   96.0% |" in text
    assert "**no argument**" in markdown([result(1, 24)], {})
    left = markdown([replace(result(0, 0), untried=7)], {})
    assert "7 more were drawn and not tried yet." in left
    assert "| sums   | a sum     |         100 |         7 |      0 |        0 |          0 |       - |" in left


def test_the_command_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--rooms", "kitchen"]) == 2
    assert capsys.readouterr().err.startswith("no room 'kitchen'; the rooms are compare, ")
