"""Nested inputs of a module, found by the names that a file has for their tensors: ``past.0.key`` is in ``past``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.check.files.matching import NamedInput
from harness.check.files.signatures import FileSignature


def nested_labels(labels: Mapping[str, str], reference: FileSignature) -> dict[str, str]:
    """``labels`` by name, with the path instead of the label where ``reference`` takes its first part alone.

    ``past.0.key`` stays what it is if a module has the parameter ``past`` and none that is called ``past_0_key``. A
    file declares its tensors, and has no nested inputs. A list has the places 0, 1, ...: torch's exporters number the
    uses of a name from 1 on, and ``input.1`` is a tensor.
    """
    parameters = {each.name for each in reference.inputs if each.dtype is None}
    paths = [name.split(".") for name in labels]
    nests = {first for first, *_ in paths if _holds_values([rest for each, *rest in paths if each == first])}
    return {
        name: name if name.split(".")[0] in nests & parameters and _is_path(name) and label not in parameters else label
        for name, label in labels.items()
    }


def _holds_values(paths: Sequence[Sequence[str]]) -> bool:
    """True if a list or a mapping holds values at all of ``paths``: places in a list are 0, 1, ..."""
    if any(not path for path in paths):
        return len(paths) == 1
    first = {path[0] for path in paths}
    if any(part.isdecimal() for part in first) and first != {str(place) for place in range(len(first))}:
        return False
    return all(_holds_values([rest for each, *rest in paths if each == part]) for part in first)


def as_arguments(given: Sequence[NamedInput]) -> list[NamedInput]:
    """``given`` as the arguments of ``forward``: the tensors of a nested input stand as one."""
    arguments: dict[str, NamedInput] = {}
    for each in given:
        name = each.label.split(".")[0]
        arguments.setdefault(name, replace(each, label=name))
    return list(arguments.values())


def nested(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Entries by path as a spec writes them: a list where the parts are 0, 1, ..., else a mapping."""
    tree: dict[str, Any] = {}
    for path, entry in entries.items():
        *parents, last = path.split(".")
        branch = tree
        for part in parents:
            branch = branch.setdefault(part, {})
        branch[last] = _Leaf(entry)
    return {name: _written(branch) for name, branch in tree.items()}


class _Leaf:
    """The entry of one tensor, which is a mapping too."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.entry = entry


def _written(branch: Any) -> Any:
    if isinstance(branch, _Leaf):
        return dict(branch.entry)
    if set(branch) == {str(index) for index in range(len(branch))}:
        return [_written(branch[str(index)]) for index in range(len(branch))]
    return {name: _written(each) for name, each in branch.items()}


def _is_path(name: str) -> bool:
    """True for parts of letters, digits and ``_``, as a spec can write them."""
    parts = name.split(".")
    return len(parts) > 1 and all(part.replace("_", "a").isalnum() and part.isascii() for part in parts)
