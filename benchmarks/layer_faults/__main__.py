"""Plants the faults, looks at the tables, and writes the report; see :mod:`benchmarks.layer_faults`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto
from tabulate import tabulate

from benchmarks.layer_faults import ROOT, chosen_options, versions_text
from benchmarks.layer_faults.faults import faults, without_names
from benchmarks.layer_faults.net import inputs, net
from harness.exporters import Artifact
from harness.inside.calls import ValueStore
from harness.inside.graph import Graph
from harness.inside.nodes.matching import module_of
from harness.inside.onnx_file import GraphSubject
from harness.inside.table import LayerTable, layer_table
from harness.inside.torch_reference import TorchReference
from harness.result import Layer
from harness.spec.targets import Target, parse_target
from harness.transforms._apply import transformed

NEEDED = 0.95
LEAST_EPS = 16.0
"""A fault that changes the RMS of what its node computes by less is hidden by rounding, and not counted."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A file without a fault: ``owners`` has the layer that the exporter wrote each node for, by number."""

    name: str
    target: Target
    model: ModelProto
    owners: tuple[str | None, ...]
    precision: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the table shows for one fault: ``owner`` is the layer that has it."""

    variant: str
    kind: str
    operator: str
    owner: str
    sentence: str
    layer_right: bool
    step_right: bool


def main() -> int:
    """Plant every fault, print and write the report."""
    options = chosen_options(__doc__, "variants", "reports/layer-faults.md")
    began = time.process_time()
    outcomes: list[Outcome] = []
    clean: list[tuple[str, LayerTable]] = []
    with tempfile.TemporaryDirectory() as folder:
        for variant in variants(Path(folder)):
            if options.only not in variant.name:
                continue
            clean.append((variant.name, _table(variant, variant.model, Path(folder))))
            found = list(_outcomes(variant, Path(folder)))
            outcomes += found
            right = sum(each.layer_right for each in found)
            print(f"{variant.name}: {right} of {len(found)} right; {clean[-1][1].sentence}", flush=True)
            for each in found:
                if not (each.layer_right and each.step_right):
                    print(f"  {each.kind} in {each.operator} of {each.owner}: {each.sentence}", flush=True)
    text = report(outcomes, clean, time.process_time() - began)
    if options.write:
        (ROOT / "reports/layer-faults.md").write_text(text, encoding="utf-8")
    print(text)
    share = sum(each.layer_right and each.step_right for each in outcomes) / max(len(outcomes), 1)
    return 0 if share >= NEEDED and outcomes and not any(table.wrong for _, table in clean) else 1


def variants(folder: Path) -> Iterator[Variant]:
    """The files, each from its exporter."""
    module, paths = net(), {name for name, _ in net().named_modules()}
    for exporter, dynamo, opset in (("onnx-torchscript", False, 17), ("onnx-dynamo", True, 20)):
        path = folder / f"{exporter}.onnx"
        torch.onnx.export(
            module, (inputs(),), str(path), dynamo=dynamo, opset_version=opset, input_names=["x"], verbose=False
        )
        model = onnx.load(str(path))
        target = parse_target(f"{exporter}@{opset}/ort-cpu")
        owners = tuple(module_of(node, paths) for node in model.graph.node)
        yield Variant(exporter, target, model, owners)
        yield Variant(f"{exporter}, no names", target, without_names(model), owners)
        half = parse_target(f"{exporter}@{opset}+fp16/ort-cpu")
        artifact = Artifact("onnx", path, "", opset)
        lowered = transformed(artifact, folder / f"{exporter}-fp16.onnx", half, [{"x": inputs().numpy()}])
        model = onnx.load(str(lowered.path))
        owners = tuple(module_of(node, paths) for node in model.graph.node)
        yield Variant(f"{exporter}, float16", half, model, owners, "float16")


def _outcomes(variant: Variant, folder: Path) -> Iterator[Outcome]:
    for fault in faults(variant.model, 0.01 if variant.precision is None else 0.1):
        owner, faulty = variant.owners[fault.node], fault.planted(variant.model)
        if owner is None:
            continue
        try:
            if not _changes(variant, faulty, fault.node, folder):
                continue
            table = _table(variant, faulty, folder)
        except Exception as error:
            if "ONNXRuntimeError" not in str(error) and "InvalidGraph" not in type(error).__name__:
                raise
            continue
        node = variant.model.graph.node[fault.node]
        first = next((layer for layer in table.layers if layer.wrong), None)
        yield Outcome(
            variant=variant.name,
            kind=fault.kind,
            operator=node.op_type,
            owner=owner,
            sentence=table.sentence,
            layer_right=first is not None and _is_owner(owner, first, table),
            step_right=table.sentence.startswith("one step at "),
        )


def _changes(variant: Variant, faulty: ModelProto, number: int, folder: Path) -> bool:
    """Whether a fault changes what its node computes by more than :data:`LEAST_EPS` of the dtype."""
    name = variant.model.graph.node[number].output[0]
    answers = []
    for model in (variant.model, faulty):
        path = folder / "changed.onnx"
        onnx.save(model, str(path))
        store = ValueStore(folder)
        artifact = Artifact("onnx", path, "", variant.target.opset)
        graph = Graph(artifact, variant.target, {"x": np.array(inputs())}, store)
        answers.append(store[graph.run([name], {})[name]])
    right, wrong = (each.astype(np.float64) for each in answers)
    least = LEAST_EPS * float(np.finfo(answers[0].dtype).eps)
    return right.shape == wrong.shape and bool(
        np.sqrt(np.mean((right - wrong) ** 2)) > least * np.sqrt(np.mean(right**2))
    )


def _is_owner(owner: str, layer: Layer, table: LayerTable) -> bool:
    """Whether ``layer`` is that of the fault, or is judged together with it."""
    if layer.path == owner:
        return True
    return any(each.path == owner and each.judged_with == layer.path for each in table.layers)


def _table(variant: Variant, model: ModelProto, folder: Path) -> LayerTable:
    path = folder / "faulty.onnx"
    onnx.save(model, str(path))
    with tempfile.TemporaryDirectory() as scratch:
        store = ValueStore(Path(scratch))
        reference = TorchReference(net(), [inputs()], 0, store, variant.precision)
        artifact = Artifact("onnx", path, "", variant.target.opset)
        graph = Graph(artifact, variant.target, {"x": np.array(inputs())}, store)
        return layer_table(reference, GraphSubject(graph, store, exported=True), passed=False)


def report(outcomes: list[Outcome], clean: list[tuple[str, LayerTable]], seconds: float) -> str:
    """The report as Markdown."""
    right = sum(each.layer_right for each in outcomes)
    steps = sum(each.step_right for each in outcomes)
    percent = 100 * right / max(len(outcomes), 1)
    layers = len([module for module in net().modules() if not list(module.children())])
    lines = [
        "# Faults planted in layers",
        "",
        (
            f"`python -m benchmarks.layer_faults --write`: one fault at a time in a net of {layers} layers, "
            f"{len(outcomes)} faults in {len(clean)} files, {seconds:.0f} s of CPU. {versions_text()}."
        ),
        "",
        f"**Layer right: {right} of {len(outcomes)} ({percent:.1f} %). Said to be one step: {steps}.**",
        "",
        "## Files without a fault",
        "",
        tabulate(
            [
                (name, sum(layer.wrong for layer in table.layers), f"{_highest(table):.2g}", table.sentence)
                for name, table in clean
            ],
            ["file", "wrong layers", "highest error (allowed: 1)", "what it says"],
            tablefmt="github",
        ),
        "",
        "## By file",
        "",
        _counted(outcomes, "variant"),
        "",
        "## By fault",
        "",
        _counted(outcomes, "kind"),
        "",
        "## By operator",
        "",
        _counted(outcomes, "operator"),
        "",
    ]
    if missed := [each for each in outcomes if not (each.layer_right and each.step_right)]:
        rows = [(each.variant, each.kind, each.operator, each.owner, each.sentence) for each in missed]
        headers = ["file", "fault", "operator", "layer", "what it says"]
        lines += ["## Not right", "", tabulate(rows, headers, tablefmt="github"), ""]
    return "\n".join(lines)


def _highest(table: LayerTable) -> float:
    return max((layer.times for layer in table.layers if layer.times is not None), default=0.0)


def _counted(outcomes: list[Outcome], field: str) -> str:
    groups: dict[str, list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault(getattr(each, field), []).append(each)
    rows = [
        (name, len(group), sum(each.layer_right for each in group), sum(each.step_right for each in group))
        for name, group in groups.items()
    ]
    return tabulate(rows, [field, "faults", "layer right", "one step"], tablefmt="github")


if __name__ == "__main__":
    sys.exit(main())
