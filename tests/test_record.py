"""``harness record``: what it writes, that the result can be verified without the model, and every mistake at once."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from harness.data_files.onnx_files import to_array
from tests.compared_models import NET, Net, changed, two_by_two, with_converted_input, with_other_weight
from tests.conftest import Call, Ran

QUIET = "--no-latency"
NOISY = "\n\nclass Noisy(nn.Module):\n    def forward(self, x):\n        return x + torch.rand_like(x)\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    (folder / "net.py").write_text(NET + NOISY, encoding="utf-8")
    torch.manual_seed(7)
    net, x = Net().eval(), torch.randn(2, 3, 8, 8)
    torch.save(net.state_dict(), folder / "weights.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), folder / "fixed.onnx", dynamo=False, input_names=["x"], output_names=["y"])
        torch.jit.save(torch.jit.script(net), folder / "net.jit")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "net.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(folder / "fixed.onnx"), options, providers=["CPUExecutionProvider"])
    changed(folder, with_other_weight, "off.onnx")
    changed(folder, with_converted_input(TensorProto.FLOAT16), "half.onnx")
    return folder


@pytest.fixture
def nets(made: Path, here: Path) -> Path:
    """The working directory, with the files."""
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here


def statuses(ran: Ran) -> dict[str, str]:
    return {row["case"]: row["status"] for row in ran.report["results"]}


def read(folder: Path, kind: str) -> list[np.ndarray]:
    """The first input or output of every data set."""
    tensors = []
    for file in sorted(folder.glob(f"test_data_set_*/{kind}_0.pb")):
        tensor = TensorProto()
        tensor.ParseFromString(file.read_bytes())
        tensors.append(to_array(tensor))
    return tensors


def test_a_file_and_its_variants_share_their_data(harness: Call, nets: Path) -> None:
    made = harness("record", "fixed.onnx", "net.ort", "off.onnx", "--targets", "+fp16", "-o", "recorded")
    assert made.code == 0, made.err
    assert "Recorded: fixed.onnx, 2 data sets" in made.out
    assert "x float32[2, 3, 8, 8], drawn" in made.out
    assert sorted(path.name for path in (nets / "recorded").iterdir()) == [
        "data.json",
        "model.onnx",
        "test_data_set_0",
        "test_data_set_1",
        "variants",
    ]
    for name in ("fixed.onnx", "net.ort", "off.onnx", "net.py"):
        (nets / name).unlink()
    ran = harness("run", "recorded", QUIET)
    assert ran.code == 1
    assert statuses(ran) == {
        "recorded": "passed",
        "recorded[model=fp16]": "passed",
        "recorded[model=net]": "passed",
        "recorded[model=off]": "failed",
    }
    assert "harness explain 'recorded[model=off]' --target file/ort-cpu recorded\n" in ran.out
    off = next(row for row in ran.report["results"] if row["case"] == "recorded[model=off]")
    assert off["blame"] == "exporter"
    assert "computes something else than the model that the data was recorded with" in off["evidence"][-1]
    one = harness("run", "recorded", QUIET, "-k", "recorded[model=net]", "--targets", "openvino")
    assert (one.code, "which is a model file in ONNX Runtime's own format" in one.err) == (2, True)


def test_a_variant_takes_the_data_in_its_own_dtype(harness: Call, nets: Path) -> None:
    made = harness("record", "fixed.onnx", "half.onnx", "--draws", "1", "--tolerance", "{atol: 0.01}", "-o", "recorded")
    assert made.code == 0, made.err
    ran = harness("run", "recorded", QUIET)
    assert statuses(ran) == {"recorded": "passed", "recorded[model=half]": "passed"}
    half = ran.rows["recorded[model=half]", "file/ort-cpu"]
    assert any("converted from float32 to float16 for model.onnx" in note for note in half["notes"])
    assert half["outputs"][0]["max_abs"] > 0


def test_a_module_is_exported_and_held_to_eager_torch(harness: Call, nets: Path) -> None:
    options = ("--weights", "weights.pt", "--shape", "x=2,3,9,9", "--draws", "1")
    exporters = "onnx-torchscript@17,onnx-torchscript@13"
    made = harness("record", "net.py:Net", *options, "--targets", exporters, "-o", "recorded")
    assert made.code == 0, made.err
    net = Net().eval()
    net.load_state_dict(torch.load(nets / "weights.pt"))
    (x,), (y,) = (read(nets / "recorded", kind) for kind in ("input", "output"))
    assert x.shape == (2, 3, 9, 9)
    with torch.no_grad():
        assert np.array_equal(y, net(torch.from_numpy(x.copy())).numpy())
    opset = onnx.load(nets / "recorded/variants/onnx-torchscript-13/model.onnx").opset_import[0].version
    assert opset == 13
    assert statuses(harness("run", "recorded", QUIET)) == {
        "recorded": "passed",
        "recorded[model=onnx-torchscript-13]": "passed",
    }


def test_torchscript_on_your_own_data_with_a_tolerance(harness: Call, nets: Path) -> None:
    (nets / "samples").mkdir()
    values = [np.full((2, 3, 8, 8), number, np.float32) for number in range(3)]
    for number, x in enumerate(values):
        np.savez(nets / "samples" / f"{number}.npz", x=x)
    options = ("--inputs", "samples", "--tolerance", "{rtol: 1e-3, atol: 1e-4}")
    made = harness("record", "net.jit", *options, "-o", "recorded")
    assert made.code == 0, made.err
    assert all(map(np.array_equal, read(nets / "recorded", "input"), values))
    ran = harness("run", "recorded", QUIET)
    assert (ran.code, ran.only["outputs"][0]["tolerance"]) == (0, "rtol 0.001 + atol 0.0001")


def test_a_folder_is_replaced_only_on_request_and_only_if_it_is_a_recording(harness: Call, nets: Path) -> None:
    made = ("record", "fixed.onnx", "--draws", "1", "-o")
    assert harness(*made, "recorded").code == 0
    before = (nets / "recorded/test_data_set_0/output_0.pb").read_bytes()
    refused = harness(*made, "recorded")
    assert (refused.code, "already exists; pass --replace to replace it" in refused.err) == (2, True)
    (nets / "mine").mkdir()
    (nets / "mine" / "thesis.txt").write_text("years of work")
    refused = harness(*made, "mine", "--replace")
    assert (refused.code, "holds something else than a recording" in refused.err) == (2, True)
    failed = harness("record", "fixed.onnx", "--shape", "y=1", "-o", "recorded", "--replace")
    assert failed.code == 2
    assert (nets / "recorded/test_data_set_0/output_0.pb").read_bytes() == before
    assert harness("record", "off.onnx", "--draws", "1", "-o", "recorded", "--replace").code == 0
    assert (nets / "recorded/test_data_set_0/output_0.pb").read_bytes() != before
    assert sorted(path.name for path in nets.glob(".*")) == []
    assert (nets / "mine" / "thesis.txt").read_text() == "years of work"


def test_every_mistake_is_one_line_and_nothing_is_written(harness: Call, nets: Path) -> None:
    two_by_two(nets, "two.onnx")
    (nets / "broken.onnx").write_bytes((nets / "fixed.onnx").read_bytes()[:300])
    mistakes = {
        ("net.py",): ["neither a model file nor a callable"],
        ("absent.onnx", "net.jit", "--shape", "x=", "--args", "[]", "--tolerance", "{calibrated: 3}"): [
            "absent.onnx: no such file",
            "net.jit: a variant is .onnx or .ort",
            "--args []: not a mapping",
            "calibrated needs a float64 reference, which is not recorded; write ulp, or rtol and atol",
        ],
        ("fixed.onnx", "--targets", "onnx-dynamo,+fp15"): ["fixed.onnx is a file and is not exported", "+fp15"],
        ("net.py:Net", "--targets", "trace"): ["trace makes TorchScript"],
        ("net.ort", "--targets", "+fp16"): ["transforms change ONNX files, and net.ort is none"],
        ("net.py:needs", "--shape", "x=1"): ["needs channels, width"],
        ("net.py:Net",): ["x: no shape is declared; give --shape x=1,3,224,224, or --inputs FILE"],
        ("net.py:Net", "--shape", "x=1,4,8,8"): ["net.py:Net: cannot be recorded: RuntimeError"],
        ("net.py:Noisy", "--shape", "x=3"): ["draws random numbers at each call"],
        ("broken.onnx",): ["a truncated ONNX model"],
        ("fixed.onnx", "two.onnx"): ["cannot tell which of x is a, b: the inputs are (x float32[2, 3, 8, 8])"],
    }
    for words, messages in mistakes.items():
        ran = harness("record", *words, "-o", "recorded")
        assert ran.code == 2, words
        assert all(message in ran.err for message in messages), (words, ran.err)
        assert len(ran.err.splitlines()) == len(messages), (words, ran.err)
    assert not [path for path in nets.iterdir() if "recorded" in path.name]


def test_variants_of_a_manifest_stay_in_their_folder(harness: Call, nets: Path) -> None:
    assert harness("record", "fixed.onnx", "--draws", "1", "-o", "recorded").code == 0
    manifest = nets / "recorded" / "data.json"
    variants = {"out": "../off.onnx", "away": "absent.onnx", "text": "data.json", "a b": "model.onnx"}
    manifest.write_text(json.dumps({"variants": {key: variants[key] for key in ("out", "away", "text")}}, indent=1))
    ran = harness("run", "recorded", QUIET)
    assert ran.code == 2
    assert [line.partition(": ")[2] for line in ran.err.splitlines()] == [
        "out: a path that leads out of the model's folder; put the file itself there",
        "away: no such file; paths are relative to the model's folder",
        "text: not a model file; name a file *.onnx or *.ort",
    ]
    assert ran.err.splitlines()[0].startswith("recorded/data.json:3:")
    manifest.write_text(json.dumps({"variants": {"a b": "model.onnx"}}))
    assert "is not a name" in harness("run", "recorded", QUIET).err


def test_a_variant_with_other_outputs_fails(harness: Call, nets: Path) -> None:
    def with_other_output(model: onnx.ModelProto) -> None:
        del model.graph.output[:]
        name = model.graph.node[0].output[0]
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    changed(nets, with_other_output, "other.onnx")
    assert harness("record", "fixed.onnx", "other.onnx", "--draws", "1", "-o", "recorded").code == 0
    ran = harness("run", "recorded", QUIET)
    assert statuses(ran) == {"recorded": "passed", "recorded[model=other]": "failed"}
