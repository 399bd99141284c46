"""The report on precisions: its models run on their own samples, and it shows what the commands wrote."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.sensitivity import nets, samples
from benchmarks.sensitivity.__main__ import MODELS, Model
from benchmarks.sensitivity.report import Run, saved_runs, write_report

REPORT = Path(__file__).parents[1] / "reports" / "precision.md"


@pytest.mark.parametrize("model", [model for model in MODELS if not model.is_file], ids=lambda model: model.name)
def test_a_network_answers_differently_to_different_samples(model: Model) -> None:
    torch.manual_seed(0)
    net = getattr(nets, model.name)()
    first, second, *_ = list(model.inputs())
    with torch.no_grad():
        one, other = (
            net(**{label: torch.from_numpy(values) for label, values in each.items()}) for each in (first, second)
        )
    assert one.shape == other.shape
    assert torch.isfinite(one).all()
    assert (one - other).abs().max() > 1e-3


def test_the_samples_of_files_are_as_those_files_take_them() -> None:
    lines = list(samples.text_samples())
    assert {each["x"].shape for each in lines} == {(1, 3, 48, 320)}
    assert all(-1 <= each["x"].min() < -0.9 < 0.9 < each["x"].max() <= 1 for each in lines)
    assert len({each["x"].tobytes() for each in lines}) == len(lines)
    contents = list(samples.byte_samples())
    assert {(each["bytes"].shape, each["bytes"].dtype) for each in contents} == {((1, 2048), np.dtype(np.int32))}
    assert bytes(contents[0]["bytes"][0, :9].astype(np.uint8)) == b"# harness"


def test_runs_are_saved_and_reported_with_those_that_failed(tmp_path: Path) -> None:
    Run("bert", "ids", "sensitivity bert --to int8 --sqnr 35", 3, 1.0, "no memory", tmp_path / "bert" / "int8").save()
    write_report(saved_runs(tmp_path / "bert"), ["magika"], tmp_path / "precision.md")
    text = (tmp_path / "precision.md").read_text(encoding="utf-8")
    assert "Not run, because their files were not there: magika." in text
    assert "exit code 3" in text
    assert "no memory" in text


def test_the_committed_report_has_every_model_and_its_pictures() -> None:
    text = REPORT.read_text(encoding="utf-8")
    assert {model.name for model in MODELS} <= set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert pictures
    assert all((REPORT.parent / picture).is_file() for picture in pictures)
