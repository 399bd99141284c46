"""``harness explain`` keeps what it found out, and asks other targets side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.explain.kept import folder_digest, key_of
from harness.explain.process import SeparateProcess
from harness.explain.targets import SideChecks, side_processes
from harness.result import Result
from harness.spec.discovery import load_specs
from harness.spec.targets import Target, parse_target
from tests.conftest import Call

NET = """
from pathlib import Path

from torch import nn


def net():
    bound = float((Path(__file__).parent / "data" / "bound.txt").read_text())
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.Hardtanh(-bound, bound), nn.AvgPool2d(2, divisor_override=3))
"""
SPEC = """
harness: 1
cases:
  - {name: net, factory: NET:net, inputs: {image: {shape: [1, 1, 4, 4]}}}
"""
KNOWN = """
- {cases: net/net, targets: onnx-*, stage: compare, symptom: mismatch, reason: The divisor is dropped.}
"""
WORDS = ("explain", "net", "--target", "onnx-torchscript@17/ort-cpu", "--budget", "0.1")
AGAIN = "since nothing has changed; --no-cache explains it again"


@pytest.fixture
def net(spec: Callable[[str, str], Path], here: Path) -> Path:
    """A model of the user's that reads a file; all files are old."""
    name = f"kept_{here.name}"
    (here / "data").mkdir()
    (here / "data" / "bound.txt").write_text("2.0", encoding="utf-8")
    (here / f"{name}.py").write_text(NET, encoding="utf-8")
    spec("net.yaml", SPEC.replace("NET", name))
    for path in here.rglob("*"):
        os.utime(path, (1e9, 1e9))
    return here / f"{name}.py"


def test_a_check_is_explained_again_if_anything_changed_that_it_depends_on(
    harness: Call, net: Path, here: Path
) -> None:
    words = (*WORDS, "--allow-import", "--private", "-o", "reports/explain/net-net.py")
    model = here / "reports" / "explain" / "net-net-nodes" / "model.onnx"

    def is_kept(*more: str, code: int = 1) -> bool:
        ran = harness(*words, *more)
        assert (ran.code, model.exists()) == (code, True), ran.err
        return AGAIN in ran.err

    assert [is_kept(), is_kept(), is_kept("--no-cache")] == [False, True, False]
    model.unlink()
    assert not is_kept(), "the failing nodes are missing"
    for path, when in ((here / "data" / "bound.txt", 1.1e9), (net, time.time() + 600)):
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        os.utime(path, (when, when))
        assert not is_kept(), path
    assert not is_kept(), "a file that was written meanwhile may have been read before"
    (here / "known.yaml").write_text(KNOWN, encoding="utf-8")
    assert not is_kept("--known-failures", "known.yaml", code=0)


def test_the_script_and_the_log_of_an_explanation_are_no_changes(harness: Call, net: Path, here: Path) -> None:
    words = (*WORDS, "--allow-import", "--private", "-o", "issue.py")
    descriptor = os.dup(1)
    kept = []
    try:
        for text in ("begun\n", "longer than before\n"):
            with (here / "log").open(
                "w", encoding="utf-8"
            ) as log:  # as the shell does with `harness explain ... > log`
                log.write(text)
                log.flush()
                os.dup2(log.fileno(), 1)
                kept.append(AGAIN in harness(*words).err)
        (net.parent / "other.py").write_text("", encoding="utf-8")
        os.dup2(descriptor, 1)
        kept.append(AGAIN in harness(*words).err)
    finally:
        os.dup2(descriptor, 1)
        os.close(descriptor)
    assert kept == [False, True, False], "another file beside them is a change"


TARGETS = [parse_target(text) for text in ("trace/torch-cpu", "script/torch-cpu", "onnx-dynamo@18/reference")]


def test_an_explanation_is_kept_for_one_folder_one_search_path_and_one_installation(
    net: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = here / "installed" / "site-packages" / "own-1.0.dist-info"
    package.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(package.parent))
    (case,) = load_specs(["specs"], allow_import=True).cases
    before = key_of(case, TARGETS[0], ())
    assert key_of(case, TARGETS[0], ()) == before
    os.utime(package, (1e9, 1e9))
    installed_again = key_of(case, TARGETS[0], ())
    monkeypatch.syspath_prepend(str(net.parent / "modules"))
    found_elsewhere = key_of(case, TARGETS[0], ())
    monkeypatch.chdir(here / "data")
    assert len({before, installed_again, found_elsewhere, key_of(case, TARGETS[0], ())}) == 4


def test_a_copy_with_the_size_and_the_time_of_the_old_file_is_a_change(here: Path) -> None:
    weights = here / "net.pt"
    weights.write_bytes(b"old")
    os.utime(weights, (1e9, 1e9))
    before = folder_digest(here)
    assert folder_digest(here) == before
    copy = here.parent / "copy.pt"
    copy.write_bytes(b"new")
    os.utime(copy, (1e9, 1e9))
    copy.replace(weights)
    assert folder_digest(here) != before


def test_a_model_whose_module_was_missing_is_explained_again(harness: Call, net: Path) -> None:
    elsewhere = net.rename(net.parent / "data" / net.name)
    words = (*WORDS, "--allow-import")
    missing = "No module named"
    assert missing in harness(*words).out
    assert AGAIN in harness(*words).err
    elsewhere.rename(net)
    again = harness(*words)
    assert AGAIN not in again.err
    assert missing not in again.out


def test_other_targets_without_an_answer_in_time_are_named_and_errors_are_raised() -> None:
    processes: list[SeparateProcess] = [object(), object()]  # type: ignore[list-item]
    asked: dict[int, list[str]] = {id(each): [] for each in processes}

    def check(process: SeparateProcess, target: Target, _left: float) -> Result | None:
        asked[id(process)].append(str(target))
        return None if target.exporter == "script" else Result("case", str(target), "passed")

    results, unanswered = SideChecks(processes, TARGETS, check, 60.0).results()
    assert [each.target for each in results] == ["trace/torch-cpu", "onnx-dynamo@18/reference"]
    assert unanswered == (TARGETS[1],)
    assert sorted(map(len, asked.values())) == [1, 2], "both processes have work"
    assert SideChecks(processes, TARGETS, check, 0.0).results() == ((), tuple(TARGETS))

    def fail(*_: object) -> Result:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        SideChecks(processes, TARGETS, fail, 60.0).results()


def test_no_process_is_started_for_a_model_that_memory_does_not_hold_twice() -> None:
    assert side_processes(TARGETS, 2**60) == 0
    assert 1 <= side_processes(TARGETS, 2**20) <= 3
