"""The labels of the arrays in a data file, and nested inputs of a module by them: ``past.0.key`` is in ``past``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from harness.check.files.signatures import FileSignature
from harness.data_files import TEST_DATA_NAME, UNNAMED
from harness.spec.language.inputs.names import as_label
from harness.spec.language.inputs.structure import Structure, flat_tree


def array_labels(keys: Sequence[str], *sides: FileSignature) -> dict[str, str]:
    """A label for each array of a file: a side's names in order for unnamed ones and for those of ONNX's test data."""
    unnamed = [key for key in keys if key == UNNAMED or TEST_DATA_NAME.fullmatch(key)]
    for names in ([each.name for each in side.inputs] for side in sides):
        if len(unnamed) == len(keys) == len(names) and not set(keys) & set(names):
            return {key: as_label(name) for key, name in zip(keys, names, strict=True)}
    return {key: as_label(key) if key else "x" for key in keys}


def nested_labels(labels: Mapping[str, str], parameters: Collection[str]) -> dict[str, str]:
    """``labels`` by name, with the path instead of the label where its first part is one of a module's ``parameters``.

    ``past.0.key`` stays what it is if a module has the parameter ``past`` and none that is called ``past_0_key``. A
    file declares its tensors, and has no nested inputs. A list has the places 0, 1, ...: torch's exporters number the
    uses of a name from 1 on, and ``input.1`` is a tensor.
    """
    paths = [name.split(".") for name in labels]
    nests = {first for first, *_ in paths if _holds_values([rest for each, *rest in paths if each == first])}
    nests.intersection_update(parameters)
    return {
        name: name if name.split(".")[0] in nests and _is_path(name) and label not in parameters else label
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


def nested_arguments(labels: Sequence[str]) -> Structure:
    """The arguments of ``forward`` that the tensors with these labels are in."""
    arguments = nested(dict(zip(labels, labels, strict=True)))
    return {label: flat_tree(label, value, lambda _path, _leaf: None) for label, value in arguments.items()}


def nested(entries: Mapping[str, Any]) -> dict[str, Any]:
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
    """The entry of one tensor, which may be a mapping too."""

    def __init__(self, entry: Any) -> None:
        self.entry = entry


def _written(branch: Any) -> Any:
    if isinstance(branch, _Leaf):
        return branch.entry
    if set(branch) == {str(index) for index in range(len(branch))}:
        return [_written(branch[str(index)]) for index in range(len(branch))]
    return {name: _written(each) for name, each in branch.items()}


def _is_path(name: str) -> bool:
    """True for parts of letters, digits and ``_``, as a spec can write them."""
    parts = name.split(".")
    return len(parts) > 1 and all(part.replace("_", "a").isalnum() and part.isascii() for part in parts)
