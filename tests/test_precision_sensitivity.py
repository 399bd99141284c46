"""``harness sensitivity``: the planted layer comes first, the list reaches the target, and hazards are named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from harness.compare.metrics.similarity import decibels
from harness.errors import StageError
from harness.exporters import Artifact
from harness.precision.hazards import find_hazards
from harness.precision.layers import Layer, Lowering, layers_of, lower, lowered_nodes
from harness.precision.measure import Measure, NothingComparable, measure
from harness.precision.model import ModelQuestion, prepared_model
from harness.precision.sensitivity import JOURNAL, Request, run
from harness.precision.sensitivity.search import ALL_POINTS, MOST_LEFT_OUT, Target, most_runs, search
from harness.precision.sensitivity.steps import Outcome
from harness.registry import plugins
from harness.spec.language.tolerances import Decisions
from harness.spec.targets import parse_target
from harness.transforms.int8 import Int8
from tests.conftest import Call
from tests.precision_models import WIDTH, even_weights, outlier_weights, write_chain, write_samples


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "sensitivity.json").read_text(encoding="utf-8"))
    return found


def test_a_layer_that_overflows_float16_is_first_is_kept_and_is_named_with_the_sample(
    harness: Call, here: Path
) -> None:
    write_chain(here / "net.onnx", even_weights(3), scaled=(1e6, 1e-6))
    write_samples(here / "samples", large=np.full((4, WIDTH), 20.0, np.float32))
    words = ("sensitivity", "net.onnx", "--inputs", "samples", "--to", "fp16", "--sqnr", "50", "-o", "out")
    ran = harness(*words)
    assert ran.code == 0, ran.err
    assert "5 layers x 4 samples: at most" in ran.err
    assert "Keep 2 of 5 layers in float32" in ran.out
    found = read(here / "out")
    assert [each["name"] for each in found["layers"]][:2] == ["up", "down"]
    assert found["layers"][0]["alone"]["measure"]["sqnr"] < 1
    assert sorted(found["shortest"]["node_block_list"]) == ["/down/Mul", "/up/Mul"]
    assert found["shortest"]["each_tried_without"]
    shown = {(each["kind"], each["node"], each["sample"]) for each in found["hazards"]}
    assert shown == {("overflow", "/up/Mul", "large.npz"), ("overflow", "/up/Mul", None)}
    assert "/up/Mul: overflow: 1e+06 is beyond 6.55e+04 in its weights (100 % of the values)" in ran.out
    for name in ("curve.svg", "front.svg"):
        assert ET.parse(here / "out" / name).getroot().tag.endswith("svg")
    assert "<svg" in (here / "out" / "sensitivity.html").read_text(encoding="utf-8")
    # What was written holds when others run it: the file itself, and the float32 file lowered with the same list.
    again = "file:float32+fp16?keep_nodes=/up/Mul%2C/down/Mul/ort-cpu"
    assert again in (here / "out" / "mixed.yaml").read_text(encoding="utf-8")
    judged = harness("run", "out", "--no-latency", "--targets", f"file:mixed/ort-cpu,{again}")
    assert judged.code == 0, judged.out + judged.err
    assert len(judged.rows) == 2
    plain = harness("run", "out", "--no-latency", "--targets", "file:float32+fp16/ort-cpu")
    assert plain.code == 1
    known = harness(*words)
    assert "of them known from out/journal.jsonl" in known.err
    assert read(here / "out")["layers"] == found["layers"]


def test_a_layer_with_outlier_weights_is_first_and_kept_in_int8(harness: Call, here: Path) -> None:
    write_chain(here / "net.onnx", outlier_weights(4, 2))
    write_samples(here / "samples")
    ran = harness("sensitivity", "net.onnx", "--inputs", "samples", "--to", "int8", "--sqnr", "25", "-o", "out")
    assert ran.code == 0, ran.err
    found = read(here / "out")
    assert found["layers"][0]["name"] == "layer2"
    assert found["shortest"]["nodes_to_exclude"] == ["/layer2/MatMul"]
    assert json.loads((here / "out" / "keep.json").read_text()) == {"nodes_to_exclude": ["/layer2/MatMul"]}
    assert found["shortest"]["outcome"]["measure"]["sqnr"] >= 25 > found["curve"][0]["measure"]["sqnr"]
    weights_hazard = next(each for each in found["hazards"] if each["sample"] is None)
    assert (weights_hazard["kind"], weights_hazard["node"]) == ("coarse", "/layer2/MatMul")
    assert weights_hazard["at"][0] == 5
    onnx.checker.check_model(str(here / "out" / "mixed" / "model.onnx"))
    assert [each["choice"] for each in found["front"]][:2] == ["float32", "the list: 1 kept"]
    missed = harness("sensitivity", "net.onnx", "--inputs", "samples", "--to", "int8", "--sqnr", "300", "-o", "out")
    assert (missed.code, "The target is missed unless every layer (4 layers) stays in float32." in missed.out) == (
        1,
        True,
    )
    replaced = "out has a report on net.onnx in int8, SQNR of 25 dB on every sample, which this one replaces; "
    assert replaced in missed.err
    left = {path.name for path in (here / "out").iterdir()}
    assert not left & {"mixed.yaml", "keep.json", "mixed", "float32", "samples"}, "of the earlier list"
    decided = harness("sensitivity", "net.onnx", "--inputs", "samples", "--to", "int8", "--decisions", "1", "-o", "out")
    assert decided.code == 0
    assert "at_least: 1.0" in (here / "out" / "mixed.yaml").read_text(encoding="utf-8")
    assert harness("run", "out", "--no-latency", "--targets", "file:mixed/ort-cpu").code == 0
    assert "Decisions: argmax of y over 32 candidates along axis -1." in decided.out


PRODUCT = """
import torch
from torch import nn


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(32, 32, bias=False)

    def forward(self, x):
        y = torch.tanh(self.inner(x))
        return y @ y.T


class Words(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.words, self.head = nn.Embedding(tokens, 32), nn.Linear(32, 16, bias=False)

    def forward(self, ids):
        return self.head(self.words(ids))
"""
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU()), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.body(x))
"""


def test_a_callable_is_exported_and_its_layers_have_the_names_of_its_modules(harness: Call, here: Path) -> None:
    (here / "net.py").write_text(NET, encoding="utf-8")
    words = ("sensitivity", "net.py:Net", "--shape", "x=2,32", "--to", "int8", "--exporter", "onnx-torchscript")
    ran = harness(*words, "-o", "out", "--samples", "2")
    assert ran.code == 0, ran.err
    assert "2 drawn samples" in ran.out
    assert {layer["name"] for layer in read(here / "out")["layers"]} == {"body/body.0", "head"}


def test_folders_that_no_report_wrote_are_not_replaced(harness: Call, here: Path) -> None:
    write_chain(here / "net.onnx", even_weights(1))
    write_samples(here / "samples")
    before = sorted((here / "samples").iterdir())
    ran = harness("sensitivity", "net.onnx", "--inputs", "samples", "--to", "int8", "--sqnr", "300", "-o", ".")
    assert (ran.code, "the report would replace samples, which no earlier report wrote; name" in ran.err) == (2, True)
    assert sorted((here / "samples").iterdir()) == before


def test_every_mistake_is_one_line(harness: Call, here: Path) -> None:
    write_chain(here / "net.onnx", even_weights(1))
    (here / "net.pt").write_bytes(b"")
    mistakes = {
        ("net.pt", "--to", "fp16"): ["net.pt: cannot be lowered; give the .onnx file"],
        ("absent.onnx", "--to", "fp16", "--shape", "x", "--args", "3"): [
            "absent.onnx: no such file",
            "--shape x: not a shape",
            "--args 3: not a mapping",
        ],
        ("net.onnx", "--to", "fp8"): ["--to fp8: no such transform; use one of "],
        ("net.onnx", "--to", "slim"): ["--to slim: it keeps no layer in float32; use one of "],
        ("net.onnx", "--to", "int8?exclude=a"): ["exclude is what this command finds; leave it out"],
        ("net.onnx", "--to", "int8?per_channel=yes"): ["per_channel=yes is unknown"],
        ("net.onnx", "--to", "int8", "--exporter", "onnx"): ["no exporter onnx"],
        ("net.onnx", "--to", "int8", "--axis", "7"): ["--axis 7: y has 2 axes"],
        ("net.onnx", "--to", "int8", "--inputs", "nowhere.npz"): ["nowhere.npz: no such file"],
    }
    for words, messages in mistakes.items():
        ran = harness("sensitivity", *words)
        assert (ran.code, ran.out) == (2, ""), (words, ran)
        assert len(ran.err.splitlines()) == len(messages), ran.err
        for message in messages:
            assert message in ran.err, (words, ran.err)


class Counting:
    """A listener that stops the search after some choices, as Ctrl-C does."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.done, self.lines = stop_after, 0, list[str]()

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, total: int, _unit: str = "") -> None:
        assert total

    def advance(self) -> None:
        self.done += 1
        if self.done == self.stop_after:
            raise KeyboardInterrupt

    def end(self) -> None:
        pass


@pytest.mark.usefixtures("harness")
def test_nothing_that_was_measured_is_lost_when_it_is_interrupted(here: Path) -> None:
    write_chain(here / "net.onnx", even_weights(3))
    request = Request(ModelQuestion("net.onnx", here, samples=2), Lowering("int8", {}), Target(20.0), here / "out")
    request.folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        run(request, Counting(3))
    journal = request.folder / JOURNAL
    assert len(journal.read_text(encoding="utf-8").splitlines()) == 4
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"kept": ["layer1"], "outco')  # as a killed run leaves it
    found = run(request, Counting())
    assert found.reused == 3
    assert found.reached
    other = run(replace(request, lowering=Lowering("int8", {"per_channel": "on"})), Counting())
    assert other.reused == 0


# The search


def outcome(noise: float) -> Outcome:
    ratio = decibels(1.0, noise)
    return Outcome(Measure(ratio, ratio, noise, "y", "0", 0, None))


def layer(name: str) -> Layer:
    return Layer(name, (f"/{name}/MatMul",), ("MatMul",))


@given(st.lists(st.floats(1e-9, 1e-2), min_size=1, max_size=40), st.floats(10, 60))
def test_the_list_is_the_shortest_where_errors_add_up(noises: list[float], ratio: float) -> None:
    layers = {layer(f"layer{index}"): noise for index, noise in enumerate(noises)}
    calls = 0
    known = dict[frozenset[Layer], Outcome]()

    def attempt(kept: Sequence[Layer]) -> Outcome:
        nonlocal calls
        key = frozenset(kept)
        if key not in known:
            calls += 1
            known[key] = outcome(sum(noise for each, noise in layers.items() if each not in key))
        return known[key]

    target = Target(ratio)
    found = search(list(layers), target, attempt)
    assert calls <= most_runs(len(layers))
    left = sorted(noises)
    fewest = next(
        count for count in range(len(noises) + 1) if decibels(1, sum(left[: len(left) - count])) >= ratio - 1e-9
    )
    if fewest == len(noises):
        assert found.shortest is None or len(found.shortest.kept) == fewest
        return
    assert found.shortest is not None
    assert abs(len(found.shortest.kept) - fewest) <= (len(noises) > ALL_POINTS or len(noises) > MOST_LEFT_OUT)
    assert target.reached(found.shortest.outcome.measure)
    for each in found.shortest.kept:
        fewer = [other for other in found.shortest.kept if other != each]
        assert not found.all_tried or not target.reached(attempt(fewer).measure)


def test_layers_that_only_cost_together_are_found_all_the_same() -> None:
    pair = [layer("a"), layer("b")]
    others = [layer("c"), layer("d")]

    def attempt(kept: Sequence[Layer]) -> Outcome:
        both_lowered = not set(pair) & set(kept)
        return outcome(1.0 if both_lowered else 1e-8 * (4 - len(kept)))

    found = search([*others, *pair], Target(40.0), attempt)
    assert found.shortest is not None
    assert len(found.shortest.kept) == 1
    assert set(found.shortest.kept) <= set(pair)


def test_what_fails_ranks_first_and_reaches_nothing() -> None:
    bad, good = layer("bad"), layer("good")

    def attempt(kept: Sequence[Layer]) -> Outcome:
        return outcome(1e-6 if kept else 1e-5) if bad in kept else Outcome(None, failed="no kernel")

    found = search([good, bad], Target(30.0), attempt)
    assert found.ranking[0].layer == bad
    assert found.shortest is not None
    assert found.shortest.kept == (bad,)
    assert not Target(decisions=0.5).reached(outcome(0.0).measure)


# What is measured


def test_the_worst_sample_and_output_count_and_a_lost_value_destroys() -> None:
    exact: dict[str, Any] = {"a": np.ones((1, 4), np.float32), "n": np.arange(4)}
    exact["b"] = np.full((1, 4), 100.0, np.float32)
    near = {**exact, "a": exact["a"] + np.float32(0.1)}
    found = measure([exact, exact], [exact, near], ["first", "second"], ("a", Decisions()))
    assert (found.output, found.sample, round(found.sqnr, 3)) == ("a", "second", 20.0)
    assert found.rms == pytest.approx(0.1 / np.sqrt(2), rel=1e-5)
    broken = {**exact, "b": np.array([[np.inf, 100, 100, np.nan]], np.float32)}
    lost = measure([exact], [broken], ["only"], None)
    assert (lost.sqnr, lost.output, lost.nonfinite) == (-np.inf, "b", 2)
    with pytest.raises(NothingComparable):
        measure([{"n": np.arange(3)}], [{"n": np.arange(3)}], ["only"], None)
    with pytest.raises(ValueError, match="b is missing; expected"):
        measure([exact], [{"a": exact["a"]}], ["only"], None)


def test_decisions_nearer_than_the_reference_is_accurate_are_ties() -> None:
    float32 = {"y": np.array([[1.0, 1.0 - 1e-6], [1.0, 2.0]], np.float32)}
    float64 = {"y": np.array([[1.0 - 1e-6, 1.0], [1.0, 2.0]])}
    flipped = {"y": float32["y"][:, ::-1]}
    found = measure([float32], [flipped], ["only"], ("y", Decisions()), [float64])
    assert found.decisions is not None
    assert (found.decisions.agree, found.decisions.of, found.decisions.ties) == (0, 1, 1)


def test_what_a_transform_does_not_lower_is_named_with_the_reason(harness: Call, here: Path) -> None:
    (here / "net.py").write_text(PRODUCT, encoding="utf-8")
    ran = harness("sensitivity", "net.py:Product", "--shape", "x=4,32", "--to", "int8", "--samples", "2", "-o", "out")
    assert ran.code == 0, ran.err
    found = {each["operator"]: (each["reason"], len(each["nodes"])) for each in read(here / "out")["not_lowered"]}
    assert found == {"MatMul": ("no constant weights", 1), "Tanh": ("+int8 does not lower this operator", 1)}
    assert "Not lowered by +int8, so not in the table:\n  1 MatMul (no constant weights): node_" in ran.out
    assert "no constant weights" in (here / "out" / "sensitivity.html").read_text(encoding="utf-8")


def test_quantized_embeddings_are_a_layer_that_can_be_kept(harness: Call, here: Path) -> None:
    (here / "net.py").write_text(PRODUCT, encoding="utf-8")
    np.savez(here / "ids.npz", ids=np.arange(24).reshape(4, 6))
    words = ("--args", "{tokens: 40}", "--inputs", "ids.npz", "--to", "int8", "--sqnr", "45")
    ran = harness("sensitivity", "net.py:Words", *words, "-o", "out")
    found = read(here / "out")
    assert {each["operators"][0] for each in found["layers"]} == {"Gather", "MatMul"}, ran.err
    assert "Gather" not in str(found["not_lowered"])
    (alone,) = (each["alone"]["measure"] for each in found["layers"] if each["operators"][0] == "Gather")
    assert 20 < alone["sqnr"] < 60, "it costs something by itself"


def test_layers_that_share_weights_are_lowered_alone_where_they_can_be(tmp_path: Path) -> None:
    """A shared vector is written for each node; a shared matrix makes one layer of its nodes."""
    weights = even_weights(3)
    write_chain(tmp_path / "net.onnx", weights)
    model = onnx.load(str(tmp_path / "net.onnx"))
    model.graph.node[2].input[1] = "layer0.w"
    for at, name in enumerate(("first", "second")):
        scale = onnx.helper.make_node("Mul", [model.graph.node[-1].output[0], "scale"], [f"{name}.y"], f"/{name}/Mul")
        model.graph.node.append(scale)
        model.graph.node[-1].output[0] = "y" if at else "first.y"
    model.graph.node[2].output[0] = model.graph.node[3].input[0] = "chain.y"
    model.graph.initializer.append(numpy_helper.from_array(np.full(WIDTH, 0.7, np.float32), "scale"))
    onnx.save(model, str(tmp_path / "net.onnx"))
    prepared = prepared_model(ModelQuestion(str(tmp_path / "net.onnx"), tmp_path), tmp_path)
    layers = layers_of(prepared.artifact.path, {node.name for node in model.graph.node})
    assert [each.nodes for each in layers] == [
        ("/layer0/MatMul", "/layer2/MatMul"),
        ("/layer1/MatMul",),
        ("/first/Mul",),
        ("/second/Mul",),
    ]
    path = tmp_path / "lowered" / "model.onnx"
    lower(prepared.artifact, Lowering("fp16", {}), [name for each in layers[:3] for name in each.nodes], [], path)
    assert lowered_nodes(prepared.artifact.path, path) == {"/second/Mul"}
    half = {each.name for each in onnx.load(str(path)).graph.initializer if each.data_type == onnx.TensorProto.FLOAT16}
    assert half == {"scale//second/Mul/1"}


def test_weights_that_are_constant_nodes_are_lowered_too(tmp_path: Path) -> None:
    """The quantizers take initializers only."""
    write_chain(tmp_path / "net.onnx", even_weights(2))
    model = onnx.load(str(tmp_path / "net.onnx"))
    constants = [onnx.helper.make_node("Constant", [], [each.name], value=each) for each in model.graph.initializer]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(tmp_path / "net.onnx"))
    prepared = prepared_model(ModelQuestion(str(tmp_path / "net.onnx"), tmp_path), tmp_path)
    path = tmp_path / "lowered" / "model.onnx"
    lower(prepared.artifact, Lowering("int8", {}), [], [], path)
    assert lowered_nodes(prepared.artifact.path, path) == {"/layer0/MatMul", "/layer1/MatMul"}


# Faults that are planted into the lowering


class _Deaf(Int8):
    """int8 that quantizes what it is told to leave."""

    def apply(self, source: Path, destination: Path, request: Any) -> None:
        super().apply(source, destination, replace(request, options={}))


def test_an_excluded_layer_that_is_quantized_is_found_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chain(tmp_path / "net.onnx", even_weights(2))
    monkeypatch.setitem(plugins("transforms"), "int8", _Deaf())
    with pytest.raises(StageError, match=r"\+int8 lowered the node /layer1/MatMul, which was to stay"):
        lower(
            Artifact("onnx", tmp_path / "net.onnx", ""),
            Lowering("int8", {}),
            ["/layer1/MatMul"],
            [],
            tmp_path / "out" / "model.onnx",
        )


def test_a_scale_that_is_too_small_saturates_and_is_named(tmp_path: Path) -> None:
    write_chain(tmp_path / "net.onnx", even_weights(3))
    model = prepared_model(ModelQuestion(str(tmp_path / "net.onnx"), tmp_path), tmp_path)
    path = tmp_path / "lowered" / "model.onnx"
    samples = [sample.read() for sample in model.samples]
    lower(model.artifact, Lowering("int8-static", {}), [], samples, path)
    nodes = lowered_nodes(model.artifact.path, path)
    assert [each.name for each in layers_of(model.artifact.path, nodes)] == ["layer0", "layer1", "layer2"]
    good = find_hazards(model.artifact, path, nodes, model.samples, half=False, per_channel=False)
    assert good == ()
    lowered = onnx.load(str(path))
    rounding = next(
        node for node in lowered.graph.node if node.op_type == "QuantizeLinear" and "layer1" in node.input[0]
    )
    (scale,) = (each for each in lowered.graph.initializer if each.name == rounding.input[1])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) / 4, scale.name))
    onnx.save(lowered, str(path))
    (hazard,) = find_hazards(model.artifact, path, nodes, model.samples, half=False, per_channel=False)
    assert (hazard.kind, hazard.node) == ("saturation", "/layer1/MatMul")
    assert hazard.sample in {sample.name for sample in model.samples}
    assert "saturated scale: " in hazard.sentence


def test_nodes_with_slashes_in_their_names_are_written_in_a_target() -> None:
    target = parse_target("file:net+int8?exclude=%2Fhead%2FGemm,a%26b%25/ort-cpu?threads=2")
    assert target.export_options == {"exclude": "/head/Gemm,a&b%"}
    assert parse_target(str(target)) == target
