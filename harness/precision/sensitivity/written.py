"""What ``harness sensitivity`` writes besides its page: JSON, the exclusion list, and a spec with its targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from harness.precision.chart import svg
from harness.precision.process import write_texts
from harness.precision.sensitivity import Sensitivity, TimedChoice
from harness.precision.sensitivity.page import charts, page
from harness.result import to_json

LIST_FILE = "keep.json"


def write(found: Sensitivity, folder: Path, model_file: str) -> list[Path]:
    """Write all files into ``folder`` and return their paths. ``model_file`` is what scripts call the user's model.

    Raises :class:`HarnessError` where a file cannot be written.
    """
    pictures = {name: svg(chart) for name, chart in charts(found).items()}
    files = {
        "sensitivity.json": json.dumps(as_json(found), indent=1) + "\n",
        "sensitivity.html": page(found, pictures, model_file),
        **{f"{name}.svg": picture for name, picture in pictures.items()},
    }
    if found.found.shortest is not None:
        files[LIST_FILE] = json.dumps(exclusion_list(found), indent=1) + "\n"
        files["mixed.yaml"] = spec(found)
    return write_texts(files, folder)


def exclusion_list(found: Sensitivity) -> dict[str, Any]:
    """The nodes to keep, as arguments of the library's own function."""
    nodes = found.kept_nodes
    if found.lowering.word == "int8":
        # quantize_dynamic replaces each Gemm by a MatMul of another name before it looks at the list.
        operators = {n: layer.operators for layer in found.start.layers for n in layer.nodes}
        nodes += [f"{name}_MatMul" for name in nodes if "Gemm" in operators[name]]
    if found.lowering.word in {"fp16", "bf16"}:
        return {"keep_io_types": True, "op_block_list": None, "node_block_list": nodes}
    return {"nodes_to_exclude": nodes}


def spec(found: Sensitivity) -> str:
    """The spec that holds the mixed file to what was reached, on the samples beside it."""
    assert found.verified is not None
    rules: list[dict[str, Any]] = []
    measured = found.verified.measure
    if found.target.sqnr is not None:
        rules.append({"sqnr": found.target.sqnr})
    decided = found.start.decided
    if found.target.decisions is not None and measured is not None and measured.decisions is not None and decided:
        # A spec judges each sample by itself.
        share = min(found.target.decisions, measured.decisions.lowest)
        rules.append({"decisions": {"by": decided.by, "axis": decided.axis, "at_least": share}})
    samples = len(found.start.samples)
    case: dict[str, Any] = {
        "name": "mixed",
        "about": f"{len(found.kept)} of {len(found.start.layers)} layers stay in float32, the others are lowered.",
        "file": "float32/model.onnx",
        "samples": "samples/*.npz",
        "files": {"float32": "float32/model.onnx", "mixed": "mixed/model.onnx"},
        "tolerance": rules[0] if len(rules) == 1 else rules,
    }
    body: str = yaml.safe_dump({"harness": 1, "cases": [case]}, sort_keys=False, width=100_000, allow_unicode=True)
    return (
        f"# Written by `harness sensitivity {found.model} --to {found.lowering.word}`, from {samples} samples.\n"
        f"# The same list as a target: {found.target_word}\n{body}"
    )


def as_json(found: Sensitivity) -> dict[str, Any]:
    """Everything that was measured. Layers of choices are named; ``layers`` has their nodes."""
    start = found.start
    shortest = found.found.shortest
    return {
        "format": 1,
        "model": found.model,
        "to": found.lowering.word,
        "options": dict(found.lowering.options),
        "target": to_json(found.target),
        "reached": found.reached,
        "samples": list(start.samples),
        "inputs": list(start.inputs),
        "drawn": start.drawn,
        "decided_by": None if start.decided is None else str(start.decided),
        "float32_bytes": start.bytes,
        "layers": [
            {**to_json(each.layer), "alone": to_json(each.outcome), "kept": each.layer in found.kept}
            for each in found.found.ranking
        ],
        "curve": [{"kept": len(choice.kept), **to_json(choice.outcome)} for choice in found.found.curve],
        "shortest": None
        if shortest is None
        else {
            "layers": [layer.name for layer in shortest.kept],
            "outcome": to_json(found.verified),
            "each_tried_without": found.found.all_tried,
            **exclusion_list(found),
        },
        "hazards": found.hazards if isinstance(found.hazards, str) else to_json(found.hazards),
        "front": [_front_entry(each) for each in found.timed],
    }


def _front_entry(each: TimedChoice) -> dict[str, Any]:
    return {
        "choice": each.name,
        "kept": None if each.choice is None else [layer.name for layer in each.choice.kept],
        "latency": to_json(each.timing),
        "sqnr": to_json(each.sqnr),
        "bytes": each.bytes,
        "best": each.best,
    }
