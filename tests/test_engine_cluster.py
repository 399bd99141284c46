"""The same checks on a real Ray cluster, where a machine is killed meanwhile: the report equals the local one."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from harness.engine.cluster import Cluster as ClusterOptions
from harness.engine.cluster.node import read_cache_entries, write_cache_entries
from harness.errors import UsageError
from harness.spec.targets import parse_target
from tests.conftest import Call
from tests.running import Running, report_in
from tests.shadows import run_there, shadow

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
SPEC = """
harness: 1
layer: AvgPool2d
cases:
  - name: windows
    matrix: {args.kernel_size: [2, 3]}
    inputs: {x: {shape: [1, 2, 7, 7]}}
  - name: divided
    args: {kernel_size: 2, divisor_override: 3}
    inputs: {x: {shape: [1, 2, 6, 6]}}
"""
TARGETS = "trace/torch-cpu,onnx-torchscript@17/ort-cpu,onnx-torchscript@17/ort-cpu?threads=2,trace/torch-cuda"
QUIET = ("--no-latency", "--targets", TARGETS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that runs checks, and another machine with a resource; both use another cache than the run."""
    os.environ["HARNESS_CACHE"] = str(tmp_path_factory.mktemp("of-the-machines"))
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    machines.add_node(num_cpus=1, resources={"board": 1})
    del os.environ["HARNESS_CACHE"]
    yield machines
    machines.shutdown()  # type: ignore[no-untyped-call]


def rows(report: dict[str, Any]) -> list[Any]:
    """The rows of a report without their seconds and the places of files, which differ from run to run."""
    return [{key: row[key] for key in row if key not in {"seconds", "artifact_path"}} for row in report["results"]]


def test_the_report_equals_the_local_one_although_a_machine_is_killed(
    cluster: Cluster, harness: Call, here: Path, spec: Any
) -> None:
    spec("pool.yaml", SPEC)
    local = harness("run", "specs", *QUIET, "--no-cache")
    board = cluster.add_node(num_cpus=1)
    journal = here / "reports" / "cluster" / "journal.jsonl"

    def kill() -> None:
        while not (journal.exists() and journal.stat().st_size):
            time.sleep(0.01)
        cluster.remove_node(board, allow_graceful=False)

    killer = Thread(target=kill)
    killer.start()
    ran = harness(
        "run", "specs", *QUIET, "--engine", "ray", "--ray-address", cluster.address, "--report-dir", str(journal.parent)
    )
    killer.join()
    report = json.loads((journal.parent / "report.json").read_text(encoding="utf-8"))
    assert (ran.code, local.code) == (1, 1)
    assert rows(report) == rows(local.report)
    assert {row["status"] for row in report["results"]} == {"passed", "failed", "skipped"}


def test_sigterm_ends_a_run_on_a_cluster_like_a_local_one(cluster: Cluster, here: Path, spec: Any) -> None:
    spec("pool.yaml", SPEC.replace("[2, 3]", str([*range(1, 8)]), 1).replace("[1, 2, 7, 7]", "[1, 2, 14, 14]"))
    on = ("--engine", "ray", "--ray-address", cluster.address, "--no-latency", "--targets", "trace/torch-cpu")
    run = Running(here, "run", "specs", *on)
    run.until(run.journal)
    run.send(signal.SIGTERM, group=False)
    code, _, errors = run.end()
    assert code == 128 + signal.SIGTERM, errors
    assert report_in(here / "reports/latest")["run"]["interrupted_by"] == "SIGTERM"


def test_sigterm_while_the_run_leaves_the_cluster_ends_it_with_the_same_code(
    cluster: Cluster, here: Path, spec: Any
) -> None:
    spec("pool.yaml", SPEC)
    on = ("--engine", "ray", "--ray-address", cluster.address, "--no-latency", "--targets", "trace/torch-cpu")
    run = Running(here, "run", "specs", *on)
    run.until(lambda: len(run.journal()) == 3)  # the last check is done, and Ray shuts down
    run.send(signal.SIGTERM, group=False)
    code, _, errors = run.end()
    assert code == 128 + signal.SIGTERM, errors


def test_exports_are_sent_back_and_used_again(cluster: Cluster, harness: Call, here: Path, spec: Any) -> None:
    spec("pool.yaml", SPEC)
    ray = ("--engine", "ray", "--ray-address", cluster.address, "--ray-resource", "*threads=2=board")
    first = harness("run", "specs", *QUIET, *ray)
    again = harness("run", "specs", *QUIET)
    assert first.report["summary"] == again.report["summary"]
    assert again.report["run"]["exports"]["made"] == 0


def test_a_resource_that_no_machine_has_is_reported_before_anything_runs(
    cluster: Cluster, harness: Call, spec: Any
) -> None:
    spec("pool.yaml", SPEC)
    ray = ("--engine", "ray", "--ray-address", cluster.address, "--ray-resource", "*=moon")
    ran = harness("run", "specs", *QUIET, *ray)
    assert ran.code == 2
    assert ran.err.startswith("--ray-resource moon: no machine of the cluster has it; start one with")


def test_a_timed_check_has_a_machine_to_itself_and_names_it(cluster: Cluster, harness: Call, spec: Any) -> None:
    spec("pool.yaml", SPEC)
    ran = harness(
        "run",
        "specs",
        "-k",
        "divided",
        "--targets",
        "trace/torch-cpu",
        "--engine",
        "ray",
        "--ray-address",
        cluster.address,
    )
    assert ran.code == 0
    assert ran.only["latency"]["machine"]


def test_without_a_cluster_the_message_names_the_next_step(harness: Call, spec: Any) -> None:
    spec("pool.yaml", SPEC)
    ran = harness("run", "specs", *QUIET, "--engine", "ray", "--ray-address", "127.0.0.1:1")
    assert ran.code == 2
    assert "there is no Ray cluster; start one with `ray start --head`" in ran.err


def test_cluster_options_without_the_ray_engine_are_refused(harness: Call, spec: Any) -> None:
    spec("pool.yaml", SPEC)
    assert harness("run", "specs", *QUIET, "--ray-address", "x:1").code == 2


@pytest.mark.parametrize("text", ["board", "=board", "*="])
def test_a_resource_must_name_its_targets(text: str) -> None:
    with pytest.raises(UsageError, match="GLOB=NAME"):
        ClusterOptions.parse(None, [text])


def test_the_demand_of_a_target() -> None:
    options = ClusterOptions.parse(None, ["*/ort-*=board", "onnx-*=big"])
    assert options.demand(parse_target("onnx-dynamo@23/ort-cuda")).gpu
    assert options.demand(parse_target("onnx-dynamo@23/ort-cpu")).resources == ("big", "board")
    assert options.demand(parse_target("trace/torch-cpu")).resources == ()


def test_a_damaged_entry_is_not_used_as_an_export(tmp_path: Path) -> None:
    write_cache_entries({"ab" * 32: {"entry.json": b"{}", "model.onnx": b"x"}}, tmp_path)
    assert read_cache_entries(["ab" * 32], tmp_path) == {}


def test_nothing_in_the_working_directory_runs_on_the_machines(
    cluster: Cluster, harness: Call, here: Path, spec: Any
) -> None:
    """Neither without consent nor with it: consent is for the module that the spec names."""
    ran_there = shadow(here, but=frozenset())
    spec("relu.yaml", "{harness: 1, layer: ReLU, cases: [{name: a, inputs: {x: {shape: [2]}}}]}")
    there = ("--no-latency", "--targets", "trace/torch-cpu", "--engine", "ray", "--ray-address", cluster.address)
    assert harness("run", "specs", *there).only["status"] == "passed"
    (here / "own").mkdir()
    (here / "own" / "net.py").write_text("import torch, pdb, csv\nNet = torch.nn.ReLU\n", encoding="utf-8")
    spec("relu.yaml", "{harness: 1, factory: 'own.net:Net', cases: [{name: a, inputs: {x: {shape: [2]}}}]}")
    ran = harness("run", "specs", "--allow-import", *there)
    assert (ran.only["status"], ran.only["message"]) == ("passed", None)
    assert run_there(ran_there) == []
