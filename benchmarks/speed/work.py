"""The work of both sides: the same layers, arguments and shapes, as a spec for harness and as data for a loop."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from harness.spec.discovery import load_specs
from harness.spec.language.case import LayerModel

ROOT = Path(__file__).resolve().parents[2]
TARGETS = tuple(map(str, load_specs([str(ROOT / "specs")], allow_import=False).target_sets.select(["default"])))


@dataclass(frozen=True)
class Piece:
    """One layer, called on one tensor of normal random numbers."""

    layer: str
    args: dict[str, Any]
    shape: tuple[int, ...]


def shipped(count: int) -> list[Piece]:
    """Return ``count`` shipped cases of one layer in evaluation mode on one float32 tensor, evenly chosen."""
    pieces = list(_shipped())
    return [pieces[at * len(pieces) // count] for at in range(min(count, len(pieces)))]


def many(count: int) -> list[Piece]:
    """Return ``count`` cheap cases, the same few repeated, so that runs differ only in the number of cases."""
    few = [Piece("ReLU", {}, (2, 3)), Piece("AvgPool2d", {"kernel_size": 2}, (1, 1, 4, 4)), Piece("Tanh", {}, (5,))]
    return list(islice(cycle(few), count))


def write_spec(pieces: Sequence[Piece], folder: Path) -> Path:
    """Write one spec file per layer and the default targets to ``folder``, as JSON, which is also YAML."""
    folder.mkdir(parents=True)
    for layer in sorted({piece.layer for piece in pieces}):
        cases = [
            {"name": f"n{number}", "args": piece.args, "inputs": {"x": {"shape": list(piece.shape)}}}
            for number, piece in enumerate(pieces)
            if piece.layer == layer
        ]
        spec = {"harness": 1, "about": "For timing.", "layer": layer, "cases": cases}
        (folder / f"{layer.lower()}.yaml").write_text(json.dumps(spec), encoding="utf-8")
    (folder / "targets.yaml").write_text(json.dumps({"default": TARGETS}), encoding="utf-8")
    return folder


def write_data(pieces: Sequence[Piece], path: Path) -> Path:
    """Write the pieces as a list that a script can read without harness."""
    path.write_text(json.dumps([[piece.layer, piece.args, piece.shape] for piece in pieces]), encoding="utf-8")
    return path


def _shipped() -> Iterator[Piece]:
    for case in load_specs([str(ROOT / "specs")], allow_import=False).cases:
        model = case.model.model
        one = isinstance(model, LayerModel) and not model.forward and len(case.inputs) == 1
        plain = case.mode == "eval" and case.dtype == "float32" and not case.dynamic and case.expect.raises is None
        if not (one and plain):
            continue
        (tensor,) = case.inputs
        if tensor.shape and tensor.dtype == "float32" and isinstance(model, LayerModel):
            yield Piece(model.layer, json.loads(json.dumps(dict(model.args))), tuple(tensor.shape))
