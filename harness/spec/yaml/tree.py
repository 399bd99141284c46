"""YAML values with their locations, and the builder that makes them from PyYAML's events.

Plain scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema). PyYAML's own resolver
reads YAML 1.1, in which ``1e-5`` is a string, ``no`` is false and ``010`` is eight.

The builder works on events and without recursion, so that deep nesting cannot exhaust the stack.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from harness.errors import Location, Problem, SpecError
from harness.spec.quoting import flow_yaml

Key = str | int
Scalar = str | int | float | bool | None

MAX_VALUES = 200_000
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Node:
    """One value with its location; for a mapping, ``keys`` holds the location of each key.

    Nodes are shared and never changed: an alias, a default or a matrix value keeps the location where it was written.
    """

    where: Location
    value: Scalar | tuple[Node, ...] | dict[Key, Node]
    keys: Mapping[Key, Location] = field(default_factory=dict)

    @property
    def entries(self) -> Mapping[Key, Node]:
        """The entries of a mapping; empty for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """The items of a list; empty for any other value."""
        return self.value if isinstance(self.value, tuple) else ()

    def child(self, part: Key) -> Node | None:
        """The value at a key or an index; None if there is none."""
        if isinstance(self.value, dict):
            return self.value.get(part)
        if isinstance(self.value, tuple) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def size(self) -> int:
        """The number of values in this node, including itself."""
        children = self.value.values() if isinstance(self.value, dict) else self.items
        return 1 + sum(child.size() for child in children)

    def plain(self) -> Any:
        """The same value as dictionaries, lists and scalars, without locations."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def location(self, path: Sequence[Key], *, of_key: bool = False) -> Location:
        """The location of the value at ``path`` (or of its key), or of the deepest existing value on the way.

        Parts of the path that do not exist are skipped.
        """
        node, location = self, self.where
        for index, part in enumerate(path):
            child = node.child(part)
            if child is None:
                continue
            location = node.keys.get(part, child.where) if of_key and index == len(path) - 1 else child.where
            node = child
        return location


NULL = frozenset({"", "~", "null", "Null", "NULL"})
BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
DECIMAL = re.compile(r"[-+]?[0-9]+")
OCTAL = re.compile(r"0o[0-7]+")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
NAN = frozenset({".nan", ".NaN", ".NAN"})
MAX_INTEGER_LENGTH = 40


def resolve_scalar(text: str) -> Scalar:
    """The value of an unquoted scalar.

    Raises ``ValueError`` for an integer of more than 40 characters, and for a decimal beyond float64, which would
    silently become an infinity.
    """
    if text in NULL:
        return None
    if text in BOOL:
        return BOOL[text]
    if text[0] not in "+-.0123456789":
        return text
    return _resolve_number(text)


def _resolve_number(text: str) -> Scalar:
    for pattern, base in ((DECIMAL, 10), (OCTAL, 8), (HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            if len(text) > MAX_INTEGER_LENGTH:
                raise ValueError(f"a whole number of {len(text)} characters; at most {MAX_INTEGER_LENGTH}")
            return int(text if base == 10 else text[2:], base)
    if FLOAT.fullmatch(text):
        value = float(text)
        if value in {float("inf"), float("-inf")}:
            raise ValueError(f"{text[:MAX_INTEGER_LENGTH]} is beyond float64; write .inf for infinity")
        return value
    if INFINITY.fullmatch(text):
        return float("-inf") if text[0] == "-" else float("inf")
    return float("nan") if text in NAN else text


UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

CORE_TAG = "tag:yaml.org,2002:"
CORE_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (float, int),
    "bool": bool,
    "null": type(None),
}


@dataclass(slots=True)
class _OpenCollection:
    """A list or mapping that has started and not ended."""

    where: Location
    anchor: str | None
    is_mapping: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[Key, Node] = field(default_factory=dict)
    keys: dict[Key, Location] = field(default_factory=dict)
    expects_key: bool = True
    key: Key | None = None
    size: int = 1
    depth: int = 0


@dataclass(frozen=True, slots=True)
class _Finished:
    """A finished node, with its number of values (aliases followed) and its nesting depth."""

    node: Node
    size: int = 1
    depth: int = 0


class Builder:
    """Build the tree of one document from PyYAML's events; ``root`` is the document after the last event.

    ``repeated_keys`` are kept apart from ``problems``: with them, the document can still be read.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.repeated_keys: list[Problem] = []
        self._open: list[_OpenCollection] = []
        self._anchors: dict[str, _Finished | None] = {}
        self._documents = 0
        self._values = 0

    def add_event(self, event: yaml.Event) -> None:
        """Process one event. Raises :class:`SpecError` if reading on is pointless."""
        mark = event.start_mark
        assert mark is not None, "the parser marks every event"
        where = Location(self.file, mark.line + 1, mark.column + 1)
        match event:
            case yaml.ScalarEvent():
                self._add(_Finished(Node(where, self._scalar(event, where))), where, event.anchor)
            case yaml.AliasEvent():
                self._add(self._alias_target(event.anchor or "", where), where, None)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._start_collection(event, where)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end_collection()
            case yaml.DocumentStartEvent():
                self._start_document(event, where)

    def _start_document(self, event: yaml.DocumentStartEvent, where: Location) -> None:
        self._documents += 1
        if self._documents > 1:
            self._fail(where, "a second document", "one file holds one document; remove the `---`")
        if event.version is not None and tuple(event.version) != (1, 2):
            self.problems.append(Problem(where, "YAML 1.1 is requested", "specs are YAML 1.2; remove the %YAML line"))

    def _start_collection(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent, where: Location) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, "!", CORE_TAG + ("map" if is_mapping else "seq")}:
            self._refuse_tag(event.tag, where)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_OpenCollection(where, event.anchor, is_mapping))
        if len(self._open) > MAX_DEPTH:
            self._fail(where, f"nested more than {MAX_DEPTH} levels deep", "nest less; no spec needs that")

    def _end_collection(self) -> None:
        done = self._open.pop()
        node = Node(done.where, done.entries, done.keys) if done.is_mapping else Node(done.where, tuple(done.items))
        self._add(_Finished(node, done.size, done.depth), done.where, done.anchor, counted=done.size - 1)

    def _add(self, finished: _Finished, where: Location, anchor: str | None, counted: int = 0) -> None:
        """Add ``finished`` to the innermost open collection; ``counted`` of its values were counted when read."""
        self._values += finished.size - counted
        if self._values > MAX_VALUES:
            remedy = "generate large tensors with `fill`, and write out what aliases repeat"
            self._fail(where, f"more than {MAX_VALUES} values, with aliases followed", remedy)
        if len(self._open) + finished.depth > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep, with aliases followed"
            self._fail(where, message, "nest less; no spec needs that")
        if anchor is not None:
            self._anchors[anchor] = finished
        if not self._open:
            self.root = finished.node
            return
        parent = self._open[-1]
        parent.size += finished.size
        parent.depth = max(parent.depth, finished.depth + 1)
        if not parent.is_mapping:
            parent.items.append(finished.node)
        elif parent.expects_key:
            parent.key, parent.expects_key = self._key(finished.node, where, parent), False
        else:
            if parent.key is not None:
                parent.entries[parent.key] = finished.node
            parent.expects_key = True

    def _key(self, node: Node, where: Location, parent: _OpenCollection) -> Key | None:
        """The key, recorded with its location; None if it is refused."""
        key = node.value
        if not isinstance(key, str | int) or isinstance(key, bool):
            text = "a list or a mapping" if isinstance(key, tuple | dict) else flow_yaml(key)
            self.problems.append(Problem(where, f"{text} as a key", "a key is a word or a whole number"))
        elif key == "<<":
            remedy = "put what cases share under `defaults`, or use an alias for a whole value"
            self.problems.append(Problem(where, "the merge key `<<` is not YAML 1.2", remedy))
        elif key in parent.keys:
            first = parent.keys[key]
            remedy = f"keep one; the first is on line {first.line}"
            self.repeated_keys.append(Problem(where, f"{key}: repeated key", remedy))
        else:
            parent.keys[key] = where
            return key
        return None

    def _alias_target(self, anchor: str, where: Location) -> _Finished:
        if anchor not in self._anchors:
            self._fail(where, f"*{anchor}: no anchor &{anchor} before it", "define the anchor first")
        finished = self._anchors[anchor]
        if finished is None:
            self._fail(where, f"*{anchor} is inside its own anchor", "an alias repeats a finished value")
        return finished

    def _scalar(self, event: yaml.ScalarEvent, where: Location) -> Scalar:
        tag, is_plain = event.tag, event.implicit[0]
        if unprintable := UNPRINTABLE.search(event.value):
            message = f"the control character U+{ord(unprintable[0]):04X} in a text"
            self.problems.append(Problem(where, message, "use printable characters only"))
            return str(event.value)
        if tag in {"!", CORE_TAG + "str"} or (tag is None and not is_plain):
            return str(event.value)
        kind = (tag or "").removeprefix(CORE_TAG)
        if tag is not None and kind not in CORE_TYPES:
            self._refuse_tag(tag, where)
            return None
        try:
            value = resolve_scalar(event.value)
        except ValueError as error:
            message, _, remedy = str(error).partition("; ")
            self.problems.append(Problem(where, message, remedy))
            return None
        if tag is not None and (
            not isinstance(value, CORE_TYPES[kind]) or (isinstance(value, bool) and kind != "bool")
        ):
            self.problems.append(Problem(where, f"{event.value!r} is not of type {kind}", "remove the tag"))
        return float(value) if kind == "float" and isinstance(value, int) else value

    def _refuse_tag(self, tag: str, where: Location) -> None:
        short_tag = tag.replace(CORE_TAG, "!!")
        self.problems.append(Problem(where, f"the tag {short_tag}", "a spec is plain data; remove the tag"))

    def _fail(self, where: Location, message: str, remedy: str) -> NoReturn:
        raise SpecError([*self.problems, *self.repeated_keys, Problem(where, message, remedy)])
