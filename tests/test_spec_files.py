"""Inputs, samples, weights and expectations from files, and what is said about files that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from harness.spec.model_files import stored_model
from tests.conftest import Call

Spec = Callable[[str, str], Path]
X = np.array([[-1.0, 2.0, -3.0]], np.float32)
QUICK = ("--no-latency", "--targets", "trace/torch-cpu,onnx-torchscript@17/ort-cpu")


def case(text: str) -> str:
    return f"harness: 1\ncases:\n  - {{name: case, {text}}}\n"


@pytest.fixture
def relu(spec: Spec) -> Callable[[str], Path]:
    return lambda text: spec("relu.yaml", case(f"layer: ReLU, {text}"))


def test_an_input_and_an_expectation_come_from_a_file(harness: Call, relu: Callable[[str], Path], here: Path) -> None:
    text = "inputs: {x: {file: data/batch.npz, key: x}}, expect: {outputs: [{file: data/batch.npz, key: y}]}"
    path = relu(text)
    (path.parent / "data").mkdir()
    np.savez(path.parent / "data" / "batch.npz", x=X, y=np.maximum(X, 0))
    ran = harness("run", "specs", *QUICK)
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 2)
    np.savez(path.parent / "data" / "batch.npz", x=X, y=X)
    ran = harness("run", "specs", *QUICK)
    assert ran.code == 1
    assert {row["blame"] for row in ran.report["results"]} == {"spec"}


def test_whole_numbers_keep_their_dtype_and_floats_take_the_cases(harness: Call, spec: Spec) -> None:
    path = spec(
        "e.yaml", case("layer: Embedding, args: {num_embeddings: 9, embedding_dim: 2}, inputs: {x: {file: a.npy}}")
    )
    np.save(path.parent / "a.npy", np.array([[1, 8]]))
    assert harness("run", "specs", *QUICK).code == 0
    spec("e.yaml", case("layer: ReLU, inputs: {x: {file: b.npy}}"))
    np.save(path.parent / "b.npy", X.astype(np.float64))
    ran = harness("run", "specs", *QUICK)
    assert (ran.code, ran.report["results"][0]["outputs"][0]["dtype"]) == (0, "float32")


def test_every_sample_is_a_set_of_inputs_and_a_wrong_one_is_named(harness: Call, spec: Spec, here: Path) -> None:
    # The trace keeps the branch of the first sample; only the last one takes the other branch.
    (here / "nets.py").write_text(
        "from torch import nn\n\n\nclass Branch(nn.Module):\n"
        "    def forward(self, x):\n        return x * 2 if float(x.sum()) > 0 else x - 1\n"
    )
    path = spec("nets.yaml", case("factory: 'nets:Branch', samples: data/*.npz"))
    (path.parent / "data").mkdir()
    for number, sign in ((2, 1), (9, 1), (10, -1)):
        np.savez(path.parent / "data" / f"{number}.npz", x=np.full(3, sign * number, np.float32))
    listed = harness("list", "specs", "--allow-import").out
    assert "nets/case  (2 further samples)" in listed
    ran = harness("run", "specs", "--allow-import", "--no-latency", "--targets", "trace/torch-cpu")
    assert ran.code == 1
    assert "sample 10.npz" in ran.only["message"]
    assert [row["at"] for row in ran.only["outputs"]] == [None, "sample 9.npz", "sample 10.npz"]


def test_samples_that_do_not_fit_are_all_named(harness: Call, relu: Callable[[str], Path]) -> None:
    folder = relu("inputs: {x: {shape: [1, 3]}}, samples: '*.npz'").parent
    np.savez(folder / "a.npz", x=X, labels=np.ones(1))
    np.savez(folder / "b.npz", x=X.T)
    np.savez(folder / "c.npz", x=np.array([None]))
    np.savez(folder / "d.npz", x=X)
    ran = harness("check", "specs")
    assert ran.code == 2
    lines = ran.err.splitlines()
    assert len(lines) == 3
    assert "a.npz: it holds x, labels, and the inputs are x" in lines[0]
    assert "b.npz: x has shape [3,1], the case's own [1,3]" in lines[1]
    assert "c.npz: x holds pickled objects" in lines[2]
    assert all(line.startswith("specs/relu.yaml:3:") for line in lines)


def test_samples_may_differ_along_dynamic_axes(harness: Call, relu: Callable[[str], Path]) -> None:
    folder = relu("samples: '*.npz', dynamic: {x: {0: N}}").parent
    for size in (2, 5):
        np.savez(folder / f"{size}.npz", x=np.ones((size, 3), np.float32))
    ran = harness("run", "specs", "--no-latency", "--targets", "onnx-torchscript@17/ort-cpu")
    assert ran.code == 0
    assert [5, 3] in [output["shape"] for output in ran.only["outputs"]]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ("{file: none.npz}", "none.npz: no such file beside the spec"),
        ("{file: batch.npz}", "holds 2 arrays; choose one with `key`: x, y"),
        ("{file: batch.npz, key: z}", "no array 'z'; it holds x, y"),
        ("{file: ../../out.npz, key: x}", "a path that leads out of the folder specs"),
        ("{file: /etc/passwd}", "a path that leads out of the folder specs"),
        ("{file: link.npz, key: x}", "a link that leads out of the folder specs"),
        ("{file: batch.npz, key: x, shape: [1]}", "shape: the tensor also has a file"),
        ("{key: x, shape: [1]}", "key: the tensor has no file"),
        ("{file: batch.npz, key: words}", "no array 'words'"),
        ("{file: words.npy}", "dtype str"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_its_place(
    harness: Call, relu: Callable[[str], Path], here: Path, tensor: str, message: str
) -> None:
    path = relu(f"inputs: {{x: {tensor}}}")
    np.savez(path.parent / "batch.npz", x=X, y=X)
    np.save(path.parent / "words.npy", np.array(["a"]))
    np.savez(here / "out.npz", x=X)
    (path.parent / "link.npz").symlink_to(here / "out.npz")
    ran = harness("check", "specs")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert line.startswith("specs/relu.yaml:3:")
    assert message in line


def test_a_changed_file_is_checked_again(harness: Call, relu: Callable[[str], Path]) -> None:
    path = relu("inputs: {x: {file: a.npy}}").parent / "a.npy"
    run = ("run", "specs", "--no-latency", "--targets", "onnx-torchscript@17/ort-cpu")

    def worst() -> Any:
        ran = harness(*run, "--resume")
        assert ran.code == 0
        return ran.only["artifact"], ran.only["outputs"][0]["shape"]

    np.save(path, X)
    first = worst()
    np.save(path, np.ones((1, 3), np.float32))
    assert worst()[1] == first[1]
    np.save(path, np.ones((1, 2), np.float32))
    assert worst()[1] == [1, 2]


def test_weights_come_from_a_file(harness: Call, spec: Spec) -> None:
    folder = spec("linear.yaml", "").parent
    net = nn.Linear(3, 2)
    torch.save({"epoch": 3, "state_dict": net.state_dict()}, folder / "checkpoint.pt")
    torch.save(net.state_dict(), folder / "net.pt")
    expected = net(torch.from_numpy(X)).tolist()
    layer = "layer: Linear, args: {in_features: 3, out_features: 2}, inputs: {x: {values: [[-1, 2, -3]]}}"
    for weights in ("net.pt", "{file: net.pt}", "{file: checkpoint.pt, key: state_dict}"):
        spec("linear.yaml", case(f"{layer}, weights: {weights}, expect: {{outputs: [{{values: {expected}}}]}}"))
        ran = harness("run", "specs", *QUICK)
        assert (ran.code, ran.report["summary"]["passed"]) == (0, 2), weights
    spec("linear.yaml", case(f"{layer}, weights: {{file: checkpoint.pt, key: model}}"))
    ran = harness("run", "specs", *QUICK)
    assert ran.code == 2
    assert "no tensors below 'model'; it holds state_dict" in ran.err


TIED = """
from torch import nn


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, block = nn.Linear(3, 3), nn.Linear(3, 3)
        self.blocks = nn.Sequential(block, nn.BatchNorm1d(3), block)
        self.last = nn.Linear(3, 3, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(self.blocks(self.first(x)))
"""


@pytest.mark.parametrize("left_out", [(), ("first.weight", "blocks.0.bias")])
def test_a_tensor_with_several_names_comes_under_all_or_one_of_them(
    harness: Call, spec: Spec, here: Path, left_out: tuple[str, ...]
) -> None:
    (here / "nets.py").write_text(TIED, encoding="utf-8")
    code: dict[str, Any] = {}
    exec(TIED, code)
    net = code["Tied"]().eval()
    expected = net(torch.from_numpy(X)).tolist()
    state = {name: values for name, values in net.state_dict().items() if name not in left_out}
    text = f"factory: nets:Tied, inputs: {{x: {{values: {X.tolist()}}}}}, expect: {{outputs: [{{values: {expected}}}]}}"
    path = spec("tied.yaml", case(f"{text}, weights: net.pt"))
    torch.save(state, path.parent / "net.pt")
    ran = harness("run", "specs", "--allow-import", *QUICK)
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 2), ran.out
    del state["last.weight"], state["blocks.2.bias"]
    torch.save({**state, "first.bias": torch.ones(4)}, path.parent / "net.pt")
    refused = harness("run", "specs", "--allow-import", *QUICK)
    assert refused.code == 2
    assert ("missing: first.weight, blocks.0.bias, blocks.2.bias, last.weight" in refused.err) == bool(left_out)
    assert "of another shape: first.bias [4] for [3]" in refused.err


def test_weights_that_do_not_fit_are_all_listed(harness: Call, spec: Spec) -> None:
    layer = "layer: BatchNorm1d, args: {num_features: 3}, inputs: {x: {shape: [2, 3]}}"
    path = spec("norm.yaml", case(f"{layer}, weights: net.pt"))
    state = nn.BatchNorm1d(3).state_dict()
    del state["running_mean"]
    del state["num_batches_tracked"]
    torch.save(
        {**state, "weight": torch.ones(4), "wieght": torch.ones(3), "other": torch.ones(1)}, path.parent / "net.pt"
    )
    for command in (("check", "specs"), ("run", "specs", *QUICK)):
        ran = harness(*command)
        assert (ran.code, ran.out) == (2, "")
        (message,) = ran.err.splitlines()
        assert message.startswith("specs/norm.yaml:3:5: weights: net.pt does not fit the model; ")
        assert "missing: running_mean, num_batches_tracked" in message
        assert "unknown to the model: wieght, other" in message
        assert "of another shape: weight [4] for [3]" in message


VALUES = """
import torch
from torch import nn


class Net(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
        self.scale = float(torch.ones(1))
"""


def test_a_model_that_needs_values_to_be_built_is_left_to_its_check(harness: Call, spec: Spec, here: Path) -> None:
    text = "inputs: {x: {shape: [1, 3]}}, weights: net.pt"
    path = spec("net.yaml", case(f"factory: net.py:Net, {text}"))
    (path.parent / "net.py").write_text(VALUES, encoding="utf-8")
    torch.save({"weight": torch.ones(2, 3)}, path.parent / "net.pt")
    assert harness("check", "specs", "--allow-import").code == 0
    ran = harness("run", "specs", "--allow-import", *QUICK)
    assert ran.code == 1
    assert "missing: bias" in ran.report["results"][0]["message"]


def test_files_that_are_no_models_are_all_told_before_anything_runs(harness: Call, spec: Spec, here: Path) -> None:
    bad = {
        "text.onnx": "not an ONNX model",
        "cut.onnx": "a truncated ONNX model",
        "tail.onnx": "a truncated ONNX model",
    }
    bad |= {"empty.onnx": "an empty file is no model", "weights.onnx": "not an ONNX model: it has no graph"}
    bad |= {"net.pt": "a pickle that runs code when it is loaded", "../out.onnx": "a path that leads out of the folder"}
    lines = [f"  - {{name: c{at}, file: {name}, inputs: {{x: {{shape: [1]}}}}}}" for at, name in enumerate(bad)]
    lines.append("  - {name: tested, layer: ReLU, inputs: {x: {shape: [1]}}, files: {a: cut.onnx}}")
    folder = spec("bad.yaml", "harness: 1\ncases:\n" + "\n".join(lines)).parent
    content = relu_model().SerializeToString()
    for name, size in (("cut.onnx", 20), ("tail.onnx", len(content) - 1)):
        (folder / name).write_bytes(content[:size])
    (folder / "text.onnx").write_text("no model\n", encoding="utf-8")
    (folder / "empty.onnx").touch()
    (folder / "weights.onnx").write_bytes(b"\x08\x08")
    (here / "out.onnx").write_bytes(content)
    torch.save(nn.ReLU(), folder / "net.pt")
    for command in (("check", "specs"), ("run", "specs", "--no-latency")):
        ran = harness(*command)
        assert ran.code == 2
        told = ran.err.splitlines()
        assert len(told) == len(bad) + 1
        for at, (line, (name, message)) in enumerate(zip(told, bad.items(), strict=False)):
            assert line.startswith(f"specs/bad.yaml:{at + 3}:"), line
            assert f"{name}: {message}" in line
        assert told[-1].startswith("specs/bad.yaml:10:")
        assert "cut.onnx: a truncated ONNX model" in told[-1]


def relu_model() -> onnx.ModelProto:
    """A model of one node."""
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", value[:1], value[1:])
    return onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])


def test_a_whole_onnx_file_of_any_kind_is_taken(tmp_path: Path) -> None:
    model = relu_model()
    model.doc_string, model.producer_name = "a" * 300, "tests"
    model.metadata_props.add(key="k", value="v")
    onnx.save(model, tmp_path / "relu.onnx")
    assert stored_model(tmp_path / "relu.onnx").format == "onnx"


def test_weights_that_run_code_are_refused(harness: Call, relu: Callable[[str], Path]) -> None:
    path = relu("inputs: {x: {shape: [3]}}, weights: net.pt")
    torch.save(nn.ReLU(), path.parent / "net.pt")
    ran = harness("check", "specs")
    assert ran.code == 2
    assert "torch.save(model.state_dict(), 'net.pt')" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_script_holds_the_values_of_small_files(harness: Call, spec: Spec, here: Path) -> None:
    layer = "layer: AvgPool2d, args: {kernel_size: 2, divisor_override: 3}"
    path = spec("pool.yaml", case(f"{layer}, inputs: {{x: {{file: a.npy}}}}"))
    run = ("run", "specs", "--no-latency", "--targets", "onnx-torchscript@17/ort-cpu")
    np.save(path.parent / "a.npy", np.full((1, 1, 2, 2), 0.625, np.float32))
    assert "0.625, 0.625" in harness(*run).only["reproduction"]
    np.save(path.parent / "a.npy", np.ones((1, 1, 80, 80), np.float32))
    row = harness(*run).only
    assert (row["status"], row["reproduction"]) == ("failed", None)


def test_a_bundle_carries_the_data_of_its_cases(harness: Call, relu: Callable[[str], Path], here: Path) -> None:
    folder = relu("samples: '*.npz'").parent
    for number in (1, 2):
        np.savez(folder / f"{number}.npz", x=X * number)
    assert harness("pack", "specs", "-o", "bundle", "--targets", "onnx-torchscript@17/ort-cpu").code == 0
    for path in folder.iterdir():
        path.unlink()
    ran = harness("run", "bundle", "--no-latency")
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 1)
    assert "sample 2.npz" in str(ran.only["outputs"])
