"""``harness cache``: where the exported files are, how much they take, and that they can be removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Call

SPEC = "harness: 1\nlayer: ReLU\ncases: [{name: a, inputs: {x: {shape: [2, 3]}}}]\n"
RUN = ("run", "specs", "--no-latency", "--targets", "trace/torch-cpu")


def test_the_cache_is_shown_and_cleared(
    harness: Call, spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "kept"))
    folder = tmp_path / "kept" / "artifacts"
    assert harness("cache").out == f"{folder}: 0 exports, 0.0 MB\n"
    spec("relu.yaml", SPEC)
    assert harness(*RUN).report["run"]["exports"]["made"] == 1
    assert harness("cache").out.startswith(f"{folder}: 1 export, ")
    assert harness(*RUN).report["run"]["exports"]["made"] == 0
    assert "1 export removed" in harness("cache", "clear").out
    assert not folder.exists()
    assert harness(*RUN).report["run"]["exports"]["made"] == 1


def test_a_link_is_not_followed(harness: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "artifacts").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "kept"))
    ran = harness("cache", "clear")
    assert ran.code == 2
    assert "is a link" in ran.err
    assert (tmp_path / "elsewhere" / "precious.txt").exists()
