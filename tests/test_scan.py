"""``harness scan``: a case for each layer configuration, what is not covered, and a spec that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from harness.scaffold.scan.spelling import layer_arguments
from tests.conftest import Call
from tests.scanned_nets import NETS


@pytest.fixture
def nets(here: Path) -> Path:
    (here / "net.py").write_text(NETS, encoding="utf-8")
    return here


def cases(path: str) -> dict[str, dict[str, Any]]:
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return {case["name"]: case for case in content["cases"]}


@pytest.mark.usefixtures("nets")
def test_a_transformer_gets_a_case_for_each_configuration_and_says_what_is_not_covered(harness: Call) -> None:
    ran = harness("scan", "net.py:Decoder", "-o", "layers.yaml")
    assert ran.code == 0, ran.err
    found = cases("layers.yaml")
    assert {name: case["count"] for name, case in found.items()} == {
        "embedding": 1, "rmsnorm-1": 6, "linear-1": 12, "linear-2": 3, "gelu": 3, "linear-3": 3, "rmsnorm-2": 1,
        "linear-4": 1,
    }  # fmt: skip
    assert found["embedding"]["inputs"]["input"]["fill"] == {"integers": [0, 49]}
    assert found["gelu"]["args"] == {"approximate": "tanh"}
    assert found["gelu"]["about"] == "3 calls: blocks.0.mlp.1, blocks.1.mlp.1, blocks.2.mlp.1"
    assert (found["rmsnorm-2"]["factory"], found["rmsnorm-2"]["args"]) == ("net.py:RMSNorm", {"width": 8, "eps": 1e-5})
    assert "blocks.2.attention.o" in Path("layers.yaml").read_text()
    attention = next(line for line in ran.out.splitlines() if "scaled_dot_product_attention" in line)
    place = 1 + next(at for at, line in enumerate(NETS.splitlines()) if "scaled_dot" in line)
    assert f"3 calls: a function, not a layer; net.py:{place} in blocks.0.attention" in attention
    assert "Scaled, 1 call: its argument config is of type Config, which a spec cannot write; scaled" in ran.out
    assert "factory: net.py:RMSNorm would run code" in harness("check", "layers.yaml").err
    assert harness("check", "layers.yaml", "--allow-import").code == 0


@pytest.mark.usefixtures("nets")
def test_layers_of_torchs_own_need_no_consent_and_their_spec_runs(harness: Call) -> None:
    ran = harness("scan", "net.py:Resnet", "--shape", "image=1,3,32,32", "-o", "layers.yaml")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0] == "net.py:Resnet: 18 calls of layers, 9 configurations"
    assert "flatten, 1 call: a function" in ran.out
    found = cases("layers.yaml")
    assert found["conv2d-2"] == {
        "name": "conv2d-2",
        "about": "4 calls: body.0.conv1, body.0.conv2, body.1.conv1, body.1.conv2",
        "count": 4,
        "layer": "Conv2d",
        "args": {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1, "bias": False},
        "inputs": {"input": {"shape": [1, 4, 8, 8], "fill": found["conv2d-2"]["inputs"]["input"]["fill"]}},
    }
    assert "fill" not in found["conv2d-1"]["inputs"]["input"], "an image has values of both signs"
    assert list(found["conv2d-2"]["inputs"]["input"]["fill"]) == ["uniform"], "what a ReLU returns is not negative"
    assert found["relu-1"]["args"] == {"inplace": True}
    ran = harness("run", "layers.yaml", "--targets", "trace/torch-cpu", "--no-latency")
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 9)


@pytest.mark.usefixtures("nets")
def test_attention_recurrence_and_copied_layers_are_called_as_the_model_calls_them(harness: Call) -> None:
    ran = harness("scan", "net.py:Composed", "-o", "layers.yaml")
    assert ran.code == 0, ran.err
    found = cases("layers.yaml")
    assert list(found) == ["multiheadattention", "transformerencoderlayer", "lstm", "avgpool1d"]
    (attention,) = found["multiheadattention"]["graph"]
    assert attention["in"] == ["query", "query", "query"]
    assert attention["forward"] == {"need_weights": False}
    assert found["transformerencoderlayer"]["count"] == 2
    assert [list(each["fill"]) for each in found["lstm"]["inputs"]["hx"]] == [["full"], ["full"]]
    assert found["avgpool1d"]["inputs"]["input"]["layout"] == "strided"
    ran = harness("run", "layers.yaml", "--targets", "trace/torch-cpu", "--no-latency")
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 4)


@pytest.mark.usefixtures("nets")
def test_a_layer_that_its_arguments_do_not_make_again_has_no_case(harness: Call) -> None:
    ran = harness("scan", "net.py:Changed", "--shape", "x=1,2,4,4", "-o", "layers.yaml")
    assert ran.code == 0, ran.err
    assert "Unknown, 1 call: built again from its arguments, it gives other outputs; unknown" in ran.out
    assert "RecursiveScriptModule, 1 call: it is TorchScript, whose class and arguments are not kept; script" in ran.out
    assert "functional.linear, 1 call: a function, not a layer; torch/nn/modules/linear.py:" in ran.out
    assert cases("layers.yaml")["avgpool2d"]["args"] == {"kernel_size": 2, "divisor_override": 5}


@pytest.mark.usefixtures("nets")
def test_counts_and_times_are_set_beside_the_whole_model(harness: Call) -> None:
    np.savez("batch.npz", features=np.ones((2, 6), "float32"), bias=np.ones(3, "float32"))
    words = ("--args", "{classes: 3}", "--inputs", "batch.npz", "--whole")
    scanned = harness("scan", "net.py:Classifier", *words, "-o", "layers.yaml")
    assert scanned.code == 0, scanned.err
    assert "input  bias float32[3], from batch.npz" in scanned.out
    assert list(cases("layers.yaml")) == ["linear", "relu", "whole-model"]
    ran = harness("run", "layers.yaml", "--allow-import", "--targets", "trace/torch-cpu")
    assert ran.code == 0, ran.out
    assert {case: row["count"] for (case, _), row in ran.rows.items()} == {
        "layers/linear": 1, "layers/relu": 2, "layers/whole-model": None,
    }  # fmt: skip
    us = {case: row["latency"]["median_us"] for (case, _), row in ran.rows.items()}
    total = us["layers/linear"] + 2 * us["layers/relu"]
    table = [line.split() for line in ran.out.splitlines()]
    assert ["sum", "of", "the", "layers", f"{total:.3g}"] in table
    assert ["whole-model", "(the", "model)", f"{us['layers/whole-model']:.3g}"] in table
    assert next(line for line in table if line[:1] == ["relu"])[:3] == ["relu", "2", f"{2 * us['layers/relu']:.3g}"]
    assert "sum of the layers" in Path("reports/latest/report.md").read_text()
    assert json.loads(Path("reports/latest/report.json").read_text())["results"][1]["count"] == 2


@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["net.onnx"], ["net.onnx: a file does not say of which layers it was made; name path/to/file.py:callable"]),
        (["net.py", "--shape", "x"], ["--shape x: not a shape", "net.py: not a callable"]),
        (["net.py:needs"], ["needs classes(classes); give them with --args '{classes: ...}'"]),
        (["net.py:Fails"], ["net.py:Fails does not accept any of the guessed inputs for x: not today; give --shape"]),
        (["net.py:Resnet", "--shape", "photo=1,3,8,8"], ["--shape photo: no input has this name; the inputs are"]),
        (["net.py:Resnet", "--shape", "image=1,4,8,8"], ["does not accept this input: "]),
        (["net.py:Resnet", "--inputs", "absent.npz"], ["absent.npz: no such file"]),
        (["net.py:Functional"], ["no layer has a case", "functional.relu, 1 call: a function, not a layer; net.py:"]),
        (["net.py:absent"], ["has no attribute 'absent'"]),
    ],
)  # fmt: skip
def test_a_wrong_request_writes_nothing(harness: Call, words: list[str], messages: list[str]) -> None:
    ran = harness("scan", *words, "-o", "layers.yaml")
    assert ran.code == 2
    for message in messages:
        assert message in ran.err
    assert "Traceback" not in ran.err
    assert not Path("layers.yaml").exists()


def test_a_spec_is_not_overwritten_and_names_no_file_outside_its_folder(harness: Call, nets: Path) -> None:
    (nets / "there.yaml").write_text("mine")
    refused = harness("scan", "net.py:Resnet", "-o", "there.yaml")
    assert (refused.code, refused.err) == (2, "-o there.yaml: already exists; name another file\n")
    refused = harness("scan", "net.py:Decoder", "-o", "below/layers.yaml")
    assert refused.code == 2
    assert "-o below/layers.yaml: ../net.py: a path that leads out of the folder" in refused.err
    assert not (nets / "below").exists()


LAYERS = [
    (nn.AvgPool2d(3, 1, 1, divisor_override=5), {"kernel_size": 3, "stride": 1, "padding": 1, "divisor_override": 5}),
    (nn.Conv2d(2, 4, (3, 5), padding="same", padding_mode="reflect", groups=2),
     {"in_channels": 2, "out_channels": 4, "kernel_size": [3, 5], "padding": "same", "groups": 2,
      "padding_mode": "reflect"}),
    (nn.BatchNorm2d(4, affine=False, momentum=None), {"num_features": 4, "momentum": None, "affine": False}),
    (nn.LayerNorm(8, bias=False), {"normalized_shape": 8, "bias": False}),
    (nn.GRU(3, 2, 2, bias=False), {"input_size": 3, "hidden_size": 2, "num_layers": 2, "bias": False}),
    (nn.RNNCell(3, 2, nonlinearity="relu"), {"input_size": 3, "hidden_size": 2, "nonlinearity": "relu"}),
    (nn.MultiheadAttention(8, 2, bias=False, add_bias_kv=True, kdim=4),
     {"embed_dim": 8, "num_heads": 2, "bias": False, "add_bias_kv": True, "kdim": 4}),
    (nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", norm_first=True),
     {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "activation": "gelu", "norm_first": True}),
    (nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10]), {"in_features": 16, "n_classes": 20, "cutoffs": [5, 10]}),
    (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), reduction="sum"),
     {"weight": {"values": [1.0, 2.0], "dtype": "float32"}, "reduction": "sum"}),
    (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
     {"scale_factor": 2.0, "mode": "bilinear", "align_corners": True}),
    (nn.PReLU(), {}),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "arguments"), LAYERS, ids=lambda each: type(each).__name__)
def test_the_arguments_of_a_layer_are_those_that_differ_from_the_defaults(
    layer: nn.Module, arguments: dict[str, Any]
) -> None:
    assert layer_arguments(layer) == arguments
