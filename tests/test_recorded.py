"""``harness run DIR`` on recorded models, from the folder to the report's row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx.backend.test.loader import DATA_DIR

from harness.data_files.onnx_files import from_array
from harness.runtimes.onnxruntime import library
from harness.spec.known_failures import load_known_failures
from harness.spec.targets import parse_target
from tests.conftest import Call, Ran
from tests.recorded_models import FLOAT, X, graph, one_node, record, relu, tensor

ORT = "file/ort-cpu"
QUIET = "--no-latency"
ROOT = Path(__file__).resolve().parent.parent


def both(ran: Ran, case: str) -> list[tuple[str, str | None]]:
    """The status and the message of a case on ONNX Runtime and on the reference."""
    rows = (ran.rows[case, target] for target in (ORT, "file/reference"))
    return [(row["status"], row["message"]) for row in rows]


# Folders and names of models


def test_a_recorded_model_passes_and_is_timed(harness: Call, here: Path) -> None:
    relu(here / "net")
    ran = harness("run", "net")
    assert ran.code == 0
    row = ran.only
    assert (row["case"], row["target"], row["status"]) == ("net", ORT, "passed")
    (output,) = row["outputs"]
    assert (output["name"], output["of"], output["tolerance"]) == ("y", 3, "rtol 0.001 + atol 1e-07")
    assert row["latency"]["median_us"] > 0
    assert row["latency"]["eager_us"] is None
    assert len(row["artifact"]) == 64
    assert list(row["seconds"]) == ["build", "load", "run", "compare"]


def test_ids_are_paths_below_the_root(harness: Call, here: Path) -> None:
    relu(here / "suite" / "node" / "test_relu")
    relu(here / "suite" / "test_relu")
    ran = harness("run", "suite", QUIET)
    assert [row["case"] for row in ran.report["results"]] == ["node/test_relu", "test_relu"]


def test_specs_and_recorded_models_run_together(harness: Call, here: Path, spec: Callable[[str, str], Path]) -> None:
    spec("relu.yaml", "{harness: 1, layer: ReLU, cases: [{name: a, inputs: {x: {values: [1.0, -2.0]}}}]}")
    relu(here / "net")
    ran = harness("run", "specs", "net", QUIET, "-j", "1", "--targets", "trace/torch-cpu,reference")
    assert ran.code == 0
    assert set(ran.rows) == {("relu/a", "trace/torch-cpu"), ("net", "file/reference")}


def test_a_path_may_be_the_model_file(harness: Call, here: Path) -> None:
    relu(here / "net")
    assert harness("run", "net/model.onnx", QUIET).only["case"] == "net"


def test_list_and_check_include_recorded_models(harness: Call, here: Path) -> None:
    relu(here / "net")
    assert "1 case x 1 target = 1 check" in harness("list", "net").out
    assert "1 case in 1 file, " in harness("check", "net").out


def test_known_failures_beside_recorded_models_apply(harness: Call, here: Path) -> None:
    relu(here / "suite" / "test_relu", output=X)
    entry = "- {cases: test_relu, targets: file/ort-cpu, stage: compare, symptom: mismatch, reason: made so}\n"
    (here / "suite" / "known-failures.yaml").write_text(entry, encoding="utf-8")
    ran = harness("run", "suite", QUIET)
    assert (ran.code, ran.only["status"], ran.only["reason"]) == (0, "known", "made so")


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ("reference", ["file/reference"]),
        ("file/reference,ort-cpu", ["file/reference", ORT]),
        ("ort-cp*", [ORT]),
        ("file/ref*", ["file/reference"]),
        ("default", [ORT]),
        ("file/ort-cpu?threads=2", ["file/ort-cpu?threads=2"]),
        ("ort-cpu?threads=2", ["file/ort-cpu?threads=2"]),
        ("ort-cpu?optimization=disabled&threads=2,ort-cpu", ["file/ort-cpu?optimization=disabled&threads=2", ORT]),
    ],
)
def test_targets_are_selected_by_runtime(harness: Call, here: Path, words: str, targets: list[str]) -> None:
    relu(here / "net")
    ran = harness("run", "net", QUIET, "--targets", words)
    assert [row["target"] for row in ran.report["results"]] == targets


@pytest.mark.parametrize("glob", ["ort-*", "file/*", "*"])
def test_a_glob_selects_the_available_runtimes(harness: Call, here: Path, glob: str) -> None:
    relu(here / "net")
    ran = harness("run", "net", QUIET, "--targets", glob)
    assert ran.code == 0
    assert (ORT, "passed") in {(row["target"], row["status"]) for row in ran.report["results"]}
    assert not any(row["status"] == "skipped" for row in ran.report["results"])


def test_a_missing_runtime_is_reported(harness: Call, here: Path) -> None:
    relu(here / "net")
    row = harness("run", "net", QUIET, "--targets", "ort-qnn").only
    assert (row["status"], row["symptom"]) == ("skipped", "unavailable")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trace/torch-cpu", "none of them fits net, which is a model file; add one such as file/ort-cpu"),
        ("file@17/ort-cpu", "a file is verified as it is; write file/ort-cpu"),
        ("file+fixes/ort-cpu", "a file is verified as it is; write file/ort-cpu"),
        ("file/torch-cpu", "file makes ONNX, torch-cpu runs TorchScript"),
        ("fil/ort-cpu", "did you mean file?"),
        ("ort-cpp", "no target set named"),
        ("ort-cpp?threads=2", "file/ort-cpp?threads=2: no runtime ort-cpp; did you mean ort-cpu?"),
        ("ort-cpu?optimisation=disabled", "ort-cpu has no option optimisation; did you mean optimization?"),
        (
            "ort-cpu?optimization=none",
            "option optimization=none: unknown value; use one of all, extended, basic, disab",
        ),
        ("ort-cpu?threads", "'threads' is not an option; write ?option=value&..."),
        ("reference?threads=2", "reference has no option threads; it has none"),
        ("torch-cpu?threads=2", "file makes ONNX, torch-cpu runs TorchScript"),
    ],
)
def test_a_target_that_takes_no_file_is_refused(harness: Call, here: Path, words: str, message: str) -> None:
    relu(here / "net")
    ran = harness("run", "net", "--targets", words)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


# Correct results


def test_a_wrong_recorded_answer_fails_and_is_not_blamed_on_the_runtime(harness: Call, here: Path) -> None:
    relu(here / "net", output=np.array([[1.0, 0.0, 3.1]], np.float32))
    ran = harness("run", "net", QUIET, "--targets", "ort-cpu,reference")
    assert ran.code == 1
    row = ran.rows["net", ORT]
    assert (row["status"], row["stage"], row["symptom"], row["blame"]) == ("failed", "compare", "mismatch", "spec")
    assert "1 of 3 values differs by more than the tolerance; worst at [0, 2]: 3, expected 3.1" in row["message"]
    assert "the recorded answer is not what the file computes" in row["evidence"]
    other = ran.rows["net", "file/reference"]
    assert (other["status"], other["blame"]) == ("failed", None)
    assert "record them again" in (here / "reports" / "latest" / "report.md").read_text(encoding="utf-8")


def test_a_kernel_that_loses_nan_is_blamed(harness: Call, here: Path) -> None:
    x = np.array([[[[np.nan, 1.0]]]], np.float32)
    pool = one_node("MaxPool", kernel_shape=[1, 2])
    record(here / "net", pool, [x], [np.full((1, 1, 1, 1), np.nan, np.float32)])
    row = harness("run", "net", QUIET).only
    assert (row["status"], row["blame"]) == ("failed", "kernel")
    assert "is finite, expected NaN; first at [0, 0, 0, 0]" in row["message"]


def test_random_numbers_are_not_blamed(harness: Call, here: Path) -> None:
    record(here / "net", one_node("RandomNormalLike", seed=1.0), [X], [X])
    row = harness("run", "net", QUIET).only
    assert (row["status"], row["blame"]) == ("failed", None)
    assert "draws random numbers (RandomNormalLike)" in row["evidence"][0]


@pytest.mark.parametrize("stray", [np.nan, np.inf])
def test_a_finite_value_where_a_nonfinite_one_was_recorded_fails(harness: Call, here: Path, stray: float) -> None:
    relu(here / "net", output=np.array([[1.0, 0.0, stray]], np.float32))
    ran = harness("run", "net", QUIET, "--targets", "ort-cpu,reference")
    assert [status for status, _ in both(ran, "net")] == ["failed", "failed"]


def test_nan_where_nan_was_recorded_passes(harness: Call, here: Path) -> None:
    x = np.array([np.nan, 1.0], np.float32)
    record(here / "net", one_node("Neg"), [x], [-x])
    assert harness("run", "net", QUIET).code == 0


def test_each_data_set_is_compared(harness: Call, here: Path) -> None:
    relu(here / "net")
    record(here / "net", one_node("Relu"), [X], [np.maximum(X, 0)], number=2)
    record(here / "net", one_node("Relu"), [X], [X], number=10)
    row = harness("run", "net", QUIET).only
    assert row["status"] == "failed"
    assert [output["at"] for output in row["outputs"]] == [f"test_data_set_{number}" for number in (0, 2, 10)]
    assert row["message"].startswith("at test_data_set_10: y:")


def split(folder: Path, outputs: list[Any]) -> Path:
    two = graph([helper.make_node("Split", ["x"], ["a", "b"])], {"x": tensor()}, {"a": tensor(), "b": tensor()})
    return record(folder, two, [np.arange(4, dtype=np.float32)], outputs)


HALVES = [np.array([0, 1], np.float32), np.array([2, 3], np.float32)]


def test_an_output_that_was_not_recorded_fails(harness: Call, here: Path) -> None:
    split(here / "net", HALVES[:1])
    row = harness("run", "net", QUIET).only
    assert (row["status"], row["message"]) == ("failed", "2 outputs, expected 1 (and 1 more)")


def test_a_recorded_output_that_the_model_lacks_fails(harness: Call, here: Path) -> None:
    split(here / "net", [*HALVES, HALVES[0]])
    row = harness("run", "net", QUIET).only
    assert (row["status"], row["message"]) == ("failed", "2 outputs, expected 3 (and 1 more)")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("output_0.pb", "test_data_set_0 has 1 output file, but no output_0.pb; number them from output_0.pb"),
        ("input_0.pb", "test_data_set_0 has 0 input files, the model 1 input; there must be one for each"),
        ("output_*.pb", "test_data_set_0 has no output file; there is nothing to compare with"),
    ],
)
def test_a_missing_file_is_reported(harness: Call, here: Path, lost: str, message: str) -> None:
    for file in (split(here / "net", HALVES) / "test_data_set_0").glob(lost):
        file.unlink()
    row = harness("run", "net", QUIET).only
    assert (row["status"], row["stage"], row["message"]) == ("error", "build", message)


# Kinds of values


def test_sequences_are_compared_item_by_item(harness: Call, here: Path) -> None:
    numbers = helper.make_sequence_type_proto(tensor())
    model = graph([helper.make_node("Identity", ["s"], ["t"])], {"s": numbers}, {"t": numbers})
    record(here / "suite" / "right", model, [[X, X]], [[X, X]])
    record(here / "suite" / "long", model, [[X, X]], [[X]])
    record(here / "suite" / "empty", model, [[]], [[]])
    ran = harness("run", "suite", "--targets", "ort-cpu,reference")
    assert both(ran, "right") == both(ran, "empty") == [("passed", None)] * 2
    assert both(ran, "long") == [("failed", "3 outputs, expected 2 (and 2 more)")] * 2
    assert [output["name"] for output in ran.rows["right", ORT]["outputs"]] == ["len(t)", "t[0]", "t[1]"]
    assert any("not timed" in note for note in ran.rows["right", ORT]["notes"])


def test_an_empty_optional_is_not_equal_to_a_full_one(harness: Call, here: Path) -> None:
    maybe = helper.make_optional_type_proto(tensor())
    model = graph([helper.make_node("Identity", ["o"], ["p"])], {"o": maybe}, {"p": maybe}, opset=18)
    record(here / "suite" / "full", model, [X], [X])
    record(here / "suite" / "empty", model, [None], [None])
    record(here / "suite" / "wrong", model, [X], [None])
    ran = harness("run", "suite", QUIET)
    assert {case: row["status"] for (case, _), row in ran.rows.items()} == {
        "full": "passed",
        "empty": "passed",
        "wrong": "failed",
    }


NARROW = (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2)
DTYPES: tuple[Any, ...] = (*NARROW, np.float16, np.int8, np.uint64, np.bool_)


def cast_to(dtype: Any) -> ModelProto | None:
    """An identity model for ``dtype``; None if the installed onnx or onnxruntime is too old for it."""
    try:
        number = from_array(np.zeros(1, dtype)).data_type
    except (KeyError, ValueError):
        return None
    cast = helper.make_node("Cast", ["x"], ["y"], to=number)
    opset = 25 if dtype is ml_dtypes.int2 else 23
    model = graph([cast], {"x": tensor(number)}, {"y": tensor(number)}, opset=opset)
    try:
        library.load_onnxruntime().InferenceSession(model.SerializeToString())
    except Exception:  # noqa: BLE001 - onnxruntime raises exceptions of many types
        return None
    return model


def test_dtypes_are_preserved_and_compared(harness: Call, here: Path) -> None:
    models = {dtype: model for dtype in DTYPES if (model := cast_to(dtype)) is not None}
    assert set(DTYPES) - models.keys() <= {ml_dtypes.int2}
    for dtype, model in models.items():
        values = np.array([0, 1, 1, 0, 1]).astype(dtype)
        record(here / "suite" / "right" / dtype.__name__, model, [values], [values])
        record(here / "suite" / "wrong" / dtype.__name__, model, [values], [values[::-1]])
    ran = harness("run", "suite", QUIET, "--targets", "ort-cpu,reference")
    for dtype in models:
        assert both(ran, f"right/{dtype.__name__}") == [("passed", None)] * 2
        assert [status for status, _ in both(ran, f"wrong/{dtype.__name__}")] == ["failed"] * 2


def test_text_is_compared(harness: Call, here: Path) -> None:
    kind = tensor(int(TensorProto.STRING))
    model = graph([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind})
    words = np.array(["a", "ß"], object)
    record(here / "suite" / "right", model, [words], [words])
    record(here / "suite" / "wrong", model, [words], [words[::-1]])
    ran = harness("run", "suite", QUIET)
    assert ran.rows["right", ORT]["status"] == "passed"
    assert ran.rows["wrong", ORT]["message"].startswith("y: 2 of 2 values differ; first at [0]: 'a', expected 'ß'")


def test_another_dtype_than_the_recorded_one_fails(harness: Call, here: Path) -> None:
    relu(here / "net", output=np.maximum(X, 0).astype(np.float64))
    assert "dtype float32, expected float64" in harness("run", "net", QUIET).only["message"]


# Tolerances


def near(folder: Path, manifest: dict[str, Any] | None, factor: float = 1.0009) -> Path:
    relu(folder, output=(np.maximum(X, 0) * factor).astype(np.float32))
    if manifest is not None:
        (folder / "data.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


MANIFESTS: tuple[tuple[dict[str, Any] | None, str], ...] = (
    (None, "passed"),
    ({"model_name": "net", "url": None, "rtol": 2e-3, "atol": 1e-7}, "passed"),
    ({"rtol": 1e-4}, "failed"),
    ({"tolerance": "exact"}, "failed"),
    ({"tolerance": {"ulp": 100000}}, "passed"),
    ({"tolerance": {"rtol": 1, "by_output": {"0": "exact"}}}, "failed"),
    ({"tolerance": {"by_output": {"0": {"rtol": 0.01}}}}, "passed"),
)


def test_the_manifest_sets_the_tolerance(harness: Call, here: Path) -> None:
    for number, (manifest, _) in enumerate(MANIFESTS):
        near(here / "suite" / str(number), manifest)
    ran = harness("run", "suite", QUIET)
    assert [row["status"] for row in ran.report["results"]] == [status for _, status in MANIFESTS]


def test_strict_ulp_applies_to_recorded_models(harness: Call, here: Path) -> None:
    near(here / "net", None)
    assert harness("run", "net", QUIET, "--strict-ulp", "4").only["outputs"][0]["tolerance"] == "4 ulp"


def test_bfloat16_has_two_units_in_the_last_place(harness: Call, here: Path) -> None:
    kind = tensor(int(TensorProto.BFLOAT16))
    model = graph([helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind}, opset=25)
    for name, off in (("near", 1.008), ("far", 1.05)):
        one = np.ones(4, ml_dtypes.bfloat16)
        record(here / "suite" / name, model, [one], [(one * off).astype(ml_dtypes.bfloat16)])
    ran = harness("run", "suite", QUIET, "--targets", "reference")
    assert [row["status"] for row in ran.report["results"]] == ["failed", "passed"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rtol": "a"}', "data.json:1:10: rtol: a is not a number"),
        ('{"rtoll": 1}', "did you mean rtol?"),
        ('{"rtol": -1}', "data.json:1:10: rtol: -1 is too small; at least 0"),
        ('{"tolerance": {"scaled": 2}}', "which are not recorded; write ulp, or rtol and atol"),
        ('{"rtol": ', "data.json:2:1: not YAML"),
        ("[" * 100_000, "data.json:1:"),
    ],
)
def test_a_wrong_manifest_is_reported_in_one_line_with_its_location(
    harness: Call, here: Path, text: str, message: str
) -> None:
    (relu(here / "net") / "data.json").write_text(text, encoding="utf-8")
    ran = harness("run", "net")
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


# Unsupported by a runtime


def test_an_opset_that_is_not_known_yet_is_unsupported(harness: Call, here: Path) -> None:
    record(
        here / "net",
        graph([helper.make_node("Relu", ["x"], ["y"])], {"x": tensor()}, {"y": tensor()}, opset=99),
        [X],
        [np.maximum(X, 0)],
    )
    row = harness("run", "net", QUIET).only
    assert (row["status"], row["stage"], row["symptom"]) == ("error", "load", "unsupported")
    assert "opset" in row["message"]


def test_an_operator_without_a_kernel_is_unsupported(harness: Call, here: Path) -> None:
    kind = tensor(int(TensorProto.INT16))
    model = graph([helper.make_node("Max", ["x", "x"], ["y"])], {"x": kind}, {"y": kind})
    record(here / "net", model, [np.ones(2, np.int16)], [np.ones(2, np.int16)])
    row = harness("run", "net", QUIET).only
    assert (row["stage"], row["symptom"]) == ("load", "unsupported")
    assert row["message"].startswith("Could not find an implementation for Max")


def test_the_checker_error_is_kept(harness: Call, here: Path) -> None:
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": tensor(FLOAT, [1, 3])}, {"y": tensor(FLOAT, [3, 3])})
    record(here / "net", model, [X], [np.maximum(X, 0)])
    assert "ShapeInference" in harness("run", "net", QUIET, "--targets", "reference").only["checker"]


# Models in the onnx package


def test_the_models_that_onnx_ships_are_verified(harness: Call, here: Path) -> None:
    """Run the smallest part of the benchmark real_material."""
    ran = harness("run", str(Path(DATA_DIR) / "simple"), QUIET, "--targets", "ort-cpu,reference")
    ended = {key: row["symptom"] for key, row in ran.rows.items() if row["status"] != "passed"}
    assert len(ran.rows) >= 46
    assert {symptom for (case, _), symptom in ended.items() if "gradient" in case} == {"unsupported"}
    # ONNX Runtime's StringNormalizer needs the locale en_US.UTF-8, which not every machine has.
    assert all("gradient" in case or ("strnorm" in case and target == ORT) for case, target in ended)


@pytest.mark.parametrize("name", ["known-failures", "without-locale", "without-pillow"])
def test_the_lists_for_onnx_own_tests_are_valid(name: str) -> None:
    entries = load_known_failures(ROOT / "benchmarks" / "onnx_backend" / f"{name}.yaml")
    assert entries
    assert all(parse_target(entry.targets).exporter == "file" for entry in entries)
