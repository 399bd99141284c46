"""torch.compile and AOTInductor compile on this machine; without a C++ compiler they report clear messages."""

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
    """A linear layer and its exported program, with a dynamic batch axis."""
    torch.manual_seed(0)
    module = nn.Linear(3, 2).eval()
    example = subject(module, [torch.from_numpy(X)], dynamic={"x0": {0: "N"}})
    return module, export(example, "export", tmp_path / "m.pt2")


@pytest.fixture
def compile_calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The keyword arguments of torch.compile; a fake replaces it and returns the module unchanged."""
    calls: list[dict[str, Any]] = []

    def fake_compile(module: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        calls.append(options)
        return module

    monkeypatch.setattr(torch, "compile", fake_compile)
    return calls


def test_a_program_computes_what_the_module_does_at_each_size_of_a_dynamic_axis(
    linear: tuple[nn.Module, Artifact], compile_calls: list[dict[str, Any]]
) -> None:
    module, artifact = linear
    assert artifact.format == "program"
    session = runtime("compile-cpu").load(artifact, {"threads": "2", "mode": "max-autotune"})
    for rows in (2, 5):
        x = np.resize(X, (rows, 3))
        outputs = session.run({"x": x})
        np.testing.assert_array_equal(outputs["output_0"], module(torch.from_numpy(x)).detach().numpy())
    assert compile_calls == [{"options": {"compile_threads": 1, "max_autotune": True}}]
    assert (session.facts()["threads"], session.facts()["optimization"]) == (2, "inductor, max-autotune")
    assert not isinstance(session, Differentiable)
    call = session.bind({"x": X})
    assert not call().requires_grad
    session.close()


def test_a_static_axis_refuses_other_sizes(tmp_path: Path, compile_calls: list[dict[str, Any]]) -> None:
    artifact = export(subject(nn.ReLU(), [torch.from_numpy(X)]), "export", tmp_path / "m.pt2")
    session = runtime("compile-cpu").load(artifact, {})
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], np.maximum(X, 0))
    with pytest.raises(Exception, match=r"(?i)shape|size"):
        session.run({"x": X[:1]})


def test_the_package_is_written_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler takes seconds to minutes, so a fake saves the program instead."""
    configurations: list[dict[str, Any]] = []

    def fake_compile(program: Any, *, package_path: str, inductor_configs: dict[str, Any]) -> str:
        configurations.append(inductor_configs)
        torch.export.save(program, package_path)
        return package_path

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fake_compile)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path: torch.export.load(path).module())
    artifact = export(subject(nn.ReLU(), [torch.from_numpy(X)]), "aoti", tmp_path / "m.pt2")
    assert artifact.format == "aoti"
    assert artifact.notes == ("compiled for the CPU of this machine",)
    assert configurations == [{"compile_threads": 1, "cpp.dynamic_threads": True}]
    session = runtime("aoti-cpu").load(artifact, {})
    np.testing.assert_array_equal(session.run({"x": X})["output_0"], np.maximum(X, 0))
    assert session.facts()["optimization"] == "inductor, ahead of time"


def test_a_module_in_training_mode_is_not_compiled_ahead_of_time(tmp_path: Path) -> None:
    example = subject(nn.Dropout(), [torch.from_numpy(X)], train=True)
    with pytest.raises(Unsupported, match="compiles for inference only; use mode: eval"):
        export(example, "aoti", tmp_path / "m.pt2")


@pytest.mark.parametrize("name", NAMES)
def test_without_a_compiler_the_runtime_is_absent_with_instructions(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    available = runtime(name).availability()
    assert available.missing == "C++ compiler no-such-compiler not found"
    assert available.install.startswith("apt-get install g++")
    with pytest.raises(
        Unavailable, match=f"{name}: C\\+\\+ compiler no-such-compiler not found; install with: apt-get install"
    ):
        runtime(name).load(Artifact("program", tmp_path / "m.pt2", "d"), {})


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_and_values_are_refused(name: str) -> None:
    runtime(name).check({"threads": "2"})
    with pytest.raises(UsageError, match="positive whole number"):
        runtime(name).check({"threads": "none"})
    with pytest.raises(UsageError, match="no such option"):
        runtime(name).check({"tf32": "on"})


def test_an_exporter_and_a_runtime_of_different_formats_are_refused(
    harness: Call, spec: Callable[[str, str], Path]
) -> None:
    spec("relu.yaml", "harness: 1\nlayer: ReLU\ncases:\n  - {name: a, inputs: {x: {shape: [2]}}}\n")
    ran = harness("run", "specs", "--targets", "export/aoti-cpu")
    assert ran.code == 2
    assert "export makes programs of torch.export, aoti-cpu runs libraries of AOTInductor" in ran.err
    assert "with export use one of compile-cpu" in ran.err
