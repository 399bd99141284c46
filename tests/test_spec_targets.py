from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import Location, SpecError, UsageError
from harness.registry import plugins
from harness.spec.glob import matches
from harness.spec.targets import TARGET_SYNTAX, Target, parse_target
from harness.spec.targets.sets import BUILT_IN_SETS, load_target_sets

TARGETS = [
    ("trace/torch-cpu", Target("trace", "torch-cpu")),
    ("onnx-dynamo@23+fixes/ort-cpu", Target("onnx-dynamo", "ort-cpu", opset=23, fixes=True)),
    ("onnx-dynamo/ort-cpu", Target("onnx-dynamo", "ort-cpu")),
    ("script+fixes/torch-cpu", Target("script", "torch-cpu", fixes=True)),
    ("trace?strict=false/torch-cpu", Target("trace", "torch-cpu", export_options={"strict": "false"})),
    (
        "onnx-dynamo@18+fixes?optimize=false&verify=true/ort-cpu?threads=1",
        Target(
            "onnx-dynamo",
            "ort-cpu",
            opset=18,
            fixes=True,
            options={"threads": "1"},
            export_options={"optimize": "false", "verify": "true"},
        ),
    ),
]


@pytest.mark.parametrize(("text", "target"), TARGETS)
def test_a_target_is_parsed_and_written_back(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert str(target) == text


def test_options_must_be_supported_by_the_runtime() -> None:
    text = "onnx-dynamo@23/ort-cpu?optimization=basic&threads=2"
    assert parse_target(text).options == {"optimization": "basic", "threads": "2"}
    assert str(parse_target(text)) == text
    for options, message in [
        ("thread=1", "ort-cpu has no option thread; did you mean threads?"),
        ("threads", "'threads' is not an option; write ?option=value&..."),
        ("threads=", "'threads=' is not an option"),
        ("", "'' is not an option"),
        ("threads=1&threads=2", "threads is set twice; set it once"),
        ("threads=many", "option threads=many: use a positive whole number"),
        ("optimization=al", "option optimization=al: unknown value; use one of all, extended, basic, disabled"),
    ]:
        with pytest.raises(UsageError) as caught:
            parse_target(f"onnx-dynamo@23/ort-cpu?{options}")
        assert str(caught.value).startswith("onnx-dynamo@23/ort-cpu?")
        assert message in str(caught.value)


INVALID = [
    ("trace", f"trace: not a target; write {TARGET_SYNTAX}"),
    ("", ": not a target; write"),
    ("trace/", "trace/: not a target"),
    ("/ort-cpu", "/ort-cpu: not a target"),
    ("trace/torch-cpu/more", "not a target"),
    ("tracee/torch-cpu", "no exporter tracee; did you mean trace?"),
    ("trace/torch-gpu", "no runtime torch-gpu; did you mean torch-cpu?"),
    ("onnx-dynamo/ort-cpuu", "no runtime ort-cpuu; did you mean ort-cpu?"),
    ("trace/ort-cpu", "trace/ort-cpu: trace makes TorchScript, ort-cpu runs ONNX; with trace use one of torch-cpu"),
    ("onnx-dynamo@18/torch-cpu", "onnx-dynamo makes ONNX, torch-cpu runs TorchScript; with onnx-dynamo use one of "),
    ("trace@17/torch-cpu", "trace makes TorchScript, which has no opset; remove @17"),
    ("onnx-dynamo@x/ort-cpu", "@x is not an opset; write a whole number, such as onnx-dynamo@18"),
    ("onnx-dynamo@/ort-cpu", "@ is not an opset"),
    ("onnx-dynamo@-1/ort-cpu", "@-1 is not an opset"),
    ("onnx-dynamo@999/ort-cpu", "@999 is not an opset"),
    ("onnx-dynamo@18+fix/ort-cpu", "no transform +fix; did you mean fixes?"),
    ("onnx-dynamo+fixes@18/ort-cpu", "not a target"),
    ("onnx-dynamo@18+fixes+fixes/ort-cpu", "+fixes belongs to the exporter; write it before the transforms, once"),
    (
        "onnx-dynamo?do_constant_folding=false/ort-cpu",
        "onnx-dynamo has no option do_constant_folding; it has optimize, ",
    ),
    ("onnx-dynamo?optimise=false/ort-cpu", "onnx-dynamo has no option optimise; did you mean optimize?"),
    ("script?strict=false/torch-cpu", "script has no option strict; it has none"),
    ("trace?strict=no/torch-cpu", "strict=no is unknown; write on or off"),
    ("file?optimize=false/ort-cpu", "a file is verified as it is; write file/ort-cpu"),
]


@pytest.mark.parametrize(("text", "message"), INVALID)
def test_an_invalid_target_is_refused_with_advice(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert message in str(caught.value)


@given(st.text("traceonx-dymp@1+fis/?=&ut,* ", max_size=40))
def test_any_text_is_a_target_or_a_message_of_one_line(text: str) -> None:
    message = "a target"
    try:
        assert parse_target(text).exporter in plugins("exporters")
    except UsageError as error:
        message = str(error)
    assert len(message.splitlines()) == 1


# Sets


SETS = """
default: [trace/torch-cpu, onnx-dynamo@18/ort-cpu]
all-ort:
  - onnx-dynamo@18/ort-cpu
  - onnx-torchscript@17/ort-cpu
  - onnx-dynamo@23+fixes/ort-cpu
slow: [onnx-torchscript@17/reference]
"""


def selected(root: Path, *words: str) -> list[str]:
    return [str(target) for target in load_target_sets(root).select(words)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "targets.yaml").write_text(SETS)
    return tmp_path


def test_without_a_file_the_default_set_is_the_built_in_one(tmp_path: Path) -> None:
    assert selected(tmp_path) == list(BUILT_IN_SETS["default"])
    assert [str(target) for target in load_target_sets(tmp_path).all] == list(BUILT_IN_SETS["default"])


def test_a_set_a_target_or_a_comma_separated_list(root: Path) -> None:
    assert selected(root) == selected(root, "default") == ["trace/torch-cpu", "onnx-dynamo@18/ort-cpu"]
    assert selected(root, "slow,script/torch-cpu", " default ") == [
        "onnx-torchscript@17/reference",
        "script/torch-cpu",
        "trace/torch-cpu",
        "onnx-dynamo@18/ort-cpu",
    ]


def test_each_target_is_selected_once(root: Path) -> None:
    assert selected(root, "default", "all-ort", "trace/torch-cpu").count("onnx-dynamo@18/ort-cpu") == 1
    assert len(load_target_sets(root).all) == 5


def test_a_glob_matches_the_targets_of_all_sets(root: Path) -> None:
    assert selected(root, "ort-*") == [
        "onnx-dynamo@18/ort-cpu",
        "onnx-torchscript@17/ort-cpu",
        "onnx-dynamo@23+fixes/ort-cpu",
    ]
    assert selected(root, "onnx-dynamo@*/*") == ["onnx-dynamo@18/ort-cpu", "onnx-dynamo@23+fixes/ort-cpu"]
    assert selected(root, "*+fixes/*") == ["onnx-dynamo@23+fixes/ort-cpu"]
    assert len(selected(root, "*")) == 5


def test_a_word_that_names_nothing_is_refused(root: Path) -> None:
    for word, message in [
        ("defautl", "no target set named 'defautl'; did you mean default?"),
        ("trt-*", "trt-*: no target matches; the targets are trace/torch-cpu,"),
        ("trace/torch-cpuu", "no runtime torch-cpuu; did you mean torch-cpu?"),
        ("nothing-like-it", "one of the sets default, all-ort, slow, or a target EXPORTER"),
    ]:
        with pytest.raises(UsageError) as caught:
            selected(root, word)
        assert message in str(caught.value)


def test_a_file_without_a_default_set_keeps_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text("mine: [trace/torch-cpu]")
    assert selected(tmp_path) == list(BUILT_IN_SETS["default"])
    assert selected(tmp_path, "mine") == ["trace/torch-cpu"]


def test_every_problem_of_the_file_has_its_location(tmp_path: Path) -> None:
    path = tmp_path / "targets.yaml"
    path.write_text(
        "default: [trace/torch-cpu, trace/torch-cpu]\na/b: [trace/ort-cpu]\nnone: []\nx: [tracee/torch-cpu]\n"
        "y: ['trace/torch-cpu?threads=all']\n"
    )
    with pytest.raises(SpecError) as caught:
        load_target_sets(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}:1:28: trace/torch-cpu: listed twice in one set; list it once"
    assert lines[1] == f"{path}:2:1: 'a/b' cannot name a set; letters, digits, `.`, `_` and `-` only"
    assert lines[2].startswith(f"{path}:2:7: trace/ort-cpu: trace makes TorchScript, ort-cpu runs ONNX;")
    assert lines[3] == f"{path}:3:7: none: a set without targets; name one, such as trace/torch-cpu"
    assert lines[4] == f"{path}:4:5: tracee/torch-cpu: no exporter tracee; did you mean trace?"
    assert lines[5].startswith(
        f"{path}:5:5: trace/torch-cpu?threads=all: option threads=all: use a positive whole number"
    )
    for text in ("default: trace/torch-cpu", "default: [1]", "- a", "", "default: {a: b}"):
        path.write_text(text)
        with pytest.raises(SpecError, match=r"targets\.yaml:1:\d+: "):
            load_target_sets(tmp_path)


def test_a_problem_of_a_target_in_a_file_has_its_location() -> None:
    with pytest.raises(SpecError, match=r"^f:3:4: nothing/here: no exporter nothing; one of "):
        parse_target("nothing/here", Location("f", 3, 4))


# Globs


def test_brackets_in_a_glob_are_literal() -> None:
    assert matches("f/m[k=[2,3]*", "f/m[k=[2,3],j=1]")
    assert not matches("f/m[k]", "f/mk")
    assert matches("a?c*", "abc") == matches("a?c*", "abcd") is True
    assert not matches("a?c", "ac")
    assert matches("*", "")


def test_many_stars_are_not_slow() -> None:
    assert not matches("*" * 50 + "b", "a" * 2000)


@given(st.text(), st.text())
def test_a_pattern_without_wildcards_matches_only_itself(text: str, other: str) -> None:
    pattern = text.replace("*", "").replace("?", "")
    assert matches(pattern, pattern)
    assert matches(pattern, other) == (pattern == other)
