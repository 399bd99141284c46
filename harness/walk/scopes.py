"""Which torch module an exported node belongs to, by what the exporter wrote beside it.

``torch.onnx.export(dynamo=False)`` names nodes by the scope they were traced in: ``/features/features.0/Conv``, where
a child of a Sequential repeats its parent's name. ``dynamo=True`` writes the full path of each scope into the metadata
``pkg.torch.onnx.name_scopes``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

from onnx import NodeProto

NAME_SCOPES = "pkg.torch.onnx.name_scopes"
REPEATED = re.compile(r"_\d+$")
"""What a scope's name ends with when the same module was called again."""


def module_of(node: NodeProto, modules: Collection[str]) -> str | None:
    """The path of the module that ``node`` was written for, among the paths ``modules``; None where it is not told."""
    for entry in node.metadata_props:
        if entry.key == NAME_SCOPES:
            return _deepest([str(scope) for scope in ast.literal_eval(entry.value)], modules)
    if node.name.startswith("/"):
        return _followed(node.name.split("/")[1:-1], modules)
    return None


def _deepest(scopes: list[str], modules: Collection[str]) -> str | None:
    return next((scope for scope in reversed(scopes) if scope in modules), None)


def _followed(parts: list[str], modules: Collection[str]) -> str | None:
    """The path that the parts of a traced scope lead to, each a child of the one before."""
    path = ""
    for part in parts:
        child = next((one for one in _children(path, part) if _is_path(one, modules)), None)
        if child is None:
            return None
        path = child
    return path if path in modules else None


def _children(path: str, part: str) -> list[str]:
    """The paths that ``part`` may mean below ``path``: a child's name, or the end of ``path`` and then the name."""
    names = dict.fromkeys((part, REPEATED.sub("", part)))
    relative = [f"{path}.{name}" if path else name for name in names]
    pieces = path.split(".") if path else []
    ends = [".".join(pieces[at:]) for at in range(len(pieces))]
    return relative + [
        f"{path}{name.removeprefix(end)}" for name in names for end in ends if name.startswith(f"{end}.")
    ]


def _is_path(path: str, modules: Collection[str]) -> bool:
    return path in modules or any(module.startswith(f"{path}.") for module in modules)
