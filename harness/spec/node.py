"""A value of a YAML file that remembers where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import Location

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
