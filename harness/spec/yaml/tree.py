"""A value of a YAML file that remembers where it stands.

Plain scalars by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).

PyYAML reads YAML 1.1, in which ``1e-5`` is a string, ``no`` is false and ``010`` is eight.

PyYAML's events -> a tree of nodes, without recursion, so that no nesting can exhaust the stack.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from harness.errors import Location, Problem, SpecError
from harness.spec.quoting import compact

Key = str | int
Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """One value with its place; of a mapping, ``keys`` has the place of each key.

    Nodes are shared, never changed: an alias, a default or a matrix value stays where it was written.
    """

    where: Location
    value: Scalar | tuple[Node, ...] | dict[Key, Node]
    keys: Mapping[Key, Location] = field(default_factory=dict)

    @property
    def entries(self) -> Mapping[Key, Node]:
        """What is in a mapping; nothing where this is none."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """What is in a list; nothing where this is none."""
        return self.value if isinstance(self.value, tuple) else ()

    def child(self, part: Key) -> Node | None:
        """The value at a key or an index; None where there is none."""
        if isinstance(self.value, dict):
            return self.value.get(part)
        if isinstance(self.value, tuple) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def size(self) -> int:
        """How many values there are in it, itself among them."""
        inner = self.value.values() if isinstance(self.value, dict) else self.items
        return 1 + sum(each.size() for each in inner)

    def plain(self) -> Any:
        """The same as dictionaries, lists and scalars, without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        return self.value

    def place(self, path: Sequence[Key], *, of_key: bool = False) -> Location:
        """Where the value at ``path`` stands (or its key), or the deepest value on the way that there is.

        Parts that lead nowhere are passed over.
        """
        node, found = self, self.where
        for at, part in enumerate(path):
            child = node.child(part)
            if child is None:
                continue
            found = node.keys.get(part, child.where) if of_key and at == len(path) - 1 else child.where
            node = child
        return found


NULL = frozenset({"", "~", "null", "Null", "NULL"})
BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
DECIMAL = re.compile(r"[-+]?[0-9]+")
OCTAL = re.compile(r"0o[0-7]+")
HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
NAN = frozenset({".nan", ".NaN", ".NAN"})
LONGEST_INTEGER = 40


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar.

    Raises ``ValueError`` for an integer of absurd length, and for a decimal beyond float64, which
    would otherwise become an infinity that nobody wrote.
    """
    if text in NULL:
        return None
    if text in BOOL:
        return BOOL[text]
    if text[0] not in "+-.0123456789":
        return text
    return _number(text)


def _number(text: str) -> Scalar:
    for pattern, base in ((DECIMAL, 10), (OCTAL, 8), (HEXADECIMAL, 16)):
        if pattern.fullmatch(text):
            if len(text) > LONGEST_INTEGER:
                raise ValueError(f"a whole number of {len(text)} characters; at most {LONGEST_INTEGER}")
            return int(text if base == 10 else text[2:], base)
    if FLOAT.fullmatch(text):
        value = float(text)
        if value in {float("inf"), float("-inf")}:
            raise ValueError(f"{text[:LONGEST_INTEGER]} is beyond float64; write .inf for infinity")
        return value
    if INFINITY.fullmatch(text):
        return float("-inf") if text[0] == "-" else float("inf")
    return float("nan") if text in NAN else text


UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MOST_VALUES = 200_000
DEEPEST = 64

CORE_TAG = "tag:yaml.org,2002:"
CORE_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (float, int),
    "bool": bool,
    "null": type(None),
}


@dataclass(slots=True)
class _Open:
    """A collection that has begun and not ended."""

    where: Location
    anchor: str | None
    is_mapping: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[Key, Node] = field(default_factory=dict)
    keys: dict[Key, Location] = field(default_factory=dict)
    expects_key: bool = True
    key: Key | None = None
    size: int = 1
    height: int = 0


@dataclass(frozen=True, slots=True)
class _Built:
    """A finished node, how many values it comes to with its aliases followed, and how deep it is."""

    node: Node
    size: int = 1
    height: int = 0


class Builder:
    """Takes events one by one; ``root`` is the document when they are all taken.

    ``slips`` are repeated keys, the only ``problems`` with which the document can still be read.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.slips: list[Problem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, _Built | None] = {}
        self._documents = 0
        self._values = 0

    def take(self, event: yaml.Event) -> None:
        """Fold one event in. Raises :class:`SpecError` where going on makes no sense."""
        mark = event.start_mark
        assert mark is not None, "the parser marks every event"
        where = Location(self.file, mark.line + 1, mark.column + 1)
        match event:
            case yaml.ScalarEvent():
                self._add(_Built(Node(where, self._scalar(event, where))), where, event.anchor)
            case yaml.AliasEvent():
                self._add(self._aliased(event.anchor or "", where), where, None)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._begin(event, where)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end()
            case yaml.DocumentStartEvent():
                self._document(event, where)

    def _document(self, event: yaml.DocumentStartEvent, where: Location) -> None:
        self._documents += 1
        if self._documents > 1:
            self._stop(where, "a second document", "one file holds one document; remove the `---`")
        if event.version is not None and tuple(event.version) != (1, 2):
            self.problems.append(Problem(where, "YAML 1.1 is asked for", "specs are YAML 1.2; remove the %YAML line"))

    def _begin(self, event: yaml.SequenceStartEvent | yaml.MappingStartEvent, where: Location) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, "!", CORE_TAG + ("map" if is_mapping else "seq")}:
            self._refuse_tag(event.tag, where)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Open(where, event.anchor, is_mapping))
        if len(self._open) > DEEPEST:
            self._stop(where, f"nested more than {DEEPEST} deep", "no spec needs that")

    def _end(self) -> None:
        done = self._open.pop()
        node = Node(done.where, done.entries, done.keys) if done.is_mapping else Node(done.where, tuple(done.items))
        self._add(_Built(node, done.size, done.height), done.where, done.anchor, counted=done.size - 1)

    def _add(self, built: _Built, where: Location, anchor: str | None, counted: int = 0) -> None:
        """Put ``built`` into what is open; ``counted`` of its values were counted when they were read."""
        self._values += built.size - counted
        if self._values > MOST_VALUES:
            right = "generate large tensors with `fill`, and spell out what aliases repeat"
            self._stop(where, f"more than {MOST_VALUES} values, with aliases followed", right)
        if len(self._open) + built.height > DEEPEST:
            self._stop(where, f"nested more than {DEEPEST} deep, with aliases followed", "no spec needs that")
        if anchor is not None:
            self._anchors[anchor] = built
        if not self._open:
            self.root = built.node
            return
        holder = self._open[-1]
        holder.size += built.size
        holder.height = max(holder.height, built.height + 1)
        if not holder.is_mapping:
            holder.items.append(built.node)
        elif holder.expects_key:
            holder.key, holder.expects_key = self._key(built.node, where, holder), False
        else:
            if holder.key is not None:
                holder.entries[holder.key] = built.node
            holder.expects_key = True

    def _key(self, node: Node, where: Location, holder: _Open) -> Key | None:
        """The key, remembered with its place; None where it is refused."""
        key = node.value
        if not isinstance(key, str | int) or isinstance(key, bool):
            shown = "a list or a mapping" if isinstance(key, tuple | dict) else compact(key)
            self.problems.append(Problem(where, f"{shown} as a key", "a key is a word or a whole number"))
        elif key == "<<":
            right = "put what cases share under `defaults`, or use an alias for a whole value"
            self.problems.append(Problem(where, "the merge key `<<` is not YAML 1.2", right))
        elif key in holder.keys:
            first = holder.keys[key]
            right = f"keep one; the first is on line {first.line}"
            self.slips.append(Problem(where, f"{key}: repeated key", right))
        else:
            holder.keys[key] = where
            return key
        return None

    def _aliased(self, anchor: str, where: Location) -> _Built:
        if anchor not in self._anchors:
            self._stop(where, f"*{anchor}: no anchor &{anchor} stands before it", "define the anchor first")
        built = self._anchors[anchor]
        if built is None:
            self._stop(where, f"*{anchor} stands inside its own anchor", "an alias repeats a finished value")
        return built

    def _scalar(self, event: yaml.ScalarEvent, where: Location) -> Scalar:
        tag, plain = event.tag, event.implicit[0]
        if found := UNPRINTABLE.search(event.value):
            wrong = f"the control character U+{ord(found[0]):04X} in a text"
            self.problems.append(Problem(where, wrong, "write what can be printed"))
            return str(event.value)
        if tag in {"!", CORE_TAG + "str"} or (tag is None and not plain):
            return str(event.value)
        kind = (tag or "").removeprefix(CORE_TAG)
        if tag is not None and kind not in CORE_TYPES:
            self._refuse_tag(tag, where)
            return None
        try:
            value = resolve(event.value)
        except ValueError as error:
            wrong, _, right = str(error).partition("; ")
            self.problems.append(Problem(where, wrong, right))
            return None
        if tag is not None and (
            not isinstance(value, CORE_TYPES[kind]) or (isinstance(value, bool) and kind != "bool")
        ):
            self.problems.append(Problem(where, f"{event.value!r} is no {kind}", "remove the tag"))
        return float(value) if kind == "float" and isinstance(value, int) else value

    def _refuse_tag(self, tag: str, where: Location) -> None:
        shown = tag.replace(CORE_TAG, "!!")
        self.problems.append(Problem(where, f"the tag {shown}", "a spec is plain data; remove the tag"))

    def _stop(self, where: Location, wrong: str, right: str) -> NoReturn:
        raise SpecError([*self.problems, *self.slips, Problem(where, wrong, right)])
