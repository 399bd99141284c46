"""What a file says once, under every case of it.

Arguments, weights, inputs and expectations are merged key by key; each tensor again key by key.
Everything else is replaced. A tensor given by ``values`` sheds the ``shape`` and ``fill`` that lie
under it, and the other way round. A case that names its own model sheds the ``args``, ``forward``
and ``weights`` that the defaults give to the file's model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.errors import Location
from harness.spec.node import Key, Node

MODEL_KEYS = frozenset({"layer", "sequential", "graph", "returns", "factory"})
OF_THE_MODEL = frozenset({"args", "forward", "weights"})
BY_KEY = frozenset({"args", "forward", "expect"})
BY_TENSOR = frozenset({"inputs", "weights"})
LITERAL, GENERATED = frozenset({"values"}), frozenset({"shape", "fill"})


def under_defaults(file: Node, case: Node) -> Node:
    """``case`` with the file's model and defaults under it; it stands where the case stands."""
    own_model = bool(MODEL_KEYS & set(case.entries))
    file_model = only(file, MODEL_KEYS)
    defaults = file.child("defaults") or Node(case.where, {})
    if own_model:
        file_model = only(file, ())
        if MODEL_KEYS & set(file.entries):
            defaults = without(defaults, OF_THE_MODEL)
    return union(union(file_model, defaults), case)


def union(under: Node, over: Node) -> Node:
    """The keys of both mappings; ``over`` wins, or is merged by the rules above."""
    merged = dict(under.entries)
    for key, node in over.entries.items():
        below = merged.get(key)
        if below is None or not below.entries:
            merged[key] = node
        elif key in BY_KEY:
            merged[key] = _joined(below, node)
        elif key in BY_TENSOR:
            merged[key] = _tensors(below, node)
        else:
            merged[key] = node
    return Node(over.where, merged, {**under.keys, **over.keys})


def put(node: Node, path: Sequence[Key], value: Node, where: Location) -> Node:
    """``node`` with ``value`` at ``path``; what is missing on the way is made and stands at ``where``.

    Raises ``LookupError`` where the path leads through something that has no such part.
    """
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(node.value, tuple):
        if not (isinstance(part, int) and part < len(node.value)):
            raise LookupError(part)
        changed = put(node.value[part], rest, value, where)
        return Node(node.where, (*node.value[:part], changed, *node.value[part + 1 :]))
    if node.value is not None and not node.entries and node.value != {}:
        raise LookupError(part)
    child = node.entries.get(part) or Node(where, {})
    entries = {**node.entries, part: put(child, rest, value, where)}
    return Node(node.where, entries, {**node.keys, part: where})


def overlaid(node: Node, path: Sequence[Key], value: Node, where: Location) -> Node:
    """:func:`put`, by which a tensor sheds the rivals of what it is given."""
    if len(path) == 3 and path[0] in BY_TENSOR:
        tensor = (node.child(path[0]) or node).child(path[1])
        if tensor is not None:
            kept = without(tensor, _rivals({path[2]}))
            return put(node, path[:2], put(kept, path[2:], value, where), kept.where)
    return put(node, path, value, where)


def only(node: Node, keys: Collection[Key]) -> Node:
    """The mapping with these keys of it."""
    return without(node, [key for key in node.entries if key not in keys])


def without(node: Node, keys: Collection[Key]) -> Node:
    """The mapping less these keys."""
    kept = {key: child for key, child in node.entries.items() if key not in keys}
    return Node(node.where, kept, {key: place for key, place in node.keys.items() if key in kept})


def _joined(under: Node, over: Node) -> Node:
    return Node(over.where, {**under.entries, **over.entries}, {**under.keys, **over.keys})


def _tensors(under: Node, over: Node) -> Node:
    merged = dict(under.entries)
    for label, tensor in over.entries.items():
        below = merged.get(label)
        merged[label] = tensor if below is None else _joined(without(below, _rivals(set(tensor.entries))), tensor)
    return Node(over.where, merged, {**under.keys, **over.keys})


def _rivals(keys: Collection[Key]) -> frozenset[str]:
    """What cannot stand beside ``keys`` when it lies under them."""
    given = set(keys)
    return (GENERATED if given & LITERAL else frozenset()) | (LITERAL if given & GENERATED else frozenset())
