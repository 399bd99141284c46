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
from harness.spec import yaml as reader
from harness.spec.yaml import MAX_FILE_BYTES, parse, read
from harness.spec.yaml.tree import MAX_DEPTH, MAX_VALUES, resolve_scalar


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
    # YAML 1.1 would read these as something else.
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
    actual = plain(f"key: {text}")["key"]
    assert (type(actual), repr(actual)) == (type(value), repr(value))


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_nan_is_a_number(text: str) -> None:
    assert math.isnan(plain(f"key: {text}")["key"])


@pytest.mark.parametrize(("text", "value"), [("'1'", "1"), ('"true"', "true"), ("! 5", "5"), ("!!str 5", "5")])
def test_quoted_or_tagged_text_is_text(text: str, value: str) -> None:
    assert plain(f"key: {text}")["key"] == value


def test_core_tags_convert_only_values_of_their_type() -> None:
    assert plain("!!float 3") == 3.0
    assert isinstance(plain("!!float 3"), float)
    assert problems("!!int word") == ["spec.yaml:1:1: 'word' is not of type int; remove the tag"]
    assert problems("!!int true") == ["spec.yaml:1:1: 'true' is not of type int; remove the tag"]


NOT_FLOATS = (
    r"~|null|Null|NULL|true|True|TRUE|false|False|FALSE|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@given(st.from_regex(FLOAT, fullmatch=True).filter(lambda text: len(text) < 40))
def test_every_number_of_the_core_schema_is_read_as_a_number(text: str) -> None:
    value = float(text)
    if math.isinf(value):
        with pytest.raises(ValueError, match="beyond float64"):
            resolve_scalar(text)
    else:
        number = resolve_scalar(text)
        assert isinstance(number, int | float)
        assert float(number) == value  # a whole number keeps every digit, which a float may not
        assert isinstance(number, int) == bool(re.fullmatch(r"[-+]?[0-9]+", text))


@given(st.integers(-(10**30), 10**30))
def test_integers_round_trip(value: int) -> None:
    assert resolve_scalar(str(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_round_trip_bit_for_bit(value: float) -> None:
    number = resolve_scalar(repr(value))
    assert isinstance(number, float)
    assert number.hex() == value.hex()


@given(st.text(min_size=1))
def test_a_scalar_is_a_string_unless_a_rule_of_the_schema_matches(text: str) -> None:
    try:
        value = resolve_scalar(text)
    except ValueError:
        return
    if isinstance(value, str):
        assert value == text
    else:
        assert re.fullmatch(f"{NOT_FLOATS}|{FLOAT.pattern}", text, re.ASCII)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text("abc é:#-"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcd", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_yaml_from_a_yaml_writer_is_read_back(value: object) -> None:
    assert plain(yaml.safe_dump(value, default_flow_style=None, allow_unicode=True)) == value


@given(st.text() | st.text("[]{}:,-*&!|>'\"#%@ \n\tabc<0"))
def test_any_text_is_read_or_refused_in_lines_with_locations(text: str) -> None:
    lines = ["spec.yaml:1:1: nothing"]
    try:
        parse(text, "spec.yaml")
    except SpecError as error:
        lines = str(error).splitlines()
    assert lines
    assert all(re.match(r"spec\.yaml:\d+:\d+: .", line) for line in lines)


def test_locations_are_those_an_editor_shows() -> None:
    tree = parse("# é comment\nouter:\n  - {é: [1, two]}\n", "spec.yaml")
    assert str(tree.location(["outer", 0, "é", 1])) == "spec.yaml:3:13"
    assert str(tree.location(["outer", 0, "é"], of_key=True)) == "spec.yaml:3:6"
    assert str(tree.location(["outer", 9])) == "spec.yaml:3:3"


def test_an_alias_repeats_a_value_and_keeps_its_location() -> None:
    tree = parse("a: &shape [1, 2]\nb: *shape\n", "spec.yaml")
    assert tree.plain() == {"a": [1, 2], "b": [1, 2]}
    assert str(tree.location(["b", 1])) == "spec.yaml:1:15"


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
    ("a: &a [*a]", "1:8: *a is inside its own anchor"),
    ("a: *b", "1:4: *b: no anchor &b before it"),
    ("--- 1\n--- 2", "2:1: a second document"),
    ("%YAML 1.1\n--- 1", "1:1: YAML 1.1 is requested"),
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
def test_dangerous_yaml_is_refused(text: str, line: str) -> None:
    lines = problems(text)
    assert len(lines) == 1
    assert lines[0].startswith(f"spec.yaml:{line}")


def test_all_problems_are_reported_at_once_in_reading_order() -> None:
    lines = problems("a: 1\na: 2\nb: !mine 3\n<<: 4\nc: 1e999\n")
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4", "5"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_no_nesting_exhausts_the_stack(opening: str) -> None:
    assert f"nested more than {MAX_DEPTH} levels deep" in problems(opening * 200_000)[0]


def test_aliases_cannot_nest_without_bound() -> None:
    lines = ["a0: &a0 [1]", *(f"a{level}: &a{level} [*a{level - 1}]" for level in range(1, MAX_DEPTH + 2))]
    assert "with aliases followed" in problems("\n".join(lines))[0]


def test_aliases_that_explode_are_refused() -> None:
    lines = ["a0: &a0 [lol]", *(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9))]
    assert f"more than {MAX_VALUES} values, with aliases followed" in problems("\n".join(lines))[0]


def test_many_aliases_that_do_not_explode_are_accepted() -> None:
    assert plain("a: &a [1, 2]\nb: [" + ", ".join(["*a"] * 500) + "]")["b"] == [[1, 2]] * 500


def test_the_pure_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LOADER", yaml.SafeLoader)
    assert plain("a: [1e-5, no, '1', !!str 2]\nb: {0: ~}\n") == {"a": [1e-5, "no", "1", "2"], "b": {0: None}}
    for text, line in REFUSED:
        assert problems(text)[0].startswith(f"spec.yaml:{line.split(' ')[0]}") or "not YAML" in problems(text)[0]


# Files


def file_problem(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read(path)
    (line,) = str(caught.value).splitlines()
    return line


def test_files_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"a: 1\nb: \xff\xfe\x00")
    assert file_problem(path) == f"{path}:2:4: not UTF-8 text; a spec is YAML, saved as UTF-8"
    path.write_bytes("harness: 1".encode("utf-16"))
    assert "not UTF-8 text" in file_problem(path)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(path).plain() == {"a": 1}


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    assert file_problem(path) == f"{path}:1:1: larger than 4 MiB; split it, and generate large tensors with `fill`"


def test_missing_files_and_paths_that_are_not_files(tmp_path: Path) -> None:
    assert "cannot be read: no such file or directory" in file_problem(tmp_path / "none.yaml")
    assert "not a regular file" in file_problem(tmp_path)
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert "cannot be read: too many levels of symbolic links" in file_problem(loop)
