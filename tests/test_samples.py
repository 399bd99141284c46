"""Many samples of a case: run one by one, judged as a whole, resumed, with labels and a metric of the user's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.check.samples.sample_rows import Ratio, SampleLog, SampleRow, UserMetric, progress_of_samples
from harness.check.samples.sample_summary import WORST, SampleSummary
from harness.compare.decisions import count_decisions, wilson_interval
from harness.errors import UsageError
from harness.spec.language.case import DataSettings
from harness.spec.language.tolerances import Decisions, Exact, Sqnr, Tolerance
from harness.spec.targets import parse_target
from tests.conftest import Call

COUNT, FEATURES, CLASSES = 40, 6, 4
SPEC = """
harness: 1
cases:
  - name: net
    layer: Linear
    args: {in_features: 6, out_features: 4}
    weights: net.pt
    samples: data/
"""
TARGET = "onnx-torchscript@17/ort-cpu"
METRIC = """
def right(scores, label):
    return float(scores.argmax() == label)

def wrong_of_all(scores, label):
    return (int(scores.argmax() != label), 1)

def distance(scores, expected):
    return abs(scores - expected).max()

def text(scores, label):
    return "good"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder ``specs`` with a net, samples with labels of which every tenth is wrong, and the labels in one file."""
    folder = tmp_path / "specs"
    (folder / "data").mkdir(parents=True)
    torch.manual_seed(0)
    net = nn.Linear(FEATURES, CLASSES)
    torch.save(net.state_dict(), folder / "net.pt")
    generator = np.random.default_rng(0)
    labels = []
    for index in range(COUNT):
        x = generator.normal(size=(1, FEATURES)).astype(np.float32)
        right = int(net(torch.from_numpy(x)).argmax())
        labels.append(right if index % 10 else (right + 1) % CLASSES)
        np.savez(folder / "data" / f"{index}.npz", x=x, label=labels[-1])
    np.save(folder / "labels.npy", np.array(labels))
    (folder / "metrics.py").write_text(METRIC)
    return folder


@pytest.fixture
def run(harness: Call, data: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the spec with further lines of its case; the row, and what the command printed."""
    monkeypatch.chdir(data.parent)

    def run(*lines: str, target: str = TARGET, code: int | None = 0, options: tuple[str, ...] = ()) -> Any:
        text = SPEC + "".join(f"    {line}\n" for line in lines)
        (data / "net.yaml").write_text(text)
        ran = harness("run", "specs", "--no-latency", "--targets", target, *options)
        assert code is None or ran.code == code, ran.out + ran.err
        return ran

    return run


def _share(right: int) -> str:
    low, high = wilson_interval(right, COUNT)
    return f"{100 * right / COUNT:.4g} % ({right} of {COUNT}), 95 % interval {100 * low:.4g} to {100 * high:.4g} %"


def _drop_labels(data: Path) -> None:
    for path in (data / "data").glob("*.npz"):
        with np.load(path) as file:
            x = file["x"]
        np.savez(path, x=x)


def test_samples_with_labels_have_a_table_the_worst_of_them_agreement_and_accuracy(run: Any) -> None:
    ran = run("labels: {key: label}", "allowed_drop: 0.01")
    (row,) = ran.report["results"]
    samples = row["samples"]
    assert (row["status"], samples["samples"], samples["failing"]) == ("passed", COUNT, 0)
    assert samples["decisions"]["agree"] == COUNT
    assert samples["decisions"]["interval"] == pytest.approx(wilson_interval(COUNT, COUNT))
    assert [samples["accuracy"][side]["agree"] for side in ("reference", "target")] == [36, 36]
    assert samples["accuracy"]["reference"]["interval"] == pytest.approx(wilson_interval(36, COUNT))
    assert len(samples["table"]["sample"]) == len(samples["table"]["sqnr"]) == COUNT
    assert samples["table"]["sample"][9:11] == ["9.npz", "10.npz"]
    assert len(samples["worst"]) == WORST
    assert [each["sqnr"] for each in samples["worst"]] == sorted(each["sqnr"] for each in samples["worst"])
    assert f"net/net on {TARGET}: 40 samples: agreement 100 % (40 of 40)" in ran.out
    assert f"reference's accuracy {_share(36)}" in " ".join(ran.out.split())


def test_labels_in_a_file_of_their_own_are_those_in_the_samples(run: Any, data: Path) -> None:
    _drop_labels(data)
    (row,) = run("labels: labels.npy").report["results"]
    assert row["samples"]["accuracy"]["target"]["agree"] == 36


def test_a_share_of_decisions_is_that_of_all_samples_and_the_worst_one_is_explained(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = "tolerance: {{decisions: {{at_least: {}}}}}"
    labels = "labels: {key: label}"
    (row,) = run(labels, rule.format(0.6), target="onnx-torchscript@17+int8?reduce_range=on/ort-cpu").report["results"]
    decisions = row["samples"]["decisions"]
    assert row["outputs"][0]["tolerance"].endswith("over all samples")
    assert decisions["agree"] <= decisions["of"] == COUNT


def test_a_model_that_decides_otherwise_fails_by_its_share_with_the_sample_that_shows_it(run: Any, data: Path) -> None:
    _export_wrong(data)
    (row,) = run(
        "labels: {key: label}",
        "files: {other: other.onnx}",
        "tolerance: {decisions: {at_least: 0.99}}",
        "allowed_drop: 0.05",
        target="file:other/ort-cpu",
        code=1,
    ).report["results"]
    assert row["status"] == "failed"
    assert "decisions by argmax over all samples differ; agreement " in row["message"]
    assert "accuracy " in row["message"]
    assert "worse by " in row["message"]
    assert "at sample " in row["message"]
    assert row["blame"] == "exporter"
    assert row["samples"]["worst"][0]["agree"] == 0


def _export_wrong(data: Path) -> None:
    """The net with one class's bias raised, so that it wins too often."""
    net = nn.Linear(FEATURES, CLASSES)
    net.load_state_dict(torch.load(data / "net.pt"))
    with torch.no_grad():
        net.bias[1] += 0.8
    inputs = (torch.zeros(1, FEATURES),)
    torch.onnx.export(net, inputs, data / "other.onnx", dynamo=False, input_names=["x"], output_names=["y"])


def test_a_single_sample_that_breaks_a_rule_fails_the_check_and_is_named(run: Any, data: Path) -> None:
    _drop_labels(data)
    _export_wrong(data)
    (row,) = run("files: {other: other.onnx}", target="file:other/ort-cpu", code=1).report["results"]
    assert row["samples"]["failing"] == COUNT
    assert row["blame"] == "exporter"


def test_layers_of_a_file_are_not_compared_at_a_sample_and_a_note_says_so(run: Any, data: Path) -> None:
    _export_wrong(data)
    lines = ("files: {other: other.onnx}", "labels: {key: label}", "tolerance: {decisions: {at_least: 0.99}}")
    ran = run(*lines, target="file:other/ort-cpu", code=1, options=("--layers",))
    note = ran.report["results"][0]["notes"][-1]
    assert note.startswith("no layers: the layers of a file are compared at the case's own inputs only, not at sample ")


def test_a_metric_of_the_user_is_compared_with_the_references(run: Any, data: Path) -> None:
    allow = ("--allow-import",)
    named = "metric: metrics.py:{}"
    (row,) = run("labels: {key: label}", named.format("right"), "allowed_drop: 0", options=allow).report["results"]
    assert row["samples"]["metric"] == {
        "name": str(data / "metrics.py") + ":right",
        "better": "higher",
        "reference": 0.9,
        "target": 0.9,
        "drop": 0.0,
    }
    lines = ("labels: {key: label}", named.format("wrong_of_all"), "better: lower")
    (row,) = run(*lines, options=allow).report["results"]
    assert row["samples"]["metric"]["target"] == pytest.approx(0.1)


def test_a_metric_that_drops_too_far_fails_and_names_both_values(run: Any, data: Path) -> None:
    _export_wrong(data)
    ran = run(
        "files: {other: other.onnx}",
        "labels: {key: label}",
        "metric: metrics.py:wrong_of_all",
        "better: lower",
        "allowed_drop: 0.02",
        "tolerance: {cosine: -1}",
        target="file:other/ort-cpu",
        options=("--allow-import",),
        code=1,
    )
    (row,) = ran.report["results"]
    assert "the reference's 0.1: worse by " in row["message"]
    assert row["message"].endswith("allowed: at most 0.02")
    assert row["blame"] is None


def test_without_labels_the_metric_takes_the_references_output(run: Any, data: Path) -> None:
    _drop_labels(data)
    (row,) = run("metric: metrics.py:distance", "better: lower", options=("--allow-import",)).report["results"]
    assert row["samples"]["metric"]["reference"] == 0
    assert 0 <= row["samples"]["metric"]["target"] < 1e-5


def test_a_metric_that_gives_no_number_is_the_users_mistake(run: Any) -> None:
    ran = run("labels: {key: label}", "metric: metrics.py:text", options=("--allow-import",), code=1)
    (row,) = ran.report["results"]
    assert (row["status"], row["stage"], row["blame"]) == ("error", "compare", None)
    assert "it gives good for sample 0.npz; return a number, or a pair" in row["message"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["metric: metrics.py:right"], "metric: metrics.py:right would run code; pass --allow-import to allow it"),
        (["allowed_drop: 0.1"], "allowed_drop: nothing is measured that could drop; add `labels:` or `metric:`"),
        (["labels: 3"], "labels: 3 names no labels; write a file with one label for each sample"),
        (["labels: {key: nothing}"], "samples: 0.npz: no array 'nothing' with the label; it holds x, label"),
        (["labels: short.npy"], "labels: short.npy has shape [3], and there are 40 samples; give one label for each"),
        (["labels: {key: label}", "better: more"], "better: more is not allowed here; write one of higher, lower"),
    ],
)
def test_what_is_wrong_about_samples_is_said_before_anything_runs(
    run: Any, data: Path, lines: list[str], message: str
) -> None:
    np.save(data / "short.npy", np.zeros(3))
    ran = run(*lines, code=2)
    assert message in ran.err, ran.err


def test_labels_that_do_not_fit_the_decisions_are_named(run: Any, data: Path) -> None:
    np.save(data / "labels.npy", np.zeros((COUNT, 2)))
    _drop_labels(data)
    (row,) = run("labels: labels.npy", code=1).report["results"]
    assert row["message"].endswith("labels: sample 0.npz has 2 labels and 1 decisions; give one for each")
    np.save(data / "labels.npy", np.where(np.arange(COUNT) == 20, CLASSES, 0))
    (row,) = run("labels: labels.npy", code=1).report["results"]
    assert "sample 20.npz has the label 4, and the candidates are 0 to 3; number them so" in row["message"]
    np.save(data / "labels.npy", np.full(COUNT, "cat"))
    (row,) = run("labels: labels.npy", code=1).report["results"]
    assert "sample 0.npz has the label cat, and the candidates are 0 to 3; number them so" in row["message"]


def test_a_sample_that_the_model_refuses_is_named(run: Any, data: Path) -> None:
    _drop_labels(data)
    np.savez(data / "data" / "39.npz", x=np.full((1, FEATURES), 3e38, np.float32))
    (row,) = run(target="onnx-torchscript@17+int8/ort-cpu", code=None).report["results"]
    assert row["status"] in {"passed", "failed"}
    (data / "data" / "40.npz").write_bytes(b"not an archive")
    ran = run(code=2)
    assert "40.npz" in ran.err


def test_arrays_without_names_are_the_only_input(run: Any, data: Path) -> None:
    for path in (data / "data").glob("*.npz"):
        with np.load(path) as file:
            np.save(path.with_suffix(".npy"), file["x"])
        path.unlink()
    (row,) = run("labels: labels.npy", "inputs: {x: {shape: [1, 6]}}").report["results"]
    assert row["samples"]["accuracy"]["reference"]["agree"] == 36


def test_a_run_goes_on_from_the_rows_of_an_interrupted_one(run: Any, data: Path) -> None:
    first = run("labels: {key: label}").report["results"][0]
    report = data.parent / "reports" / "latest"
    assert not (report / "samples").exists()
    case, target = _case(data), parse_target(TARGET)
    log = SampleLog(report / "samples", case, target, first["artifact"])
    log.add(SampleRow(3, "3.npz", max_abs=0.5, sqnr=1.0, signal=(1.0,), noise=(0.5,), agree=1, of=1, correct=(1, 1)))
    with next((report / "samples").glob("*.jsonl")).open("a") as file:
        file.write('{"index": 4, "sam')  # torn
    assert list(progress_of_samples(report / "samples")) == [f"net/net on {TARGET}: 2 of 40 samples"]
    (row,) = run("labels: {key: label}", options=("--resume",)).report["results"]
    assert row["samples"]["table"]["max_abs"][3] == 0.5  # as it was written; all others are measured
    assert row["samples"]["samples"] == COUNT
    (row,) = run("labels: {key: label}").report["results"]
    assert row["samples"]["table"]["max_abs"][3] < 0.1


def _case(data: Path) -> Any:
    from harness.spec.discovery import load_specs

    return load_specs([str(Path("specs"))]).cases[0]


def test_compare_takes_a_folder_of_many_samples(harness: Call, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _drop_labels(data)
    _export_wrong(data)
    monkeypatch.chdir(data)
    ran = harness("compare", "other.onnx", "other.onnx", "--inputs", "data")
    assert ran.code == 0, ran.out + ran.err
    assert "samples    40 samples: SQNR (dB) " in ran.out


def test_every_format_holds_what_came_of_the_samples(run: Any, data: Path) -> None:
    run("labels: {key: label}", options=("--format", "json,md,csv,html"))
    report = data.parent / "reports" / "latest"
    assert "## Samples" in (report / "report.md").read_text()
    assert _share(36) in (report / "report.md").read_text()
    header, row = (report / "report.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=False))
    assert {"samples", "reference_accuracy", "psnr", "kl", "top5", "decisions_share"} <= cells.keys()
    assert json.loads((report / "report.json").read_text())["results"][0]["samples"]["samples"] == COUNT


# The summary


def _summary(rule: Decisions | Sqnr | None = None, **settings: Any) -> SampleSummary:
    decisions = rule if isinstance(rule, Decisions) else None
    return SampleSummary(Tolerance(rule or Exact()), DataSettings(**settings), decisions)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_holds_the_share_and_lies_between_0_and_1(successes: int, of: int) -> None:
    successes = min(successes, of)
    low, high = wilson_interval(successes, of)
    assert 0 <= low <= successes / of <= high <= 1
    assert low < high
    assert (low == 0) == (successes == 0)
    assert (high == 1) == (successes == of)


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_interval_mirrors_and_narrows_with_more_decisions(successes: int, of: int) -> None:
    successes = min(successes, of)
    low, high = wilson_interval(successes, of)
    assert wilson_interval(of - successes, of) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    low4, high4 = wilson_interval(4 * successes, 4 * of)
    assert high4 - low4 < high - low


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_ends_of_the_interval_are_as_far_as_the_normal_quantile_allows(successes: int, of: int) -> None:
    successes = min(successes, of)
    for end in wilson_interval(successes, of):
        if 0 < end < 1:  # Wilson's definition: |share - p| = z sqrt(p (1 - p) / n)
            distance = abs(successes / of - end)
            assert distance == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / of), abs=1e-9)


def test_nothing_counted_leaves_the_share_open() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0, 1e6)), min_size=1, max_size=40))
def test_the_ratio_of_all_samples_is_that_of_their_sums(parts: list[tuple[float, float]]) -> None:
    summary = _summary(Sqnr(0.0, pooled=True))
    for index, (signal, noise) in enumerate(parts):
        summary.add(SampleRow(index, str(index), signal=(signal,), noise=(noise,)))
    signal, noise = (math.fsum(part) for part in zip(*parts, strict=True))
    expected = 10 * math.log10(signal / noise) if noise else math.inf
    (ratio,) = summary.to_json()["sqnr"]
    assert ratio == pytest.approx(expected)
    assert bool(list(summary.problems())) == (ratio < 0)


def test_ties_mean_nothing_for_the_share_of_all_samples() -> None:
    summary = _summary(Decisions(at_least=0.9, pooled=True))
    for index in range(10):
        summary.add(SampleRow(index, str(index), agree=index % 2, ties=1 - index % 2, of=1, decision=float(index)))
    assert not list(summary.problems())
    assert summary.to_json()["decisions"] | {"interval": []} == {
        "by": "argmax",
        "agree": 5,
        "of": 5,
        "ties": 5,
        "share": 1.0,
        "interval": [],
    }


def test_labels_alone_judge_no_decision() -> None:
    summary = SampleSummary(Tolerance(Exact()), DataSettings(label_key="label"), Decisions(), judged=False)
    summary.add(SampleRow(0, "0", agree=1, of=3, correct=(2, 1)))
    assert (list(summary.problems()), summary.inconclusive) == ([], None)
    assert (summary.to_json()["decisions"]["agree"], summary.to_json()["accuracy"]["drop"]) == (1, pytest.approx(1 / 3))


def test_a_decision_among_nan_means_nothing() -> None:
    expected = np.array([[0.0, 1.0], [np.nan, 1.0], [1.0, 0.0]])
    counts = count_decisions(Decisions(), np.array([[0.0, 1.0], [np.nan, 1.0], [np.nan, 0.0]]), expected, None)
    assert not isinstance(counts, str)
    assert (counts.agree, counts.ties, counts.of) == (2, 1, 3), "NaN for a number is an argmax that counts"
    other = count_decisions(Decisions(), expected[::-1], expected, expected)
    assert not isinstance(other, str)
    assert (other.agree, other.ties, other.first) == (0, 1, (0,))


def test_only_ties_and_one_decision_for_all_are_inconclusive() -> None:
    ties, constant = (_summary(Decisions(at_least=0.9, pooled=True)) for _ in range(2))
    ties.add(SampleRow(0, "a", ties=1, of=1))
    assert ties.inconclusive == "all decisions are ties, so none was compared"
    for index in range(10):
        constant.add(SampleRow(index, str(index), agree=1, of=1, decision=2.0))
    assert "the reference decides 2 for 100 % of the samples" in str(constant.inconclusive)


@pytest.mark.parametrize(("better", "drop"), [("higher", 0.25), ("lower", -0.25)])
def test_a_drop_is_a_change_for_the_worse(better: Any, drop: float) -> None:
    summary = _summary(metric="a:b", better=better, allowed_drop=0.1)
    for index in range(4):
        summary.add(SampleRow(index, str(index), metric=(Ratio(1, 1), Ratio(float(index > 0), 1))))
    assert summary.drop == drop
    assert bool(list(summary.problems())) == (drop > 0.1)


@pytest.mark.parametrize(
    ("settings", "metric", "message"),
    [
        ({"metric": "a:b"}, (Ratio(0, 1), Ratio(0, 0)), "metric a:b was not measured: its denominators sum to 0"),
        ({}, None, "accuracy was not measured: no floating output decides"),
    ],
)
def test_a_drop_that_was_not_measured_is_no_pass(settings: Any, metric: Any, message: str) -> None:
    summary = _summary(**settings, allowed_drop=0.1)
    summary.add(SampleRow(0, "a", metric=metric))
    (problem,) = summary.problems()
    assert problem.startswith(message)
    summary.settings = DataSettings(**settings)
    assert not list(summary.problems())


def test_a_metric_that_raises_is_named() -> None:
    def fails(_output: Any, _label: Any) -> float:
        raise KeyError("no such word")

    metric, answer = UserMetric("metrics.py:fails", fails), {"y": np.zeros(3)}
    with pytest.raises(UsageError, match=r"^metric metrics\.py:fails: it raises KeyError: 'no such word'"):
        metric.measure("0.npz", answer, answer, None)


def test_a_metric_of_pairs_is_the_quotient_of_their_sums() -> None:
    summary = _summary(metric="a:b", better="lower")
    for index, pair in enumerate((Ratio(1, 10), Ratio(3, 2))):
        summary.add(SampleRow(index, str(index), metric=(Ratio(0, 1), pair)))
    assert summary.to_json()["metric"]["target"] == 4 / 12


@given(
    st.floats(allow_nan=False), st.none() | st.integers(0, 5), st.none() | st.tuples(st.floats(0, 9), st.floats(1, 9))
)
def test_a_row_is_read_as_it_was_written(number: float, count: int | None, pair: tuple[float, float] | None) -> None:
    ratios = None if pair is None else (Ratio(*pair), Ratio(*pair))
    correct = None if count is None else (count, count)
    row = SampleRow(1, "ä.npz", "problem", number, number, (number,), (1.0,), 1, 0, 1, None, 2.0, correct, ratios)
    assert SampleRow.from_line(row.to_line()) == row


def test_a_tie_without_a_float64_reference_is_within_the_references_error_elsewhere() -> None:
    expected, actual = np.array([[1.0, 1.001, 0.0]]), np.array([[1.001, 1.0, 0.0]])
    counts = [count_decisions(Decisions(), actual, expected, None, error) for error in (0.0, 0.01)]
    assert [each.ties for each in counts if not isinstance(each, str)] == [0, 1]
