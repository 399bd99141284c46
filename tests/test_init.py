"""``harness init``: the spec is valid, and all of its cases run. Existing files are never overwritten."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.spec.discovery import load_specs
from tests.compared_models import write_net
from tests.conftest import Call
from tests.scanned_nets import NETS

NET = """
import ctypes
import time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, width=8, wide=False):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.head = nn.Linear(width, classes)

    def forward(self, image):
        return self.head(self.stem(image).mean(dim=(2, 3)))

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids):
        return self.table(ids).mean(dim=1)

class OneImage(nn.Module):
    def forward(self, image):
        return image.reshape(3, 16, 16)

class Several(nn.Module):
    def forward(self, a, b, scale: float = 2.0, doubled: bool = False):
        return (a - b) * scale * (2 if doubled else 1)

class Random(nn.Module):
    def forward(self, x):
        return x + torch.rand(1)

class NoInput(nn.Module):
    def forward(self):
        return torch.ones(3)

class Raises(nn.Module):
    def forward(self, x):
        raise RuntimeError("no input works")

class Crashes(nn.Module):
    def forward(self, x):
        ctypes.string_at(0)

class Leaves(nn.Module):
    def forward(self, x):
        raise SystemExit(3)

class Hangs(nn.Module):
    def forward(self, x):
        time.sleep(600)

def no_module():
    return 3

VALUE = 3
"""


@pytest.fixture
def net(here: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a file of modules to a folder in the working directory; no other test imports its name."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = here / f"of_{here.name}"
    folder.mkdir()
    (folder / "net.py").write_text(NET, encoding="utf-8")
    return f"{folder.name}/net.py"


def read_spec(path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return content


def cases(path: str) -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in read_spec(path)["cases"]}


def test_a_layer_gets_a_spec_that_is_valid_and_passes(harness: Call) -> None:
    result = harness("init", "AvgPool1d")
    progress = "Calling AvgPool1d in a separate process to see what it takes (at most 120 s) ...\n"
    assert (result.code, result.err, result.raw_err) == (0, "", progress)
    assert result.out == (
        "Written: specs/avgpool1d.yaml, specs/harness.schema.json\nNext: harness run specs/avgpool1d.yaml\n"
    )
    assert harness("check", "specs").code == 0
    ran = harness("run", "specs/avgpool1d.yaml", "--targets", "trace/torch-cpu", "--no-latency")
    assert ran.code == 0
    assert {case for case, _ in ran.rows} == {
        f"avgpool1d/{name}" for name in ("as-it-is", "padding", "ceil-mode", "count-include-pad", "any-batch")
    }


def test_a_users_own_module_gets_a_factory_and_the_command_to_run_it(harness: Call, net: str) -> None:
    result = harness("init", f"{net}:Net", "--arg", "classes=5")
    assert result.code == 0, result.err
    assert result.out.splitlines()[1] == "Next: harness run specs/net.yaml --allow-import"
    spec = read_spec("specs/net.yaml")
    assert spec["factory"] == f"{net.removesuffix('.py').replace('/', '.')}:Net"
    assert spec["defaults"] == {"args": {"classes": 5}, "inputs": {"image": {"shape": [2, 3, 8, 8]}}}
    assert cases("specs/net.yaml")["width"]["args"] == {"width": 16}
    assert cases("specs/net.yaml")["any-batch"]["dynamic"] == {"image": {0: "N"}}
    ran = harness(*result.out.splitlines()[1].split()[2:], "--targets", "trace/torch-cpu", "--no-latency")
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 4)


@pytest.mark.parametrize(
    "layer",
    ["BatchNorm2d", "BCELoss", "Bilinear", "Conv2d", "CrossEntropyLoss", "Embedding", "GroupNorm", "LayerNorm",
     "Linear", "LSTM", "MaxPool3d", "PixelShuffle", "ReLU", "ReflectionPad1d", "Softmax", "Unflatten", "Upsample"],
)  # fmt: skip
def test_layers_of_every_kind_get_a_spec(harness: Call, layer: str) -> None:
    result = harness("init", layer, "-o", "one.yaml")
    assert result.code == 0, result.err
    assert "as-it-is" in cases("one.yaml")
    assert load_specs(["one.yaml"]).cases


def test_an_argument_is_varied_together_with_the_one_that_it_needs(harness: Call) -> None:
    harness("init", "Conv1d")
    case = cases("specs/conv1d.yaml")["padding-mode"]
    assert case["args"] == {"padding": 1}
    assert case["matrix"] == {"args.padding_mode": ["reflect", "replicate", "circular"]}


def test_ids_are_integers_and_several_inputs_keep_their_names(harness: Call, net: str) -> None:
    assert harness("init", f"{net}:Tokens", "--input", "int64:2,6").code == 0
    assert read_spec("specs/tokens.yaml")["defaults"]["inputs"] == {
        "ids": {"shape": [2, 6], "dtype": "int64", "fill": {"integers": [0, 9]}}
    }
    assert harness("init", f"{net}:Several", "-o", "specs/two.yaml").code == 0
    assert list(read_spec("specs/two.yaml")["defaults"]["inputs"]) == ["a", "b"]


def test_an_axis_is_dynamic_only_if_other_sizes_work(harness: Call, net: str) -> None:
    assert harness("init", f"{net}:OneImage", "--input", "1,3,16,16").code == 0
    assert set(cases("specs/oneimage.yaml")) == {"as-it-is"}


def test_existing_files_are_not_overwritten(harness: Call, here: Path) -> None:
    (here / "specs").mkdir()
    for name in ("relu.yaml", "harness.schema.json"):
        (here / "specs" / name).write_text("mine", encoding="utf-8")
    refused = harness("init", "ReLU")
    assert (refused.code, refused.err) == (
        2,
        "specs/relu.yaml already exists; name another file, such as -o mine/relu.yaml\n",
    )
    assert harness("init", "ReLU", "-o", "specs/other.yaml").out.startswith("Written: specs/other.yaml\n")
    assert {(here / "specs" / name).read_text() for name in ("relu.yaml", "harness.schema.json")} == {"mine"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Con2d"], "torch.nn has no such layer; did you mean Conv2d?"),
        (["LazyLinear"], "name Linear"),
        (["missing.py:Net"], "missing.py: no such file; name a layer"),
        (["net.py"], "net.py: add the name of the module, as in net.py:Net"),
        (["NET:Sonar"], "has no callable Sonar; it has "),
        (["NET:NoInput"], "NoInput: its forward takes no input; harness needs a module with an input"),
        (["NET:Nat"], "has no callable Nat; did you mean Net?"),
        (["NET:VALUE"], "has no callable VALUE, which is int; name a class or a function"),
        (["NET:no_module"], ":no_module' returned int; it must return an nn.Module\n"),
        (["NET:Net"], "Net needs the argument classes; give it with --arg classes=VALUE"),
        (["NET:Net", "--arg", "classes=5", "--arg", "size=5"], "--arg size: Net has no such argument; it has classes"),
        (["NET:Net", "--arg", "classes"], "not an argument; write NAME=VALUE"),
        (["NET:Net", "--arg", "classes=[1"], "not a YAML value"),
        (["NET:Net", "--arg", "classes=five"], "Net(classes=five): TypeError"),
        (["NET:Net", "--arg", "classes=5", "--input", "3x3"], "--input 3x3: not a shape; write 1,3,224,224"),
        (["NET:Net", "--arg", "classes=5", "--input", "2,4,8,8"], "Net does not accept this input: "),
        (["NET:Raises"], "no input works; give the shape of each input with --input"),
        (["NET:Crashes"], ":Crashes: the process was killed by SIGSEGV; make sure that it can be imported"),
        (["NET:Leaves"], ":Leaves: the code called exit(3); make sure that it can be built and called in Python"),
        (["NET:Hangs", "--timeout", "1"], ":Hangs: not done after 1 s; --timeout sets the limit"),
        (["NET:Random"], "the module is stochastic, so its outputs cannot be compared; write its spec by hand"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_advice(harness: Call, net: str, arguments: list[str], message: str) -> None:
    refused = harness("init", *(word.replace("NET", net) for word in arguments))
    assert refused.code == 2
    assert message in refused.err
    assert len(refused.err.splitlines()) == 1
    assert not Path("specs").exists()


def test_recurrent_layers_get_sequences_every_argument_and_an_initial_state(harness: Call) -> None:
    assert harness("init", "LSTM", "-o", "lstm.yaml").code == 0
    assert read_spec("lstm.yaml")["defaults"]["inputs"] == {"input": {"shape": [5, 2, 8]}}
    found = cases("lstm.yaml")
    assert set(found) == {"as-it-is", "num-layers", "bias", "batch-first", "bidirectional", "proj-size", "hx"}
    assert found["hx"]["inputs"] == {"hx": [{"shape": [1, 2, 5]}, {"shape": [1, 2, 5]}]}
    ran = harness("run", "lstm.yaml", "--targets", "trace/torch-cpu", "--no-latency")
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 7)


def test_attention_gets_masks_that_have_an_effect(harness: Call) -> None:
    assert harness("init", "MultiheadAttention", "-o", "mha.yaml").code == 0
    found = cases("mha.yaml")
    last = [False, False, False, False, True]
    assert found["key-padding-mask"]["inputs"] == {"key_padding_mask": {"values": [last, last], "dtype": "bool"}}
    assert found["attn-mask"]["inputs"]["attn_mask"]["values"][0] == [False, True, True, True, True]
    assert found["need-weights"]["forward"] == {"need_weights": False}
    assert "is-causal" not in found, "it says something about a mask, and there is none"
    ran = harness("run", "mha.yaml", "-k", "mask", "--targets", "trace/torch-cpu", "--no-latency")
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 2)


def test_token_ids_come_from_the_whole_vocabulary_and_masks_are_tried(harness: Call, here: Path) -> None:
    (here / "net.py").write_text(NETS, encoding="utf-8")
    assert harness("init", "net.py:Decoder", "--arg", "depth=1").code == 0
    assert read_spec("specs/decoder.yaml")["defaults"]["inputs"] == {
        "input_ids": {"shape": [2, 8], "dtype": "int64", "fill": {"integers": [0, 49]}}
    }
    mask = cases("specs/decoder.yaml")["attention-mask"]["inputs"]["attention_mask"]
    assert mask["dtype"] == "bool"


def test_inputs_come_from_a_file(harness: Call, net: str, here: Path) -> None:
    np.savez(here / "batch.npz", a=np.ones((2, 3), "float32"), b=np.zeros((2, 3), "float32"))
    result = harness("init", f"{net}:Several", "--inputs", "batch.npz")
    assert result.code == 0, result.err
    assert read_spec("several.yaml")["defaults"]["inputs"] == {
        "a": {"file": "batch.npz", "key": "a", "dtype": "float32"},
        "b": {"file": "batch.npz", "key": "b", "dtype": "float32"},
    }
    ran = harness("run", "several.yaml", "--allow-import", "--targets", "trace/torch-cpu", "--no-latency")
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 2)
    assert cases("several.yaml")["doubled"]["forward"] == {"doubled": True}
    refused = harness("init", f"{net}:Several", "--inputs", "batch.npz", "-o", "specs/several.yaml")
    assert "leads out of the folder specs; put the file itself there, or write the spec beside it" in refused.err
    np.savez(here / "short.npz", a=np.ones((2, 3), "float32"), b=np.ones((5, 4), "float32"))
    refused = harness("init", f"{net}:Several", "--inputs", "short.npz", "-o", "short.yaml")
    assert "Several does not accept these inputs: " in refused.err


def test_a_model_file_gets_a_spec_of_its_own(harness: Call, here: Path) -> None:
    write_net(here)
    result = harness("init", "net.onnx", "-o", "onnx.yaml")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "Next: harness run onnx.yaml"
    spec = read_spec("onnx.yaml")
    assert (spec["file"], spec["defaults"]["files"]) == ("net.onnx", {"model": "net.onnx"})
    assert spec["defaults"]["inputs"] == {"x": {"shape": [3, 3, 8, 8]}}
    assert cases("onnx.yaml")["other-sizes"]["inputs"] == {"x": {"shape": [1, 3, 8, 8]}}
    ran = harness("run", "onnx.yaml", "--no-latency")
    assert {key: row["status"] for key, row in ran.rows.items()} == {
        ("onnx/as-it-is", "file:model/ort-cpu"): "passed", ("onnx/other-sizes", "file:model/ort-cpu"): "passed",
    }  # fmt: skip
    result = harness("init", "net.jit", "--input", "1,3,8,8", "-o", "jit.yaml")
    assert (result.code, "--allow-import" in result.out) == (0, True)
    assert harness("run", "jit.yaml", "--allow-import", "--no-latency").only["status"] == "passed"
    for words, message in {
        ("net.jit",): "x: no shape is declared; give --input 1,3,224,224, or --inputs FILE\n",
        ("net.onnx", "--input", "1,4,4,4"): "x has shape [1, 4, 4, 4], and net.onnx takes x float32[N, 3, 8, 8]\n",
        ("net.onnx", "--arg", "a=1"): "--arg: net.onnx is a file, which has its own arguments; remove it\n",
        ("weights.pt",): "weights.pt: holds weights, not a model",
    }.items():
        refused = harness("init", *words, "-o", "refused.yaml")
        assert refused.code == 2
        assert message in refused.err
        assert not (here / "refused.yaml").exists()
