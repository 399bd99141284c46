"""The command that the reports advise works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.report.wording import next_step
from harness.result import Result
from tests.conftest import Call, Ran

TARGET = "trace/torch-cpu"
WRONG = """
harness: 1
cases:
  - name: too-narrow
    matrix: {inputs.x.shape: [[3], [4]]}
    layer: ReLU
    inputs: {x: {fill: ones}}
    expect: {range: [2, 3]}
"""
USER_CODE = """
harness: 1
factory: own_code:net
cases:
  - {name: too-narrow, inputs: {x: {shape: [3], fill: ones}}, expect: {range: [2, 3]}}
"""
CASE = "too-narrow[inputs.x.shape=[3]]"


def run_advised_command(harness: Call, ran: Ran, case: str, *options: str) -> Ran:
    """Run the command that the report and the terminal show for ``case``."""
    assert ran.code == 1, ran.err
    report = Path("reports/latest/report.md").read_text(encoding="utf-8")
    commands = [command for command in re.findall(r"`(harness explain [^`]+)`", report) if case in command]
    assert len(commands) == 1
    assert commands[0] in [line.strip() for line in ran.out.splitlines()], "on the terminal it is one line"
    return harness(*shlex.split(commands[0])[1:], *options)


@pytest.mark.parametrize(
    ("file", "paths", "case"),
    [
        ("specs/a.yaml", "specs", f"a/{CASE}"),
        ("mine/a.yaml", "mine", f"a/{CASE}"),
        ("mine/deep/er/a.yaml", "mine", f"deep/er/a/{CASE}"),
        ("mine/deep/er/a.yaml", "mine/deep/er/a.yaml", f"a/{CASE}"),
        ("a.yaml", ".", f"a/{CASE}"),
    ],
)
def test_it_finds_the_case_wherever_the_specs_are(harness: Call, here: Path, file: str, paths: str, case: str) -> None:
    path = here / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(WRONG, encoding="utf-8")
    ran = harness("run", paths, "--targets", TARGET, "--no-latency")
    explained = run_advised_command(harness, ran, CASE)
    assert explained.code == 1, explained.err
    assert explained.out.startswith(f"{case} on {TARGET}: failed (compare: mismatch)")
    assert "Blame: spec\n  eager torch, before any export, does not meet the spec's expect.range" in explained.out
    assert "there is nothing to report upstream" in explained.out


def test_it_names_the_path_that_was_run(harness: Call, here: Path) -> None:
    (here / "a.yaml").write_text(WRONG, encoding="utf-8")
    (here / "deploy.yaml").write_text("services: {web: {image: nginx}}\n", encoding="utf-8")
    for given in ("a.yaml", f"./a.yaml::{CASE}"):
        ran = harness("run", given, "--targets", TARGET, "--no-latency")
        explained = run_advised_command(harness, ran, CASE)
        assert (explained.code, explained.err.count("deploy.yaml")) == (1, 0), explained.err
        assert f" --target {TARGET} {given.partition('::')[0]}\n" in ran.out


def test_it_may_import_code_if_the_run_was_allowed_to(
    harness: Call, spec: Callable[[str, str], Path], here: Path
) -> None:
    (here / "own_code.py").write_text("from torch import nn\n\ndef net():\n    return nn.ReLU()\n", encoding="utf-8")
    spec("own.yaml", USER_CODE)
    ran = harness("run", "specs", "--targets", TARGET, "--no-latency", "--allow-import")
    explained = run_advised_command(harness, ran, "too-narrow")
    assert explained.code == 1, explained.err
    assert "own/too-narrow on trace/torch-cpu: failed" in explained.out


HIDDEN = """
harness: 1
factory: own_code:net
cases:
  - {name: hidden, inputs: {x: {shape: [1, 2, 4, 4]}}}
"""
HIDING = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 1)
        self.pool = nn.AvgPool2d(2, 1, divisor_override=5)
        self.last = nn.ReLU()

    def forward(self, x):
        x = self.first(x)
        return self.last(x) + 1e-9 * self.pool(nn.functional.pad(x, (0, 1, 0, 1)))

def net():
    return Net()
"""


def test_it_looks_at_the_layers_if_the_run_did(harness: Call, spec: Callable[[str, str], Path], here: Path) -> None:
    (here / "own_code.py").write_text(HIDING, encoding="utf-8")
    spec("own.yaml", HIDDEN)
    words = ("run", "specs", "--targets", "onnx-torchscript@17/ort-cpu", "--no-latency", "--allow-import")
    assert harness(*words).code == 0
    explained = run_advised_command(harness, harness(*words, "--layers"), "hidden")
    for again in (explained, harness("explain", "--last", "--allow-import"), harness("explain", "1", "--allow-import")):
        assert again.code == 1, again.err
        assert "the outputs agree, but a layer is wrong by itself: one step at pool, " in again.out


def test_a_saved_spec_names_the_command_that_looks_at_the_layers(
    harness: Call, spec: Callable[[str, str], Path], here: Path
) -> None:
    (here / "own_code.py").write_text(HIDING, encoding="utf-8")
    spec("own.yaml", HIDDEN)
    words = ("pack", "specs", "--targets", "onnx-torchscript@17/ort-cpu", "--allow-import", "-o", "packed")
    assert harness(*words).code == 0
    next((here / "packed").rglob("*.onnx")).rename(here / "off.onnx")
    np.savez(here / "x.npz", x=np.ones((1, 2, 4, 4), np.float32))
    asked = ("off.onnx", "own_code.py:net", "--inputs", "x.npz", "--layers", "--save-spec", "a b.yaml")
    compared = harness("compare", *asked)
    assert compared.code == 1, compared.out + compared.err
    header = (here / "a b.yaml").read_text(encoding="utf-8").splitlines()[0]
    command = header.partition(" in CI: ")[2]
    assert command == "harness run 'a b.yaml' --layers --allow-import"
    assert f"in CI: {command}\n" in compared.out
    assert harness(*shlex.split(command)[1:]).code == 1
    (advised,) = re.findall(r"find the first node that differs: (harness explain .+)", compared.out)
    assert harness(*shlex.split(advised)[1:]).code == 1


INCONCLUSIVE = """
harness: 1
layer: Sigmoid
cases:
  - {name: far-left, inputs: {x: {shape: [64], fill: {uniform: [-60, -40]}}}}
"""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--strict",), "  the pass is inconclusive, which a strict run does not accept: "),
        (("--strict-ulp", "8"), "values differ by more than the tolerance"),
    ],
)
def test_it_is_as_strict_as_the_run(
    harness: Call, spec: Callable[[str, str], Path], options: tuple[str, ...], says: str
) -> None:
    spec("sigmoid.yaml", INCONCLUSIVE)
    words = ("--targets", "onnx-torchscript@17/ort-cpu")
    assert harness("run", "specs", *words, "--no-latency").code == 0
    ran = harness("run", "specs", *words, "--no-latency", *options)
    explained = run_advised_command(harness, ran, "far-left", "--budget", "0.1")
    for again in (explained, harness("explain", "--last", "--budget", "0.1")):
        assert again.code == 1, again.err
        assert says in again.out
    if "--strict-ulp" in options:
        assert "Script\n" in explained.out
        assert "does not reproduce" not in explained.out
    plain = harness("explain", "far-left", *("--target", words[1]))
    assert (plain.code, "passed; there is nothing to explain" in plain.out) == (0, True)


def test_it_finds_a_recorded_model(harness: Call, here: Path) -> None:
    folder = here / "recorded" / "deep" / "relu"
    (folder / "test_data_set_0").mkdir(parents=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="only")], "g", [x], [y])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    for kind, values in (("input", [-1.0, 2.0]), ("output", [0.0, 3.0])):
        tensor = numpy_helper.from_array(np.array(values, np.float32), kind)
        (folder / "test_data_set_0" / f"{kind}_0.pb").write_bytes(tensor.SerializeToString())
    explained = run_advised_command(harness, harness("run", "recorded", "--targets", "ort-cpu"), "relu")
    assert explained.code == 1, explained.err
    assert explained.out.startswith("deep/relu on file/ort-cpu: failed (compare: mismatch)")
    assert "the recorded answer is not what the file computes" in explained.out
    assert (
        "First node that differs\n  1 node\n  compared with the graph's float64 evaluation: no node differs"
        in explained.out
    )
    assert "torch's modules" not in explained.out, "a file that was not exported here has no torch modules"


def test_a_row_without_a_place_names_only_its_case() -> None:
    row = Result("a/b[k=1]; rm x", TARGET, "error")
    step = next_step(row)
    assert step is not None
    assert step.command == "harness explain 'a/b[k=1]; rm x' --target trace/torch-cpu"
