"""What is compiled on this machine: torch.compile and AOTInductor, and what is said where no compiler is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.errors import Unavailable, Unsupported, UsageError
from harness.exporters import Artifact
from harness.registry import plugins
from harness.runtimes import Differentiable
from tests.conftest import Call
from tests.exporting import export, subject

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg")

X = np.array([[-1.0, 2.0, -0.0], [3.0, -4.0, 5.0]], np.float32)
NAMES = ("compile-cpu", "aoti-cpu")


def runtime(name: str) -> Any:
    return plugins("runtimes")[name]


@pytest.fixture
def linear(tmp_path: Path) -> tuple[nn.Module, Artifact]:
    """A linear layer as a program, its batch open."""
    torch.manual_seed(0)
    module = nn.Linear(3, 2).eval()
    given = subject(module, [torch.from_numpy(X)], dynamic={"x0": {0: "N"}})
    return module, export(given, "export", tmp_path / "m.pt2")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """torch.compile hands the module back as it is, and what it was asked for is looked at."""
    asked: list[dict[str, Any]] = []

    def look(module: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        asked.append(options)
        return module

    monkeypatch.setattr(torch, "compile", look)
    return asked


def test_a_program_answers_as_the_module_at_every_size_of_an_open_axis(
    linear: tuple[nn.Module, Artifact], uncompiled: list[dict[str, Any]]
) -> None:
    module, artifact = linear
    assert artifact.format == "program"
    session = runtime("compile-cpu").load(artifact, {"threads": "2", "mode": "max-autotune"})
    for rows in (2, 5):
        given = np.resize(X, (rows, 3))
        answer = session.run({"x": given})
        np.testing.assert_array_equal(answer["output_0"], module(torch.from_numpy(given)).detach().numpy())
    assert uncompiled == [{"options": {"compile_threads": 1, "max_autotune": True}}]
    assert (session.facts()["threads"], session.facts()["optimization"]) == (2, "inductor, max-autotune")
    assert not isinstance(session, Differentiable)
    call = session.bind({"x": X})
    assert not call().requires_grad
    session.close()


def test_a_fixed_axis_stays_fixed(tmp_path: Path, uncompiled: list[dict[str, Any]]) -> None:
    artifact = export(subject(nn.ReLU(), [torch.from_numpy(X)]), "export", tmp_path / "m.pt2")
    session = runtime("compile-cpu").load(artifact, {})
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], np.maximum(X, 0))
    with pytest.raises(Exception, match=r"(?i)shape|size"):
        session.run({"x": X[:1]})


def test_the_package_is_what_is_written_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler takes seconds to minutes; in its place stands one that saves the program."""
    asked: list[dict[str, Any]] = []

    def compiled(program: Any, *, package_path: str, inductor_configs: dict[str, Any]) -> str:
        asked.append(inductor_configs)
        torch.export.save(program, package_path)
        return package_path

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compiled)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path: torch.export.load(path).module())
    artifact = export(subject(nn.ReLU(), [torch.from_numpy(X)]), "aoti", tmp_path / "m.pt2")
    assert artifact.format == "aoti"
    assert artifact.notes == ("compiled for the CPU of this machine",)
    assert asked == [{"compile_threads": 1, "cpp.dynamic_threads": True}]
    session = runtime("aoti-cpu").load(artifact, {})
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], np.maximum(X, 0))
    assert session.facts()["optimization"] == "inductor, ahead of time"


def test_a_module_in_training_is_not_compiled_ahead_of_time(tmp_path: Path) -> None:
    given = subject(nn.Dropout(), [torch.from_numpy(X)], train=True)
    with pytest.raises(Unsupported, match="compiles for inference; use mode: eval"):
        export(given, "aoti", tmp_path / "m.pt2")


@pytest.mark.parametrize("name", NAMES)
def test_without_a_compiler_it_is_absent_and_says_what_would_bring_one(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    available = runtime(name).availability()
    assert available.missing == "there is no C++ compiler no-such-compiler"
    assert available.bring.startswith("apt-get install g++")
    with pytest.raises(Unavailable, match=f"{name}: there is no C\\+\\+ compiler no-such-compiler; apt-get install"):
        runtime(name).load(Artifact("program", tmp_path / "m.pt2", "d"), {})


@pytest.mark.parametrize("name", NAMES)
def test_options_are_read_strictly(name: str) -> None:
    runtime(name).check({"threads": "2"})
    with pytest.raises(UsageError, match="positive whole number"):
        runtime(name).check({"threads": "none"})
    with pytest.raises(UsageError, match="no such option"):
        runtime(name).check({"tf32": "on"})


def test_what_does_not_fit_together_is_refused_with_what_would(harness: Call, spec: Callable[[str, str], Path]) -> None:
    spec("relu.yaml", "harness: 1\nlayer: ReLU\ncases:\n  - {name: a, inputs: {x: {shape: [2]}}}\n")
    ran = harness("run", "specs", "--targets", "export/aoti-cpu")
    assert ran.code == 2
    assert "export makes programs of torch.export, aoti-cpu runs libraries of AOTInductor" in ran.err
    assert "with export use one of compile-cpu" in ran.err
