from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.spec.known_failures import KnownFailure, load_known_failures, parse_when

ENTRY = """
- cases: avgpool2d/divisor[args.divisor_override=*]
  targets: onnx-*/ort-cpu
  stage: compare
  symptom: mismatch
  when: torch<2.16, onnxruntime>=1.20,<1.40
  reason: >
    The divisor is dropped
    without a word.
  issue: https://github.com/pytorch/pytorch/issues/1
- {cases: "*", targets: trace/torch-cpu, stage: export, symptom: exception, reason: it raises}
"""


def load(path: Path, text: str) -> tuple[KnownFailure, ...]:
    path.write_text(text)
    return load_known_failures(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known-failures.yaml"


def test_entries_are_read_with_their_locations(path: Path) -> None:
    first, second = load(path, ENTRY)
    assert (first.stage, first.symptom) == ("compare", "mismatch")
    assert first.reason == "The divisor is dropped without a word."
    assert first.issue == "https://github.com/pytorch/pytorch/issues/1"
    assert (str(first.where), str(second.where)) == (f"{path}:2:3", f"{path}:11:3")
    assert (second.when, second.issue) == ("", None)


def test_an_entry_matches_whole_ids_with_literal_brackets(path: Path) -> None:
    entry, _ = load(path, ENTRY)
    assert entry.matches("avgpool2d/divisor[args.divisor_override=3]", "onnx-dynamo@18/ort-cpu")
    assert not entry.matches("avgpool2d/divisora", "onnx-dynamo@18/ort-cpu")
    assert not entry.matches("avgpool2d/divisor[args.divisor_override=3]", "onnx-dynamo@18/ort-cpu?threads=1")
    assert not entry.matches("edge/avgpool2d/divisor[args.divisor_override=3]", "onnx-dynamo@18/ort-cpu")


VERSIONS = [
    ({"torch": "2.13.0", "onnxruntime": "1.32.0"}, True),
    ({"torch": "2.13.0+cpu", "onnxruntime": "1.32.0"}, True),
    ({"torch": "2.16.0", "onnxruntime": "1.32.0"}, False),
    ({"torch": "2.16.0.dev20260101", "onnxruntime": "1.32.0"}, False),
    ({"torch": "2.15.0.dev20260101", "onnxruntime": "1.32.0"}, True),
    ({"torch": "2.13.0", "onnxruntime": "1.40.0"}, False),
    ({"torch": "2.13.0", "onnxruntime": "1.19.0"}, False),
    ({"torch": "2.13.0"}, False),
    ({}, False),
]


@pytest.mark.parametrize(("versions", "applies"), VERSIONS)
def test_an_entry_applies_only_under_its_versions(path: Path, versions: dict[str, str], applies: bool) -> None:
    entry, always = load(path, ENTRY)
    assert entry.applies(versions) is applies
    assert always.applies(versions)


def test_distributions_are_compared_by_their_canonical_names(path: Path) -> None:
    (entry,) = load(path, "- {cases: a, targets: b, stage: run, symptom: crash, reason: r, when: ML_dtypes>=0.5}")
    assert entry.applies({"ml-dtypes": "0.6"})


def test_no_file_an_empty_file_and_a_file_of_comments_have_no_entries(path: Path) -> None:
    assert load_known_failures(None) == ()
    assert load(path, "") == load(path, "# nothing fails\n") == load(path, "[]") == ()


@pytest.mark.parametrize(
    "when",
    [
        "torch",
        "torch<",
        "<2",
        "torch 2",
        "torch<2; python_version>'3'",
        "torch[a]<2",
        ",",
        "torch<2,,onnx<1",
        "torch @ http://x",
    ],
)
def test_a_condition_without_a_version_is_refused(when: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_when(when)


GOOD = "cases: a, targets: b, stage: run, symptom: crash, reason: r"
MISTAKES = [
    ("a: 1", "1:1: known failures are a list; begin each entry with `- cases: ...`"),
    ("- 3", "1:3: 3 is not a mapping; write keys with values"),
    ("- {cases: a, targets: b, stage: run, symptom: crash}", "1:3: reason is missing; add `reason: why it fails`"),
    (
        f"- {{{GOOD.replace('reason: r', 'reason: ')}}}",
        "1:62: reason: no value; write text, quoted if it looks like a number",
    ),
    (
        "- {cases: a, targets: b, stage: run, symptom: crash, reason: ' '}",
        "1:62: reason: is blank; write some text",
    ),
    (
        f"- {{{GOOD.replace('run', 'running')}}}",
        "1:33: stage: running is not allowed here; did you mean run?",
    ),
    (f"- {{{GOOD.replace('crash', 'crashed')}}}", "1:47: symptom: crashed is not allowed here; did you mean crash?"),
    (f"- {{{GOOD}, isue: x}}", "1:65: isue: unknown key; did you mean issue?"),
    (
        f"- {{{GOOD}, when: torch}}",
        "1:71: when: torch: torch names no version; write requirements such as `torch<2.16, onnxruntime>=1.20`",
    ),
    (f"- {{{GOOD}}}\n- {{{GOOD}}}", "2:3: the same entry as on line 1; keep one of them"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_problems_have_their_locations(path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(path, text)
    assert str(caught.value) == f"{path}:{message}"


def test_the_problems_of_all_entries_are_reported_at_once(path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(path, "- {cases: a}\n- {targets: b}\n")
    assert len(str(caught.value).splitlines()) == 8
