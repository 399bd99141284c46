"""The tensor operations of a graph: each does what torch's function does, and a wrong call is found before it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Call

Spec = Callable[[str, str], Path]
TARGETS = ("--no-latency", "--targets", "trace/torch-cpu,script/torch-cpu,onnx-torchscript@17/ort-cpu")
WIRED = """
harness: 1
cases:
  - name: residual
    graph:
      - {layer: Linear, args: {in_features: 3, out_features: 3}, in: x, out: h}
      - {op: add, in: [x, h], args: {alpha: 2}, out: s}
      - {op: cat, in: [s, x], args: {dim: 1}, out: y}
    returns: [y]
    inputs: {x: {shape: [2, 3]}}
    weights: {h.weight: {fill: zeros}, h.bias: {fill: ones}}
    expect: {shape: [2, 6]}
  - name: scalars
    graph:
      - {op: mul, in: x, args: {other: 3}, out: m}
      - {op: sub, in: [m, x], out: d}
      - {op: div, in: [d], args: {other: 2}, out: y}
    returns: y
    inputs: {x: {shape: [2, 3]}}
    expect: {formula: x}
  - name: moves
    graph:
      - {op: reshape, in: x, args: {shape: [2, -1, 2]}, out: a}
      - {op: transpose, in: a, args: {dim0: 0, dim1: 1}, out: b}
      - {op: permute, in: b, args: {dims: [2, 1, 0]}, out: c}
      - {op: stack, in: [c, c], out: d}
      - {op: flatten, in: d, args: {start_dim: 1}, out: y}
    returns: y
    inputs: {x: {shape: [2, 3, 2]}}
    expect: {shape: [2, 12]}
  - name: attention
    graph:
      - {op: transpose, in: k, args: {dim0: -1, dim1: -2}, out: t}
      - {op: matmul, in: [q, t], out: scores}
      - {op: softmax, in: scores, args: {dim: -1}, out: p}
      - {op: mean, in: p, args: {dim: [0, 1], keepdim: true}, out: m}
      - {op: sum, in: m, args: {dim: -1}, out: y}
    returns: y
    inputs: {q: {shape: [2, 3, 4]}, k: {shape: [2, 5, 4]}}
    expect: {shape: [1, 1], range: [0.999, 1.001]}
"""


def test_graphs_are_wired_with_operations(harness: Call, spec: Spec) -> None:
    spec("wired.yaml", WIRED)
    ran = harness("run", "specs", *TARGETS)
    assert (ran.code, ran.report["summary"]["passed"]) == (0, 12), ran.out
    assert harness("audit", "specs").code in {0, 1}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{op: addd, in: [x, x], out: y}", ": addd: no such operation; did you mean add?"),
        ("{op: relu, in: x, out: y}", "relu: no such operation; write one of add, "),
        ("{op: add, in: x, out: y}", "add of 1 tensor without `other`; give two tensors, or one and a number"),
        ("{op: mul, in: [x, x], args: {other: 2}, out: y}", "mul of 2 tensors with `other`"),
        ("{op: matmul, in: x, out: y}", "matmul of 1 tensors; it takes 2"),
        ("{op: softmax, in: x, out: y}", "dim: softmax requires this argument; add it under `args:`, a whole number"),
        ("{op: sum, in: x, args: {dims: 1}, out: y}", "dims: sum has no such argument; did you mean dim?"),
        ("{op: reshape, in: x, args: {shape: [a]}, out: y}", "shape: reshape does not accept"),
        ("{op: flatten, in: x, out: [y, z]}", "flatten returns one tensor, not 2; give one name"),
        ("{op: add, in: [x, w], out: y}", "w: neither an input nor the output of an earlier layer"),
        ("{op: add, in: [x, x]}", "out is missing"),
        ("{op: add, in: [x, x], out: y, forward: {}}", "forward: unknown key"),
    ],
)
def test_a_wrong_operation_is_refused_at_its_place(harness: Call, spec: Spec, step: str, message: str) -> None:
    spec("wrong.yaml", f"harness: 1\ncases:\n  - name: case\n    graph:\n      - {step}\n"
         "    returns: y\n    inputs: {x: {shape: [2]}}\n")  # fmt: skip
    ran = harness("check", "specs")
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert line.startswith("specs/wrong.yaml:5:")
    assert message in line


def test_a_script_calls_the_operations(harness: Call, spec: Spec) -> None:
    text = """
harness: 1
cases:
  - name: case
    graph:
      - {layer: AvgPool2d, args: {kernel_size: 2, divisor_override: 3}, in: x, out: h}
      - {op: cat, in: [h, h], args: {dim: 1}, out: y}
    returns: y
    inputs: {x: {shape: [1, 1, 4, 4]}}
"""
    spec("pool.yaml", text)
    script = harness("run", "specs", "--no-latency", "--targets", "onnx-torchscript@17/ort-cpu").only["reproduction"]
    assert "y = torch.cat([h, h], dim=1)" in script
    assert "self.y" not in script
    compile(script, "script.py", "exec")
