"""For files of any size, depth and content, harness finishes soon and prints few, short lines."""

from __future__ import annotations

import difflib
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import MAX_PART_LENGTH, Location, Problem, RequestError, SpecError, UsageError
from harness.gate import apply_known_failures
from harness.result import Result
from harness.spec import glob, known_failures, quoting
from harness.spec.discovery import known_failures_for, load_specs
from harness.spec.known_failures import KnownFailure, entries_by_check
from harness.spec.language.expand import MAX_VALUES, expand
from harness.spec.language.inputs.names import MAX_NAME_LENGTH
from harness.spec.language.matrix import MAX_AXES
from harness.spec.quoting import MAX_LISTED, join_names, limited_comparisons
from harness.spec.targets.sets import load_target_sets
from harness.spec.yaml import parse, strict
from tests.conftest import Call

MANY = 20_000
X = "inputs: {x: {shape: [2]}}"
SPEC = f"harness: 1\nlayer: ReLU\ncases: [{{name: a, {X}}}]\n"
SHARED = f"harness: 1\nlayer: ReLU\ndefaults: {{{X}}}\ncases:\n"
ESCAPE = "\\e]0;title\\a\\e[31m"
"""Double-quoted YAML reads this as the escapes that set the title and colour of a terminal."""


def cases(text: str) -> list[str]:
    return [case.id for case in expand(parse(text, "f"), "f")]


def messages(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        expand(parse(text, "f"), "f")
    return str(caught.value).splitlines()


def matrix(keys: str, exclude: str = "") -> str:
    return f"harness: 1\nlayer: ReLU\ncases:\n- name: a\n  {X}\n  matrix: {{{keys}}}\n{exclude}"


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the words that are compared."""
    calls: Counter[str] = Counter()
    original = difflib.get_close_matches

    def counting(word: str, known: list[str], n: int) -> list[str]:
        calls["words"] += len(known)
        return original(word, known, n=n)

    monkeypatch.setattr(quoting, "get_close_matches", counting)
    return calls


# Many entries: each test would take minutes if all pairs of entries were compared


def test_many_exclusions() -> None:
    sizes = f"seed: [{','.join(map(str, range(130)))}], about: [{','.join(f'a{at}' for at in range(130))}]"
    exclude = "  exclude:\n" + "".join(f"  - {{seed: {at // 130}, about: a{at % 130}}}\n" for at in range(16_000))
    assert len(cases(matrix(sizes, exclude))) == 130 * 130 - 16_000


@pytest.mark.parametrize("entry", ["seed: 1", "about: b", "seed: 2, about: c", "seed: 3, args.inplace: true"])
def test_an_exclusion_removes_only_the_combinations_it_names(entry: str) -> None:
    keys = "seed: [1, 2, 3], args.inplace: [true], about: [b, c]"
    remaining = {case.removeprefix("f/a") for case in cases(matrix(keys, f"  exclude: [{{{entry}}}]\n"))}
    pairs = [pair.replace(": ", "=") for pair in entry.split(", ")]
    every = {case.removeprefix("f/a") for case in cases(matrix(keys))}
    assert remaining == {case for case in every if not all(pair in case for pair in pairs)}
    assert remaining < every


def test_many_targets(tmp_path: Path) -> None:
    options = [f"onnx-dynamo@23/ort-cpu?threads={at}" for at in range(1, 10_000)]
    (tmp_path / "targets.yaml").write_text("default:\n" + "".join(f"- {each}\n" for each in options), encoding="utf-8")
    assert len(load_target_sets(tmp_path).select()) == 9_999


def test_a_repeated_target_is_refused_in_any_order_of_its_options(tmp_path: Path) -> None:
    one, other = "onnx-dynamo/ort-cpu?threads=2&optimization=all", "onnx-dynamo/ort-cpu?optimization=all&threads=2"
    (tmp_path / "targets.yaml").write_text(f"default: ['{one}', trace/torch-cpu, '{other}']\n", encoding="utf-8")
    with pytest.raises(SpecError, match="twice in one set"):
        load_target_sets(tmp_path)


@pytest.fixture
def matches(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls that match a glob against a text."""
    calls: Counter[str] = Counter()
    original = glob.matches

    def counting(pattern: str, text: str) -> bool:
        calls["globs"] += 1
        return original(pattern, text)

    for module in (glob, known_failures):
        monkeypatch.setattr(module, "matches", counting)
    return calls


def test_many_known_failures_of_many_cases(tmp_path: Path, matches: Counter[str], comparisons: Counter[str]) -> None:
    many = 2_000
    (tmp_path / "a.yaml").write_text(SHARED + "".join(f"- {{name: c{at:04}}}\n" for at in range(many)), "utf-8")
    entry = "- {{cases: '{}', targets: '*', stage: run, symptom: crash, reason: r}}\n"
    path = tmp_path / "known-failures.yaml"
    path.write_text("".join(entry.format(f"a/c{at:04}*") for at in range(many)), encoding="utf-8")
    specs = load_specs([tmp_path])
    assert len(known_failures_for(specs, [tmp_path])) == many
    assert matches["globs"] <= many + 1
    path.write_text("".join(entry.format(f"a/d{at:04}") for at in range(many)), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        known_failures_for(specs, [tmp_path])
    lines = str(caught.value).splitlines()
    assert len(lines) == many
    assert "near: a/c" in lines[0]
    assert comparisons["words"] < quoting.MAX_COMPARISONS


@pytest.mark.parametrize("form", ["c{:04}[*", "*{:04}[x]", "c*{:04}[?]"])
def test_many_known_failures_are_applied_to_many_results(matches: Counter[str], form: str) -> None:
    many = 2_000
    known = [
        KnownFailure(form.format(at), "*/d", "run", "crash", "", "r", None, Location("f", at + 1)) for at in range(many)
    ]
    results = [Result(f"c{at:04}[x]", "a/d", "error", stage="run", symptom="crash") for at in range(many)]
    assert {one.status for one in apply_known_failures(results, known, versions={}).results} == {"known"}
    assert matches["globs"] <= 2 * many


def test_entries_by_check_match_and_keep_their_order() -> None:
    globs = [("a*", "*"), ("a1", "x/*"), ("*1", "x/y"), ("b", "*"), ("a?", "z/*")]
    entries = [
        KnownFailure(case, target, "run", "crash", "", "r", None, Location("f", at))
        for at, (case, target) in enumerate(globs)
    ]
    checks = [("a1", "x/y"), ("b", "x/y"), ("a1", "x/y"), ("c", "z/z"), ("a2", "z/z")]
    assert entries_by_check(entries, checks) == [
        [entry for entry in entries if entry.matches(*check)] for check in checks
    ]


# Many mistakes


MISTAKES = {
    "layers": (SHARED + "".join(f"- {{name: c{at}, layer: MaxPol{at}}}\n" for at in range(1000)), "MaxPol7:"),
    "arguments": (SHARED + "- name: a\n  args: {" + ",".join(f"k{at}: 1" for at in range(1000)) + "}\n", "k7:"),
    "values of exclude": (
        matrix(f"seed: [{','.join(map(str, range(1000)))}]", "  exclude:\n" + "  - {seed: -1}\n" * 1000),
        "seed: -1 is not one of its values, so nothing is excluded; write one of 0, 1, 2, ",
    ),
    "wires": (
        f"harness: 1\ncases:\n- name: a\n  {X}\n  returns: [v1]\n  graph:\n"
        + "".join(f"  - {{layer: ReLU, in: w{at}, out: v{at}}}\n" for at in range(1000)),
        "w7: neither an input nor the output of an earlier layer",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_many_mistakes_are_all_reported_with_few_comparisons(name: str, comparisons: Counter[str]) -> None:
    text, line = MISTAKES[name]
    lines = messages(text)
    assert len(lines) >= 1000
    assert any(line in each for each in lines)
    assert max(map(len, lines)) < 3 * MAX_PART_LENGTH
    assert comparisons["words"] < 2 * quoting.MAX_COMPARISONS


def test_a_misspelled_word_among_many_is_corrected() -> None:
    names = [f"avgpool2d/windows[args.kernel_size=2,seed={at:05}]" for at in range(MANY)]
    assert quoting.closest_name("avgpool2d/windows[args.kernel_size=2,sed=01234]", names) == names[1234]


def test_comparisons_are_limited_within_one_reading_only(comparisons: Counter[str]) -> None:
    words = [f"word{at}" for at in range(1000)]
    with limited_comparisons():
        closest = [quoting.closest_name(f"wrd{at}", words) for at in range(1000)]
    assert closest[0] is not None
    assert closest[-1] is None
    assert comparisons["words"] < quoting.MAX_COMPARISONS
    assert quoting.closest_name("wrd999", words) is not None


def test_a_list_of_many_names_is_cut() -> None:
    assert join_names(["a", "b"]) == "a, b"
    assert join_names([]) == "none"
    assert join_names(map(str, range(10**9))).count(",") == MAX_LISTED


# Small files that expand to large specs


AMPLIFIED = [
    (
        f"harness: 1\nlayer: ReLU\ndefaults: {{inputs: {{x: {{values: [{'1,' * 10_000}]}}}}}}\ncases:\n"
        + "".join(f"- {{name: c{at}}}\n" for at in range(1000)),
        f"more than {MAX_VALUES} values, with defaults and matrices written out",
    ),
    (
        matrix(f"seed: [{','.join(map(str, range(1_000)))}]").replace("shape: [2]", f"values: [{'1,' * 10_000}]"),
        f"more than {MAX_VALUES} values, with defaults and matrices written out",
    ),
    (matrix(", ".join(f"args.a{at}: [1]" for at in range(999))), f"999 keys in one matrix; at most {MAX_AXES}"),
    (matrix(", ".join(f"args.{name * 600}: [1, 2]" for name in "ab")), "keys of 1210 characters in one matrix"),
    (SPEC.replace("name: a", f"name: {'n' * 500_000}"), f"a name of 500000 characters; at most {MAX_NAME_LENGTH}"),
]


@pytest.mark.parametrize(("text", "line"), AMPLIFIED, ids=[line[:40] for _, line in AMPLIFIED])
def test_too_large_an_expansion_is_refused_before_it_is_made(text: str, line: str) -> None:
    (message,) = messages(text)
    assert line in message
    assert len(message) < 3 * MAX_PART_LENGTH


def test_an_index_of_hundreds_of_digits_is_not_an_index() -> None:
    (message,) = messages(matrix(f"args.{'9' * 900}: [1]"))
    assert "ReLU has no such argument" in message


# Messages


QUOTED = [
    f"harness: 1\nlayer: {'x' * 1_000_000}\ncases: [{{name: a, {X}}}]\n",
    f"harness: 1\nlayer: ReLU\n? {'k' * 1_000_000}\n: 1\ncases: [{{name: a, {X}}}]\n",
    f"harness: 1\nlayer: ReLU\n? {'k' * 1_000_000}\n: 1\n? {'k' * 1_000_000}\n: 2\n",
    f"a: *{'b' * 1_000_000}\n",
    f"a: !{'b' * 1_000_000} 1\n",
    f"a: !!int {'b' * 1_000_000}\n",
    f"harness: 1\nlayer: ReLU\nabout: '{'secret ' * 100_000}\ncases: [{{name: a, {X}}}]\n",
    f"harness: 1\nlayer: ReLU\ncases: [{{name: a, mode: [{'secret, ' * 10_000}], {X}}}]\n",
    SPEC.replace("ReLU", '"Re' + "\\n\\n" * 10_000 + 'LU"'),
    SPEC.replace("name: a", f'name: a, mode: "evil\\n{"secret" * 10_000}\\n"'),
    SPEC.replace("name: a", f"name: a, inputs: {{{'l' * 900}: 3}}, args: {{{'k' * 900}: 1}}"),
]


@pytest.mark.parametrize("text", QUOTED, ids=[text[:40] for text in QUOTED])
def test_no_message_quotes_more_than_a_short_line(text: str) -> None:
    for line in messages(text):
        assert len(line) < 3 * MAX_PART_LENGTH


ESCAPES = [
    SPEC.replace("ReLU", f'"Re{ESCAPE}LU"'),
    SPEC.replace("name: a", f'name: a, about: "{ESCAPE}"'),
    SPEC.replace("name: a", f'name: a, "{ESCAPE}": 1'),
    SPEC.replace("name: a", 'name: a, expect: {raises: "a\\0b"}'),
    "a: !%1b%5b31m 1\n",
    SPEC.replace("ReLU", '"Re\\u202eLU"'),
]


@pytest.mark.parametrize("text", ESCAPES)
def test_nothing_in_a_file_reaches_the_terminal_as_an_escape(text: str) -> None:
    lines = messages(text)
    assert lines
    assert all(line.isprintable() for line in lines)


def test_unprintable_characters_are_escaped() -> None:
    problem = Problem(Location("a\x1b\n.yaml"), "wrong\x07\n  twice", "right\u202e")
    assert str(problem) == r"a\x1b\n.yaml:1:1: wrong\x07 twice; right\u202e"
    assert str(UsageError("a\nb\x1b")) == r"a\nb\x1b"
    assert str(UsageError("größe, 尺寸, 5\u00a0mm")) == "größe, 尺寸, 5\u00a0mm"
    assert str(UsageError("x" * 1_000_000)).startswith("x" * 1000)
    assert "... (1,000,013 characters) ..." in str(UsageError("x" * 1_000_000 + " is no target"))
    assert str(UsageError("x" * 1_000_000 + " is no target")).endswith("xxx is no target")


def test_a_file_whose_name_would_move_the_cursor(harness: Call, here: Path) -> None:
    (here / "specs").mkdir()
    (here / "specs" / "a\x1b[31mb.yaml").write_text(SPEC, encoding="utf-8")
    ran = harness("list", "specs")
    assert ran.code == 0
    assert ran.out.splitlines()[0].rstrip() == r"a\x1b[31mb/a"


def test_thousands_of_directives_are_refused() -> None:
    lines = messages("".join(f"%TAG !a{at}! x\n" for at in range(150_000)) + "--- a\n")
    assert lines == ["f:17:1: too many lines that begin with %; remove them; a spec needs none"]


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_of_other_systems_are_line_ends(ends: str) -> None:
    assert cases(SPEC.replace("\n", ends)) == ["f/a"]


# Links that point outside the folder


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    folder = tmp_path / "specs"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "outside" / "targets.yaml").write_text("default: [trace/torch-cpu]\n", encoding="utf-8")
    (tmp_path / "outside" / "known-failures.yaml").write_text("[]\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("b.yaml", "../outside/b.yaml"),
        ("inner/b.yaml", "../../outside/b.yaml"),
        ("b.yaml", "/etc/passwd"),
        ("b.yaml", "/dev/zero"),
        ("b.yaml", "../outside/none.yaml"),
        ("targets.yaml", "../outside/targets.yaml"),
        ("known-failures.yaml", "../outside/known-failures.yaml"),
        ("inner/linked", "../../outside"),
    ],
)
def test_a_link_out_of_the_folder_is_refused(specs: Path, link: str, to: str) -> None:
    (specs / link).symlink_to(to)
    with pytest.raises(SpecError) as caught:
        load_specs([specs])
    message = "a link that points outside the folder; put the file itself there"
    assert str(caught.value) == f"{specs / link}:1:1: {message}"


def test_links_and_mistakes_are_reported_together(specs: Path) -> None:
    (specs / "b.yaml").symlink_to("../outside/b.yaml")
    (specs / "targets.yaml").symlink_to("../outside/targets.yaml")
    (specs / "c.yaml").write_text(SPEC.replace("ReLU", "Relu"), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_specs([specs])
    assert [line.partition(".yaml")[0].rpartition("/")[2] for line in str(caught.value).splitlines()] == [
        "b",
        "c",
        "targets",
    ]


def test_a_link_within_the_folder_and_a_named_link_are_followed(specs: Path) -> None:
    (specs / "inner" / "again.yaml").symlink_to("../a.yaml")
    (specs.parent / "given").symlink_to("specs")
    (specs.parent / "given.yaml").symlink_to("outside/b.yaml")
    assert [case.id for case in load_specs([specs.parent / "given"]).cases] == ["a/a"]
    assert [case.id for case in load_specs([specs.parent / "given.yaml"]).cases] == ["given/a"]


@pytest.mark.parametrize("to", [".", "..", "/etc", "../../specs/inner"])
def test_a_link_to_a_directory_without_specs_or_in_a_cycle_is_skipped(specs: Path, to: str) -> None:
    (specs / "inner" / "linked").symlink_to(to)
    assert [case.id for case in load_specs([specs]).cases] == ["a/a"]


# Paths that are not files


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [pipe, folder, nowhere])
@pytest.mark.parametrize("name", ["targets.yaml", "known-failures.yaml"])
def test_a_list_that_is_not_a_file_is_not_skipped(specs: Path, name: str, make: Callable[[Path], None]) -> None:
    make(specs / name)
    with pytest.raises(RequestError) as caught:
        load_specs([specs / "a.yaml"])
    assert len(str(caught.value).splitlines()) == 1
    assert name in str(caught.value)


REPORTS: dict[str, tuple[str, ...]] = {
    "diff": ("diff", "given.json", "given.json"),
    "merge": ("merge", "given.json", "--report-dir", "merged"),
    "baseline": ("run", "specs", "--targets", "trace/torch-cpu", "--baseline", "given.json"),
    "update": ("known-failures", "update", "given.json"),
}


@pytest.mark.parametrize("command", REPORTS)
def test_a_pipe_without_a_writer_is_refused_at_once(
    harness: Call, here: Path, spec: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(strict, "PIPE_OPEN_TIMEOUT_S", 0.0)
    spec("a.yaml", SPEC)
    os.mkfifo(here / "given.json")
    ran = harness(*REPORTS[command])
    message = "this is a pipe without a writer; name a report.json that `harness run` wrote"
    assert (ran.code, ran.err) == (2, f"given.json:1:1: {message}\n")


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path, content = tmp_path / "pipe", b'{"a": "' + b"x" * 3_000_000 + b'"}'
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    read: Any = strict.read_json(path, "the text", "give one")
    writer.join()
    assert len(read["a"]) == 3_000_000


def test_a_pipe_with_a_silent_writer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "PIPE_READ_TIMEOUT_S", 0.0)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    with pytest.raises(SpecError, match="a pipe without a writer"):
        strict.read_json(path, "the text", "give one")
    os.close(writer)


def test_an_endless_pipe_is_read_up_to_the_file_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict, "MAX_FILE_BYTES", 100_000)
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b" " * 65_536)
            except BrokenPipeError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(SpecError, match="larger than"):
        strict.read_json(path, "the text", "give one")
    writer.join()
