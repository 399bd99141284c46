"""Parts of a module that are in training mode although the module was put into evaluation mode.

``module.eval()`` reaches neither modules in a plain list or dict nor those whose ``train`` does something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from harness.model.tensors import copy_module

MAX_PARTS = 3
"""The number of parts in training mode that a message names."""


def parts_in_words(parts: Sequence[str]) -> str:
    """What a message says about ``parts`` in training mode."""
    names = ", ".join(name.removeprefix("layer.") or "the module itself" for name in parts[:MAX_PARTS])
    more = f" and {len(parts) - MAX_PARTS} more" if len(parts) > MAX_PARTS else ""
    return f"parts of the module are in training mode, which .eval() does not reach ({names}{more})"


def parts_in_training(module: nn.Module) -> list[str]:
    """The names of the parts that are in training mode, as attributes of ``module``; ``""`` is the module itself."""
    return [name for name, part in _all_parts(module) if part.training]


def in_evaluation(module: nn.Module) -> nn.Module:
    """A copy with every part in evaluation mode, also those that ``eval`` does not reach."""
    copied = copy_module(module)
    for _, part in _all_parts(copied):
        part.training = False
    return copied


def _all_parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module inside ``module`` once with its name, those in plain containers included."""
    seen: set[int] = set()
    pending = [("", module)]
    while pending:
        name, part = pending.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield name, part
        prefix = f"{name}." if name else ""
        pending += [(prefix + child, each) for child, each in part.named_children()]
        for attribute, value in vars(part).items():
            if not attribute.startswith("_"):
                pending += [(f"{prefix}{attribute}{key}", each) for key, each in _contained(value)]


def _contained(value: Any) -> Iterator[tuple[str, nn.Module]]:
    """The modules directly inside a list, tuple or dict, with their keys in brackets."""
    entries = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    )
    yield from ((f"[{key!r}]", each) for key, each in entries if isinstance(each, nn.Module))
