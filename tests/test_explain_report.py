"""``harness explain --last`` and ``harness explain N``: the report knows the case, the target and the specs."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from tests.conftest import Call

SPEC = """
harness: 1
layer: ReLU
defaults: {inputs: {x: {values: [1.0, -2.0]}}}
cases:
  - {name: right, expect: {formula: "y >= 0"}}
  - {name: first, expect: {formula: "y > 0"}}
  - {name: second, expect: {formula: "y > 2"}}
"""


def test_a_failure_of_the_last_report_is_named_by_its_number(harness: Call, here: Path) -> None:
    refused = harness("explain", "--last")
    assert (refused.code, refused.err) == (
        2,
        "--report reports/latest/report.json: no such file; harness run writes one\n",
    )
    (here / "mine").mkdir()
    (here / "mine" / "relu.yaml").write_text(SPEC, encoding="utf-8")
    assert harness("run", "mine/", "--targets", "trace/torch-cpu", "--no-latency").code == 1
    ran = harness("explain", "--last", "--budget", "0.1")
    assert (ran.code, ran.out.partition(":")[0]) == (1, "relu/first on trace/torch-cpu")
    ran = harness("explain", "2", "--budget", "0.1")
    assert (ran.code, ran.out.partition(":")[0]) == (1, "relu/second on trace/torch-cpu")
    refused = harness("explain", "3")
    assert (refused.code, refused.err) == (
        2,
        "reports/latest/report.json has 2 failures; name one of them, or a case\n",
    )
    refused = harness("explain")
    assert (refused.code, refused.err) == (2, "name a case, or use --last for the first failure of the last report\n")
    assert harness("run", "mine/relu.yaml::second", "--targets", "trace/torch-cpu", "--no-latency").code == 1
    ran = harness("explain", "--last", "--budget", "0.1")
    assert (ran.code, ran.out.partition(":")[0]) == (1, "relu/second on trace/torch-cpu")
    (here / "mine").rename(here / "elsewhere")
    refused = harness("explain", "1")
    assert refused.code == 2
    assert (
        "report.json: mine/relu.yaml::second: no such file or directory; run explain in the folder of that run"
        in refused.err
    )


NET = """\
import torch
from torch import nn


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU())
"""


def test_a_comparison_without_a_spec_is_explained_from_its_report(harness: Call, here: Path) -> None:
    (here / "net.py").write_text(NET, encoding="utf-8")
    torch.manual_seed(4)
    other = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(other, (torch.ones(2, 4),), here / "off.onnx", dynamo=False)
    compared = harness("compare", "off.onnx", "net.py:net", "--report-dir", "mine")
    words = ("explain", "--last", "--report", "mine/report.json")
    assert compared.code == 1, compared.err
    assert f"find the first node that differs: harness {' '.join(words)} --allow-import\n" in compared.out
    refused = harness(*words)
    assert (refused.code, "factory: net.py:net would run code; pass --allow-import" in refused.err) == (2, True)
    ran = harness(*words, "--allow-import", "--budget", "0.1")
    assert ran.code == 1, ran.err
    assert ran.out.startswith("compare/off on file:subject/ort-cpu: ")
    (here / "off.onnx").rename(here / "elsewhere.onnx")
    moved = harness(*words)
    assert moved.code == 2
    assert "off.onnx: no such file or directory; run explain in the folder of that run" in moved.err
