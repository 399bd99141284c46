"""``make gpu``: one command checks the CUDA paths on a machine with a GPU and fails on a machine without one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.registry import plugins
from tests.conftest import Call
from tests.without_torch import ROOT

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make on this machine")


def make(folder: Path, *arguments: str, driver: str | None) -> subprocess.CompletedProcess[str]:
    """Run ``make`` with this Makefile in ``folder``; ``driver`` is the script of a fake ``nvidia-smi``, if any."""
    (folder / "bin").mkdir(exist_ok=True)
    smi = folder / "bin" / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{driver or 'exit 127'}\n", encoding="utf-8")
    smi.chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    for name in ("pyproject.toml", "constraints.txt", "harness"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def made(folder: Path, code: int) -> None:
    """Make an up-to-date environment in which ``harness run`` exits with ``code`` and every call is logged."""
    (folder / ".venv-cuda" / "bin").mkdir(parents=True)
    for name in ("pip", "harness"):
        script = f'#!/bin/sh\necho "$@" >> {folder}/asked\n[ "$1" = bench ] || exit {code}\n'
        (folder / ".venv-cuda" / "bin" / name).write_text(script, encoding="utf-8")
        (folder / ".venv-cuda" / "bin" / name).chmod(0o755)
    (folder / ".venv-cuda" / "for-gpu").touch()


def logged_calls(folder: Path) -> list[list[str]]:
    return [shlex.split(line) for line in (folder / "asked").read_text(encoding="utf-8").splitlines()]


@needs_make
def test_without_a_driver_it_refuses_before_anything_is_downloaded(tmp_path: Path) -> None:
    done = make(tmp_path, "gpu", driver=None)
    assert done.returncode != 0
    assert "make gpu: no NVIDIA driver answers here; run it on a machine with an NVIDIA GPU" in done.stderr
    assert "Error 3" in done.stderr
    assert not (tmp_path / ".venv-cuda").exists()


@needs_make
@pytest.mark.parametrize(
    ("code", "calls"), [(0, ["run", "bench"]), (1, ["run", "bench"]), (2, ["run"]), (3, ["run"])], ids=str
)
def test_it_passes_only_where_every_check_is_as_expected(tmp_path: Path, code: int, calls: list[str]) -> None:
    made(tmp_path, code)
    done = make(tmp_path, "gpu", driver="echo 'GPU 0: played'")
    assert [words[0] for words in logged_calls(tmp_path)] == calls
    assert (done.returncode == 0) == (code == 0)


@needs_make
@pytest.mark.skipif(plugins("runtimes")["torch-cuda"].availability().present, reason="there is a GPU: make gpu runs")
def test_what_it_asks_of_harness_is_refused_here_for_want_of_a_gpu_and_for_nothing_else(
    tmp_path: Path, harness: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command line is valid: each one fails here only because there is no GPU."""
    made(tmp_path, 0)
    make(tmp_path, "gpu", driver="echo 'GPU 0: played'")
    monkeypatch.chdir(ROOT)
    for words in logged_calls(tmp_path):
        ran = harness(*words, "--report-dir", str(tmp_path / "report"))
        assert ran.code == 3, ran.err
        assert ran.err.startswith("--require torch-cuda: torch")
        assert not (tmp_path / "report").exists()
