"""Mistakes at the command line: each prints one clear line and sets the exit code, without a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.conftest import Call

Write = Callable[[str, str], Path]
TRACE = ("--targets", "trace/torch-cpu", "--no-latency")
RELU = """
harness: 1
layer: ReLU
cases:
  - {name: signed, inputs: {x: {values: [1.0, -2.0]}}}
"""


def one_line(text: str) -> str:
    (line,) = text.strip().splitlines()
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "missing.yaml"], 2, "missing.yaml: no such file or directory; "),
        (["run", "empty"], 2, "empty: no spec in this folder"),
        (["run", "binary.yaml"], 2, "binary.yaml:1:1: not UTF-8 text; "),
        (["run", "specs", "--targets", "trase/torch-cpu"], 2, "no exporter trase; did you mean trace?"),
        (["run", "specs", "--targets", "trace/ort-cpu"], 2, "trace makes TorchScript, ort-cpu runs ONNX"),
        (["run", "specs", "--targets", "trace/torch-cpu?threads=none"], 2, "threads=none"),
        (["run", "specs", "--format", "pdf"], 2, "--format pdf: no such report format; use one of bencher, csv, "),
        (["run", "specs", "-k", "sigmoid"], 2, "-k sigmoid: matches no case; harness list shows"),
        (["run", "specs", "--shard", "3/2"], 2, "--shard 3/2"),
        (["run", "specs", "--memory", "lots"], 2, "--memory lots: not a size"),
        (["run", "specs", "--report-dir", "binary.yaml/x"], 2, "--report-dir"),
        (["run", "specs", "--require", "torch-gpu"], 2, "--require torch-gpu: no such runtime"),
        (["run", "specs", "--require", "ort-coreml"], 3, "--require ort-coreml"),
        (
            ["run", "specs", "--targets", "trace"],
            2,
            "no target set named 'trace'; did you mean trace/torch-cpu?",
        ),
        (
            ["run", "net.py"],
            2,
            "net.py: Python, not a spec; write a spec for a module in it with harness init net.py:NAME",
        ),
        (["check", "missing"], 2, "missing: no such file or directory"),
    ],
)
def test_a_wrong_request_is_one_line(
    harness: Call, spec: Write, here: Path, arguments: list[str], code: int, message: str
) -> None:
    spec("relu.yaml", RELU)
    (here / "empty").mkdir()
    (here / "binary.yaml").write_bytes(bytes(range(128, 256)))
    (here / "net.py").write_text("from torch import nn\n", encoding="utf-8")
    ran = harness(*arguments)
    assert ran.code == code
    assert message in one_line(ran.err)


@pytest.mark.parametrize("command", ["run", "bench", "check", "list", "audit"])
def test_without_a_path_the_next_step_is_named(harness: Call, command: str) -> None:
    ran = harness(command)
    assert ran.code == 2
    assert "such as specs/; harness init writes a first one" in ran.err


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("elsewhere:Net", "No module named 'elsewhere'; run harness in the folder that holds it, not in {here}"),
        ("net:Nat", "module 'net' has no attribute 'Nat'; did you mean Net?"),
    ],
)
def test_the_message_about_a_missing_factory_names_the_searched_folders(
    harness: Call, spec: Write, here: Path, factory: str, message: str
) -> None:
    (here / "net.py").write_text("class Net: ...\n", encoding="utf-8")
    text = f"harness: 1\nfactory: {factory}\ncases: [{{name: a, inputs: {{x: {{shape: [2]}}}}}}]\n"
    ran = harness("run", str(spec("net.yaml", text)), "--allow-import", "--targets", "trace/torch-cpu")
    assert (ran.code, ran.only["stage"], ran.only["blame"]) == (1, "build", "spec")
    assert message.format(here=here) in ran.only["message"]


LABELS = """harness: 1
factory: net.py:Net
cases:
  - {name: by-name, inputs: {scale: {shape: [3]}, x: {shape: [3]}}, expect: {formula: "x * scale - x"}}
  - {name: by-order, inputs: {a: {shape: [3]}, b: {shape: [3]}}, expect: {formula: "a * b - a"}}
  - {name: mixed, inputs: {x: {shape: [3]}, scael: {shape: [3]}}}
  - {name: names-of-a-file, inputs: {x: {shape: [3]}, factor: {shape: [3]}}, files: {exported: net.onnx}}
  - {name: names-of-no-file, inputs: {x: {shape: [3]}, fcator: {shape: [3]}}, files: {exported: net.onnx}}
  - {name: of-torch, layer: MaxUnpool2d, args: {kernel_size: 2},
     inputs: {x: {shape: [1, 1, 1, 1]}, indices: {values: [[[[3]]]], dtype: int64}}}
"""


def test_a_mixture_of_names_and_other_labels_is_an_error_but_for_layers_of_torch_and_names_of_a_file(
    harness: Call, here: Path
) -> None:
    lines = (
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x, scale):\n        return x * scale - x\n"
    )
    (here / "net.py").write_text(lines, encoding="utf-8")
    (here / "names.yaml").write_text(LABELS, encoding="utf-8")
    nodes = [helper.make_node("Mul", ["x", "factor"], ["m"]), helper.make_node("Sub", ["m", "x"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "factor", "y")]
    graph = helper.make_graph(nodes, "net", values[:2], values[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), here / "net.onnx")
    targets = "onnx-dynamo@18+fixes/ort-cpu,file:exported/ort-cpu"
    ran = harness("run", "names.yaml", "--allow-import", "--no-latency", "--targets", targets)
    assert ran.code == 1
    rows = {row["case"].removeprefix("names/"): row for row in ran.report["results"]}
    wrong = {name: rows.pop(name) for name in ("mixed", "names-of-no-file")}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(rows, "passed")
    assert [(row["stage"], row["blame"]) for row in wrong.values()] == [("build", "spec")] * 2
    assert "are no parameters of forward(x, scale); label every input" in wrong["mixed"]["message"]
    assert "names.yaml:6:5" in ran.out


def test_an_output_that_is_none_is_none_on_every_target(harness: Call, spec: Write, here: Path) -> None:
    lines = "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return x + 1, None\n"
    (here / "optional.py").write_text(lines, encoding="utf-8")
    text = "harness: 1\nfactory: optional:Net\ncases: [{name: a, inputs: {x: {shape: [2]}}}]\n"
    targets = "script/torch-cpu,onnx-dynamo@23/ort-cpu"
    ran = harness("run", str(spec("optional.yaml", text)), "--allow-import", "--targets", targets, "--no-latency")
    assert {row["status"] for row in ran.report["results"]} == {"passed"}
    assert ran.code == 0


def test_every_mistake_of_a_spec_is_reported_at_once(harness: Call, spec: Write) -> None:
    spec(
        "pool.yaml",
        """harness: 1
layer: MaxPool2d
cases:
  - {name: a, args: {kernal_size: 2}, inputs: {x: {shape: [1, 1, 4, 4]}}}
  - {name: b, args: {kernel_size: two}, inputs: {x: {shape: [1, 1, 4, 4]}}}
  - {name: c, args: {kernel_size: 2}, inputs: {x: {shape: [1, -1, 4, 4]}}}
""",
    )
    spec("unknown.yaml", "harness: 1\nlayer: MaxPol2d\ncases: [{name: a, inputs: {x: {shape: [2]}}}]\n")
    ran = harness("run", "specs")
    assert ran.code == 2
    assert [line.split(": ", 1) for line in ran.err.splitlines()] == [
        ["specs/pool.yaml:4:22", "kernal_size: MaxPool2d has no such argument; did you mean kernel_size?"],
        [
            "specs/pool.yaml:5:35",
            "kernel_size: MaxPool2d does not accept two; write a whole number or a list of 2 whole numbers",
        ],
        ["specs/pool.yaml:6:63", "shape: -1 is too small; at least 0"],
        ["specs/unknown.yaml:2:8", "MaxPol2d: torch.nn has no such layer; did you mean MaxPool2d?"],
    ]


def test_a_shape_that_the_layer_refuses_is_a_row(harness: Call, spec: Write) -> None:
    spec(
        "linear.yaml",
        "harness: 1\nlayer: Linear\n"
        "cases: [{name: a, args: {in_features: 3, out_features: 2}, inputs: {x: {shape: [1, 4]}}}]\n",
    )
    ran = harness("run", "specs", *TRACE)
    row = ran.only
    assert ran.code == 1
    assert (row["status"], row["stage"], row["symptom"], row["blame"]) == ("error", "build", "exception", "spec")
    assert "shapes cannot be multiplied" in row["message"]
    assert row["case_model"].startswith("Linear(in_features=")
    assert row["inputs"][0].keys() == {"label", "dtype", "shape"}
    assert row["draws"] == 2
    assert row["where"] == "specs/linear.yaml:3:9"


def test_a_missing_runtime_is_skipped_with_how_to_install_it(harness: Call, spec: Write) -> None:
    spec("relu.yaml", RELU)
    ran = harness("run", "specs", "--targets", "trace/torch-cpu,onnx-torchscript@17/ort-coreml", "--no-latency")
    assert ran.code == 0
    row = ran.rows["relu/signed", "onnx-torchscript@17/ort-coreml"]
    assert (row["status"], row["symptom"]) == ("skipped", "unavailable")
    assert "pip install" in row["message"]


def test_a_run_that_compared_nothing_is_no_pass(harness: Call, spec: Write) -> None:
    spec("relu.yaml", RELU)
    ran = harness("run", "specs", "--targets", "onnx-torchscript@17/ort-coreml")
    assert ran.code == 3
    assert "nothing was compared" in ran.out


def test_the_report_has_every_field_of_the_contract(harness: Call, spec: Write, here: Path) -> None:
    spec("relu.yaml", RELU)
    ran = harness("run", "specs", "--targets", "trace/torch-cpu", "--format", "json,md,junit,csv,github")
    assert ran.code == 0
    report = ran.report
    assert report["format"] == 1
    assert report["summary"] == {
        "checks": 1,
        "passed": 1,
        "failed": 0,
        "error": 0,
        "known": 0,
        "fixed": 0,
        "skipped": 0,
    }
    row = ran.only
    assert row["case"] == "relu/signed"
    assert {"build", "export", "load", "run", "compare"} == set(row["seconds"])
    (output,) = row["outputs"]
    expected_keys = {
        "index",
        "shape",
        "dtype",
        "max_abs",
        "max_rel",
        "max_ulp",
        "mismatched",
        "of",
        "worst",
        "tolerance",
    }
    assert expected_keys | {"least_rtol", "least_atol"} <= set(output)
    assert row["latency"]["median_us"] > 0
    files = {path.name for path in (here / "reports" / "latest").iterdir()}
    assert files == {"report.json", "report.md", "report.xml", "report.csv", "report.github.md"}


KNOWN = """
- cases: pool/*
  targets: onnx-*
  stage: compare
  symptom: mismatch
  reason: both exporters drop the divisor
"""
POOL = """
harness: 1
layer: AvgPool2d
cases:
  - name: divisor
    args: {kernel_size: 2, divisor_override: 3}
    inputs: {x: {shape: [1, 1, 4, 4], fill: ones}}
    expect: {outputs: [{shape: [1, 1, 2, 2], fill: {full: 1.3333333333333333}}]}
"""


def test_a_dropped_divisor_is_detected_blamed_known_and_fixed(harness: Call, spec: Write, here: Path) -> None:
    spec("pool.yaml", POOL)
    targets = "trace/torch-cpu,onnx-torchscript@17/ort-cpu,onnx-dynamo@23/ort-cpu"
    ran = harness("run", "specs", "--targets", targets)
    assert ran.code == 1
    assert ran.report["summary"]["failed"] == 2
    for exporter in ("onnx-torchscript@17", "onnx-dynamo@23"):
        row = ran.rows["pool/divisor", f"{exporter}/ort-cpu"]
        assert (row["status"], row["stage"], row["symptom"]) == ("failed", "compare", "mismatch")
        assert row["blame"] == "exporter"
        assert row["evidence"]
    (here / "specs" / "known-failures.yaml").write_text(KNOWN, encoding="utf-8")
    ran = harness("run", "specs", "--targets", targets)
    assert ran.code == 0
    assert ran.report["summary"]["known"] == 2
    assert ran.rows["pool/divisor", "onnx-dynamo@23/ort-cpu"]["reason"] == "both exporters drop the divisor"
    ran = harness("run", "specs", "--targets", "onnx-torchscript@17+fixes/ort-cpu,onnx-dynamo@23+fixes/ort-cpu")
    assert ran.code == 1, "a check that passes although it is listed fails the gate"
    assert ran.report["summary"]["fixed"] == 2


def test_a_known_failure_that_matches_nothing_is_an_error(harness: Call, spec: Write, here: Path) -> None:
    spec("relu.yaml", RELU)
    (here / "specs" / "known-failures.yaml").write_text(KNOWN, encoding="utf-8")
    ran = harness("run", "specs", *TRACE)
    assert ran.code == 2
    assert "known-failures.yaml:2:3" in ran.out + ran.err


def test_list_and_schema_and_check(harness: Call, spec: Write) -> None:
    spec("relu.yaml", RELU)
    ran = harness("list", "specs")
    assert ran.code == 0
    assert "relu/signed" in ran.out
    assert "\n1 case x 6 targets = 6 checks\n" in ran.out
    assert json.loads(harness("schema").out)["$schema"].startswith("https://json-schema.org/")
    assert harness("list", "specs", *TRACE[:2]).out.endswith("\n1 case x 1 target = 1 check\n")
    assert harness("check", "specs").out.startswith("1 case in 1 file, ")


def test_a_case_that_eager_torch_refuses_must_be_refused(harness: Call, spec: Write) -> None:
    spec(
        "raises.yaml",
        """
harness: 1
layer: MaxUnpool2d
cases:
  - name: outside
    args: {kernel_size: 2}
    inputs:
      x: {values: [[[[1.0]], [[2.0]]]]}
      indices: {dtype: int64, values: [[[[7]], [[0]]]]}
    expect: {raises: Found an invalid max index}
""",
    )
    ran = harness("run", "specs", "--targets", "trace/torch-cpu,onnx-dynamo@23/ort-cpu")
    assert ran.rows["raises/outside", "trace/torch-cpu"]["status"] == "passed"
    row = ran.rows["raises/outside", "onnx-dynamo@23/ort-cpu"]
    assert (row["status"], row["symptom"]) == ("failed", "mismatch")
    assert "answered with" in row["message"]


def test_open_axes_are_verified_at_other_shapes(harness: Call, spec: Write) -> None:
    spec(
        "open.yaml",
        """
harness: 1
layer: Sigmoid
cases:
  - name: batch
    inputs: {x: {shape: [2, 3]}}
    dynamic: {x: {0: N}}
    also: [{x: [5, 3]}]
""",
    )
    ran = harness("run", "specs", "--targets", "onnx-torchscript@17/ort-cpu,onnx-dynamo@23/ort-cpu")
    assert ran.code == 0
    for row in ran.report["results"]:
        assert [output["shape"] for output in row["outputs"]] == [[2, 3], [5, 3]]


def test_the_shipped_schema_is_the_one_that_harness_prints(harness: Call) -> None:
    shipped = Path(__file__).parent.parent / "specs" / "harness.schema.json"
    constraints = (Path(__file__).parent.parent / "constraints.txt").read_text(encoding="utf-8")
    if f"pydantic=={version('pydantic')}\n" not in constraints:
        pytest.skip("how a schema is written is pydantic's: the shipped one is that of the version in constraints.txt")
    assert json.loads(harness("schema").out) == json.loads(shipped.read_text(encoding="utf-8"))
