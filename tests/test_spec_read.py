from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.spec.yaml import reader as reading
from harness.spec.yaml.reader import LARGEST_FILE, parse, read
from harness.spec.yaml.tree import DEEPEST, MOST_VALUES, resolve


def plain(text: str) -> Any:
    return parse(text, "spec.yaml").plain()


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text, "spec.yaml")
    return str(caught.value).splitlines()


CORE_SCHEMA = [
    ("1e-5", 1e-5),
    ("1E5", 1e5),
    (".5", 0.5),
    ("5.", 5.0),
    ("-0.0", -0.0),
    ("010", 10),
    ("0o10", 8),
    ("0x1F", 31),
    ("+3", 3),
    ("-17", -17),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("+.inf", math.inf),
    ("true", True),
    ("FALSE", False),
    ("null", None),
    ("~", None),
    ("", None),
    # What YAML 1.1 would read as something else.
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("1_000", "1_000"),
    ("12:30:45", "12:30:45"),
    ("0b101", "0b101"),
    ("2001-01-01", "2001-01-01"),
    ("nan", "nan"),
    ("inf", "inf"),
    ("tRue", "tRue"),
    ("0o8", "0o8"),
    ("-0x1", "-0x1"),
    ("1e", "1e"),
    (".", "."),
    ("+", "+"),
    ("=", "="),
]


@pytest.mark.parametrize(("text", "value"), CORE_SCHEMA)
def test_plain_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = plain(f"key: {text}")["key"]
    assert (type(found), repr(found)) == (type(value), repr(value))


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan_is_a_number(text: str) -> None:
    assert math.isnan(plain(f"key: {text}")["key"])


@pytest.mark.parametrize(("text", "value"), [("'1'", "1"), ('"true"', "true"), ("! 5", "5"), ("!!str 5", "5")])
def test_what_is_quoted_or_tagged_as_text_is_text(text: str, value: str) -> None:
    assert plain(f"key: {text}")["key"] == value


def test_core_tags_convert_only_what_is_of_their_type() -> None:
    assert plain("!!float 3") == 3.0
    assert isinstance(plain("!!float 3"), float)
    assert problems("!!int word") == ["spec.yaml:1:1: 'word' is no int; remove the tag"]
    assert problems("!!int true") == ["spec.yaml:1:1: 'true' is no int; remove the tag"]


OTHERS = (
    r"~|null|Null|NULL|true|True|TRUE|false|False|FALSE|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
FLOATS = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@given(st.from_regex(FLOATS, fullmatch=True).filter(lambda text: len(text) < 40))
def test_whatever_the_core_schema_calls_a_number_is_read_as_one(text: str) -> None:
    value = float(text)
    if math.isinf(value):
        with pytest.raises(ValueError, match="beyond float64"):
            resolve(text)
    else:
        found = resolve(text)
        assert isinstance(found, int | float)
        assert float(found) == value  # a whole number is read to its last digit, which a float need not hold
        assert isinstance(found, int) == bool(re.fullmatch(r"[-+]?[0-9]+", text))


@given(st.integers(-(10**30), 10**30))
def test_integers_come_back_as_they_went(value: int) -> None:
    assert resolve(str(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_to_the_last_bit(value: float) -> None:
    found = resolve(repr(value))
    assert isinstance(found, float)
    assert found.hex() == value.hex()


@given(st.text(min_size=1))
def test_a_scalar_is_a_string_or_what_a_rule_of_the_schema_names(text: str) -> None:
    try:
        found = resolve(text)
    except ValueError:
        return
    if isinstance(found, str):
        assert found == text
    else:
        assert re.fullmatch(f"{OTHERS}|{FLOATS.pattern}", text, re.ASCII)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text("abc é:#-"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcd", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_a_yaml_writer_wrote_is_read_back(value: object) -> None:
    assert plain(yaml.safe_dump(value, default_flow_style=None, allow_unicode=True)) == value


@given(st.text() | st.text("[]{}:,-*&!|>'\"#%@ \n\tabc<0"))
def test_any_text_is_read_or_refused_in_lines_with_places(text: str) -> None:
    said = ["spec.yaml:1:1: nothing"]
    try:
        parse(text, "spec.yaml")
    except SpecError as error:
        said = str(error).splitlines()
    assert said
    assert all(re.match(r"spec\.yaml:\d+:\d+: .", line) for line in said)


def test_places_are_those_an_editor_shows() -> None:
    tree = parse("# é comment\nouter:\n  - {é: [1, two]}\n", "spec.yaml")
    assert str(tree.place(["outer", 0, "é", 1])) == "spec.yaml:3:13"
    assert str(tree.place(["outer", 0, "é"], of_key=True)) == "spec.yaml:3:6"
    assert str(tree.place(["outer", 9])) == "spec.yaml:3:3"


def test_an_alias_repeats_a_value_and_keeps_its_place() -> None:
    tree = parse("a: &shape [1, 2]\nb: *shape\n", "spec.yaml")
    assert tree.plain() == {"a": [1, 2], "b": [1, 2]}
    assert str(tree.place(["b", 1])) == "spec.yaml:1:15"


def test_an_empty_document_is_null() -> None:
    assert [plain(text) for text in ("", "\n", "# only a comment\n", "---\n")] == [None] * 4


REFUSED = [
    ("a: 1\na: 2", "2:1: a: repeated key; keep one; the first is on line 1"),
    ("{a: {b: 1, b: 1}}", "1:12: b: repeated key"),
    ("<<: {a: 1}", "1:1: the merge key `<<` is not YAML 1.2"),
    ("? [1]\n: 2", "1:3: a list or a mapping as a key"),
    ("1.5: x", "1:1: 1.5 as a key; a key is a word or a whole number"),
    ("true: x", "1:1: true as a key"),
    ("a: !!python/object/apply:os.system [echo]", "1:4: the tag !!python/object/apply:os.system; a spec is plain data"),
    ("a: !mine 1", "1:4: the tag !mine"),
    ("a: !!set {b}", "1:4: the tag !!set"),
    ("a: !!timestamp 2001-01-01", "1:4: the tag !!timestamp"),
    ("a: &a [*a]", "1:8: *a stands inside its own anchor"),
    ("a: *b", "1:4: *b: no anchor &b stands before it"),
    ("--- 1\n--- 2", "2:1: a second document"),
    ("%YAML 1.1\n--- 1", "1:1: YAML 1.1 is asked for"),
    ("a: 1e999", "1:4: 1e999 is beyond float64; write .inf"),
    ("a: " + "9" * 5000, "1:4: a whole number of 5000 characters; at most 40"),
    ("a: [1, 2", "1:4: not YAML: while parsing a flow sequence"),
    ("a:\n\t- b", "2:1: not YAML: a tab; indent with spaces"),
    ("a: b: c", "1:5: not YAML: mapping values are not allowed"),
    ("a: 'x", "1:4: not YAML: while scanning a quoted scalar"),
    ("ab\x07c", "1:3: the control character U+0007"),
    ("a: 1\nb: \x00", "2:4: the control character U+0000"),
]


@pytest.mark.parametrize(("text", "line"), REFUSED)
def test_traps_are_closed(text: str, line: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(f"spec.yaml:{line}")


def test_every_problem_is_told_in_one_go_in_reading_order() -> None:
    found = problems("a: 1\na: 2\nb: !mine 3\n<<: 4\nc: 1e999\n")
    assert [line.split(":")[1] for line in found] == ["2", "3", "4", "5"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_no_nesting_exhausts_the_stack(opening: str) -> None:
    assert f"nested more than {DEEPEST} deep" in problems(opening * 200_000)[0]


def test_aliases_do_not_deepen_without_end() -> None:
    lines = ["a0: &a0 [1]", *(f"a{at}: &a{at} [*a{at - 1}]" for at in range(1, DEEPEST + 2))]
    assert "with aliases followed" in problems("\n".join(lines))[0]


def test_aliases_that_explode_are_refused() -> None:
    laughs = ["a0: &a0 [lol]", *(f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 9))]
    assert f"more than {MOST_VALUES} values, with aliases followed" in problems("\n".join(laughs))[0]


def test_many_aliases_that_do_not_explode_are_accepted() -> None:
    assert plain("a: &a [1, 2]\nb: [" + ", ".join(["*a"] * 500) + "]")["b"] == [[1, 2]] * 500


def test_the_pure_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LOADER", yaml.SafeLoader)
    assert plain("a: [1e-5, no, '1', !!str 2]\nb: {0: ~}\n") == {"a": [1e-5, "no", "1", "2"], "b": {0: None}}
    for text, line in REFUSED:
        assert problems(text)[0].startswith(f"spec.yaml:{line.split(' ')[0]}") or "not YAML" in problems(text)[0]


# Files


def file_problem(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read(path)
    (line,) = str(caught.value).splitlines()
    return line


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"a: 1\nb: \xff\xfe\x00")
    assert file_problem(path) == f"{path}:2:4: not UTF-8 text; a spec is YAML, saved as UTF-8"
    path.write_bytes("harness: 1".encode("utf-16"))
    assert "not UTF-8 text" in file_problem(path)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(path).plain() == {"a": 1}


def test_a_file_of_absurd_size(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"#" * (LARGEST_FILE + 1))
    assert file_problem(path) == f"{path}:1:1: larger than 4 MiB; split it, and generate large tensors with `fill`"


def test_files_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    assert "cannot be read: no such file or directory" in file_problem(tmp_path / "none.yaml")
    assert "not a regular file" in file_problem(tmp_path)
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert "cannot be read: too many levels of symbolic links" in file_problem(loop)
