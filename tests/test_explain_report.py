"""``harness explain --last`` and ``harness explain N``: the report knows the case, the target and the specs."""

from __future__ import annotations

from pathlib import Path

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
