"""``loop`` and ``steps``: a state that is fed back, compared at every step, and the first step that departs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.check.judging.steps import with_steps
from harness.errors import Location
from harness.model.answer import Reference
from harness.spec.language.case import Case, FactoryModel, Fill, TensorSpec, WeightedModel
from tests.conftest import Call

Spec = Callable[[str, str], Path]
QUIET = "--no-latency"
ONNX = ("--targets", "onnx-torchscript@17/ort-cpu")
FLAGS = ("--allow-import", QUIET)
CELL = "factory: nets.py:Cell, inputs: {x: {shape: [2, 4]}, h: {shape: [2, 8], fill: zeros}}"
CACHE = "past: [{key: {shape: [1, 3, 8]}, value: {shape: [1, 3, 8]}}]"
DECODER = f"factory: nets.py:Decoder, inputs: {{x: {{shape: [1, 1, 8]}}, {CACHE}}}"
OPEN = "dynamic: {past.0.key: {1: P}, past.0.value: {1: P}}"
TWO = "inputs: {x: {shape: [2]}, h: {shape: [2]}}"
DRIFT = "inputs: {x: {shape: [2, 4]}, s: {shape: [2, 4]}}, tolerance: {atol: 0.01}, loop: {t: s}, steps: 8"


class Cell(nn.Module):
    """A recurrent cell that returns its state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        """The output and the state."""
        h = self.cell(x, h)
        return {"y": self.head(h), "state": h}


class Forgets(Cell):
    """The same cell, which begins anew at each call."""

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        """The output and the state."""
        return super().forward(x, h * 0)


class Decoder(nn.Module):
    """Attention over a cache that grows by one at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor, past: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
        """The output and the longer cache."""
        keys, values = torch.cat([past[0]["key"], self.k(x)], 1), torch.cat([past[0]["value"], self.v(x)], 1)
        weights = torch.softmax(self.q(x) @ keys.transpose(1, 2), -1)
        return {"y": weights @ values, "present": [{"key": keys, "value": values}]}


class Drift(nn.Module):
    """A sum, with an error at each call."""

    def __init__(self, error: float = 0.0) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """The next sum."""
        return s + 0.1 * x + self.error


NETS = "from typing import Any\n\nimport torch\nfrom torch import nn\n" + "".join(
    f"\n\n{inspect.getsource(each)}" for each in (Cell, Forgets, Decoder, Drift)
)


def export(net: nn.Module, path: Path, inputs: Mapping[str, tuple[int, ...]], outputs: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = tuple(map(torch.ones, inputs.values()))
        torch.onnx.export(
            net.eval(), example, path, dynamo=False, input_names=[*inputs], output_names=outputs, verbose=False
        )


@pytest.fixture
def case(here: Path, spec: Spec) -> Callable[[str], Path]:
    """``case(text)``: a spec of one case, with the nets beside it."""
    path = here / "specs" / "nets.py"
    path.parent.mkdir()
    path.write_text(NETS, encoding="utf-8")
    return lambda text: spec("s.yaml", f"harness: 1\ncases:\n  - {{name: case, {text}}}\n")


def rows(row: Mapping[str, Any], state: str) -> list[bool]:
    """Whether each step of the first draw passed, with this state fed in."""
    first = [each for each in row["steps"] if "draw" not in (each["at"] or "")]
    return [each["passed"] for each in first if each["state"] == state]


def test_every_step_is_compared_on_both_states(harness: Call, case: Callable[[str], Path]) -> None:
    case(f"{CELL}, loop: {{state: h}}, steps: 5")
    ran = harness("run", "specs", *FLAGS, "--targets", "trace/torch-cpu,onnx-torchscript@17/ort-cpu")
    assert ran.code == 0, ran.err
    for row in ran.report["results"]:
        assert rows(row, "reference") == [True] * 5
        assert rows(row, "own") == [True] * 4
        assert len(row["steps"]) == 2 * 9
        assert row["steps"][0].keys() == {"step", "state", "at", "passed", "max_abs", "max_ulp", "shapes"}
        assert "all of 5 steps agree, with the reference's state fed in and on the target's own" in row["notes"]
        assert {output["at"] for output in row["outputs"]} == {None}


@pytest.mark.parametrize("loop", ["{present.0.key: past.0.key, present.0.value: past.0.value}", "{present: past}"])
def test_a_cache_grows(harness: Call, case: Callable[[str], Path], loop: str) -> None:
    case(f"{DECODER}, {OPEN}, draws: 1, loop: {loop}, steps: 4")
    ran = harness("run", "specs", *FLAGS, *ONNX)
    assert ran.code == 0, ran.err
    first = [each for each in ran.only["steps"] if each["at"] is None or each["at"].startswith("step")]
    assert [each["shapes"][1] for each in first if each["state"] == "reference"] == [
        [1, size, 8] for size in (4, 5, 6, 7)
    ]


def test_an_axis_that_grows_must_be_dynamic(harness: Call, case: Callable[[str], Path]) -> None:
    case(f"{DECODER}, loop: {{present: past}}")
    ran = harness("run", "specs", *FLAGS, *ONNX)
    assert (ran.code, ran.only["blame"], ran.only["stage"]) == (1, "spec", "build")
    assert (
        "is float32[1, 4, 8] after step 1, and past.0.key takes float32[1, 3, 8]; add `dynamic: {past.0.key: {1: P}}`"
        in (ran.only["message"])
    )


def test_a_file_that_loses_its_state_fails_at_the_second_step(
    harness: Call, case: Callable[[str], Path], here: Path
) -> None:
    torch.manual_seed(3)
    net, forgets = Cell(), Forgets()
    forgets.load_state_dict(net.state_dict())
    torch.save(net.state_dict(), here / "specs" / "cell.pt")
    for name, each in (("kept.onnx", net), ("lost.onnx", forgets)):
        export(each, here / "specs" / name, {"x": (2, 4), "h": (2, 8)}, ["y", "state"])
    case(f"{CELL}, weights: cell.pt, loop: {{state: h}}, files: {{kept: kept.onnx, lost: lost.onnx}}")
    ran = harness("run", "specs", *FLAGS)
    assert ran.code == 1
    assert ran.rows["s/case", "file:kept/ort-cpu"]["status"] == "passed"
    lost = ran.rows["s/case", "file:lost/ort-cpu"]
    assert rows(lost, "reference") == [True, False, False, False]
    departs = "of 4 steps, step 2 is the first that departs with the reference's state fed in, and step 2 on the"
    assert lost["message"].startswith(f"{departs} target's own state: at step 2 of 4: ")
    assert (lost["blame"], lost["stage"]) == ("exporter", "compare")
    departed = {output["at"] for output in lost["outputs"] if output["problem"]}
    assert departed == {"step 2 of 4"}


def test_errors_that_add_up_show_on_the_targets_own_state_alone(
    harness: Call, case: Callable[[str], Path], here: Path
) -> None:
    for name, error in (("right.onnx", 0.0), ("drift.onnx", 0.003)):
        export(Drift(error), here / "specs" / name, {"x": (2, 4), "s": (2, 4)}, ["t"])
    case(f"file: right.onnx, {DRIFT}, files: {{same: right.onnx, drift: drift.onnx}}")
    ran = harness("run", "specs", QUIET)
    assert ran.code == 1
    assert ran.rows["s/case", "file:same/ort-cpu"]["status"] == "passed"
    drift = ran.rows["s/case", "file:drift/ort-cpu"]
    assert rows(drift, "reference") == [True] * 8
    assert rows(drift, "own") == [True, True, False, False, False, False, False]
    assert "on the target's own state step 4 is the first that departs" in drift["message"]
    assert drift["blame"] is None
    assert "they add up" in drift["evidence"][0]


def test_compare_takes_a_loop(harness: Call, here: Path) -> None:
    for name, error in (("right.onnx", 0.0), ("drift.onnx", 0.003)):
        export(Drift(error), here / name, {"x": (2, 4), "s": (2, 4)}, ["t"])
    options = ("--loop", "t=s", "--steps", "8", "--tolerance", "{atol: 0.01}")
    ran = harness("compare", "drift.onnx", "right.onnx", *options, "--save-spec", "asked.yaml")
    assert ran.code == 1
    assert "on the target's own state step 4 is the first that departs" in ran.out
    again = harness("run", "asked.yaml", QUIET)
    assert (again.code, again.only["steps"]) == (1, ran.only["steps"])
    assert harness("compare", "right.onnx", "right.onnx", *options).code == 0
    wrong = harness("compare", "right.onnx", "right.onnx", "--loop", "t", "--steps", "3")
    assert (wrong.code, "--loop t: no output and input; write OUTPUT=INPUT" in wrong.err) == (2, True)
    wrong = harness("compare", "right.onnx", "right.onnx", "--loop", "u=s")
    assert (wrong.code, "loop: no output u; the outputs are t" in wrong.out) == (2, True)
    assert "next       correct --loop" in wrong.out


def test_a_bundle_holds_the_loop(harness: Call, case: Callable[[str], Path]) -> None:
    case(f"{CELL}, draws: 1, loop: {{state: h}}, steps: 3")
    assert harness("pack", "specs", "--allow-import", *ONNX, "-o", "bundle").code == 0
    ran = harness("run", "bundle", QUIET)
    assert ran.code == 0, ran.err
    assert (rows(ran.only, "reference"), rows(ran.only, "own")) == ([True] * 3, [True] * 2)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (f"{CELL}, loop: {{state: g}}", ["loop: no input g; its inputs are x, h"]),
        (f"{CELL}, loop: {{state: h, y: h}}", ["loop: two outputs feed h"]),
        (f"{CELL}, steps: 3", ["steps: no output feeds an input; add `loop: {OUTPUT: INPUT}`"]),
        (f"{CELL}, loop: {{state: h}}, steps: 1", ["steps: "]),
        (f"{CELL}, loop: {{'a b': h}}", ["is not an output"]),
        (
            f"graph: [{{op: add, in: [x, h], out: sum}}], returns: [sum], loop: {{total: h, sum: x}}, {TWO}",
            ["loop: no output total; its outputs are sum"],
        ),
    ],
)
def test_a_wrong_loop_is_one_line_with_its_place(
    harness: Call, case: Callable[[str], Path], text: str, messages: list[str]
) -> None:
    case(text)
    ran = harness("check", "specs", "--allow-import")
    assert ran.code == 2
    lines = ran.err.splitlines()
    assert len(lines) == len(messages), ran.err
    assert all(line.startswith("specs/s.yaml:3:") for line in lines)
    assert all(message in line for message, line in zip(messages, lines, strict=True)), ran.err


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        ("{stat: h}", "loop: no output stat; did you mean state?"),
        ("{output_7: h}", "loop: no output output_7; the outputs are y, state"),
        ("{y: h}", "loop: y is float32[2, 3] after step 1, and h takes float32[2, 8]"),
    ],
)
def test_an_output_that_does_not_exist_or_fit_is_named(
    harness: Call, case: Callable[[str], Path], loop: str, message: str
) -> None:
    case(f"{CELL}, loop: {loop}")
    row = harness("run", "specs", *FLAGS, *ONNX).only
    assert (row["status"], row["stage"], row["blame"]) == ("error", "build", "spec")
    assert message in row["message"]


def test_inputs_that_are_no_state_are_drawn_anew_and_grow_with_it() -> None:
    specs = (
        TensorSpec("x", "float32", (2,), fill=Fill("normal"), seed=1),
        TensorSpec("scale", "float32", (), values=2.0),
        TensorSpec("mask", "int64", (1, 3), fill=Fill("ones")),
        TensorSpec("past", "float32", (1, 3), fill=Fill("normal"), seed=2),
    )
    dynamic = {"mask": {1: "P"}, "past": {1: "P"}}
    case = Case(
        "case", "", WeightedModel(FactoryModel("nets:Net")), specs, Location(""), dynamic=dynamic,
        loop={"present": "past"}, steps=4,
    )  # fmt: skip
    seen: list[Mapping[str, Any]] = []

    def answer(inputs: Mapping[str, Any], at: str | None) -> Reference:
        seen.append(inputs)
        present = np.concatenate([inputs["past"], np.full((1, 1), len(seen), np.float32)], 1)
        return Reference(inputs, {"present": present}, None, (), (), False, at)

    first = answer({"x": np.zeros(2, np.float32), "scale": np.array(2.0, np.float32),
                    "mask": np.ones((1, 3), np.int64), "past": np.zeros((1, 3), np.float32)}, None)  # fmt: skip
    references = with_steps(case, specs, first, answer, lambda _inputs: None)
    assert [reference.at for reference in references] == [None, "step 2 of 4", "step 3 of 4", "step 4 of 4"]
    assert [list(inputs["mask"].shape) for inputs in seen] == [[1, 3], [1, 4], [1, 5], [1, 6]]
    assert len({inputs["x"].tobytes() for inputs in seen}) == 4
    assert {float(inputs["scale"]) for inputs in seen} == {2.0}
    assert seen[3]["past"].tolist() == [[0, 0, 0, 1, 2, 3]]


UNNAMED_CELL = """
import torch
from torch import nn


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.GRUCell(4, 5), nn.Linear(5, 3)

    def forward(self, x, state):
        state = self.cell(x, state)
        return self.head(state), state
"""


def test_outputs_of_a_module_without_names_are_looped_by_those_of_the_file_or_by_number(
    harness: Call, here: Path
) -> None:
    (here / "cell.py").write_text(UNNAMED_CELL, encoding="utf-8")
    code: dict[str, Any] = {}
    exec(UNNAMED_CELL, code)
    names: dict[str, Any] = {"input_names": ["x", "state"], "output_names": ["y", "state_out"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.randn(1, 4), torch.randn(1, 5))
        torch.onnx.export(code["Cell"]().eval(), example, here / "cell.onnx", dynamo=False, **names)
    for output in ("state_out", "1"):
        ran = harness("compare", "cell.onnx", "cell.py:Cell", "--loop", f"{output}=state", "--steps", "3")
        assert ran.code == 0, ran.err + ran.out
        assert len(ran.only["steps"]) > 2
    for output, message in (
        ("statee_out", "no output statee_out; did you mean state_out?"),
        ("y", "the reference refuses its state at step 2: y is [1, 3] and state was [1, 5]"),
    ):
        ran = harness("compare", "cell.onnx", "cell.py:Cell", "--loop", f"{output}=state", "--steps", "3")
        assert ran.code == 2
        assert f"loop: {message}" in ran.out
        assert "correct --loop" in ran.out
