"""Recorded models that are broken or malicious: each gives one row or one line, never a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from harness.check.recorded.protobufs import open_model, read_data_set
from harness.errors import StageError
from harness.spec.recorded import recorded_cases
from tests.conftest import Call
from tests.recorded_models import FLOAT, X, graph, one_node, record, relu, stored_outside, tensor

QUIET = "--no-latency"


def add(weight: TensorProto) -> ModelProto:
    """x + weight."""
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return graph([node], {"x": tensor()}, {"y": tensor()}, initializers=[weight])


def hidden_deep(weight: TensorProto) -> ModelProto:
    """The weight as an attribute of a constant in a branch."""
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["z"], value=weight)],
        "branch",
        [],
        [helper.make_tensor_value_info("z", FLOAT, [3])],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    return graph([node], {"c": tensor(int(TensorProto.BOOL), [])}, {"y": tensor()})


def hidden_in_a_function(weight: TensorProto) -> ModelProto:
    model = one_node("Relu")
    nodes = [helper.make_node("Constant", [], ["z"], value=weight)]
    model.functions.append(helper.make_function("d", "f", [], ["z"], nodes, [helper.make_opsetid("", 17)]))
    return model


# Data outside the model's folder


@pytest.mark.parametrize("build", [add, hidden_deep, hidden_in_a_function])
@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("{outside}", "outside the folder"),
        ("../outside.bin", "outside the folder"),
        ("inner/../../outside.bin", "outside the folder"),
        ("", "outside the folder"),
        ("link.bin", "a link out of the folder"),
        ("linked/outside.bin", "a link out of the folder"),
        ("gone.bin", "which is missing"),
        ("inner", "which is missing"),
        ("*/_ORT_MEM_ADDR_/*", "which is missing"),
    ],
)
@pytest.mark.parametrize("target", ["ort-cpu", "reference"])
def test_data_outside_the_folder_is_refused(
    tmp_path: Path, build: Callable[[TensorProto], ModelProto], location: str, message: str, target: str
) -> None:
    outside = tmp_path / "outside.bin"
    outside.write_bytes(np.ones(3, np.float32).tobytes())
    net = tmp_path / "net"
    model = build(stored_outside(location.format(outside=outside)))
    record(net, model, [X], [X])
    (net / "link.bin").symlink_to(outside)
    (net / "linked").symlink_to(tmp_path)
    (net / "inner").mkdir()
    with pytest.raises(StageError, match=message):
        open_model(net / "model.onnx")


def test_data_that_is_cut_off_is_told(tmp_path: Path) -> None:
    weight = stored_outside("w.bin")
    weight.external_data.add(key="offset", value="4")
    weight.external_data.add(key="length", value="12")
    net = record(tmp_path / "net", add(weight), [X], [X + 1])
    (net / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    open_model(net / "model.onnx")
    (net / "w.bin").write_bytes(np.ones(3, np.float32).tobytes())
    with pytest.raises(StageError, match=r"'w\.bin', which is cut off: 12 of 16 bytes; copy it again"):
        open_model(net / "model.onnx")


def test_data_outside_the_folder_is_one_result(harness: Call, here: Path) -> None:
    (here / "outside.bin").write_bytes(np.ones(3, np.float32).tobytes())
    record(here / "suite" / "bad", add(stored_outside("../../outside.bin")), [X], [X + 1])
    relu(here / "suite" / "good")
    ran = harness("run", "suite", QUIET)
    assert ran.code == 1
    row = ran.rows["bad", "file/ort-cpu"]
    assert (row["status"], row["stage"], row["symptom"]) == ("error", "build", "exception")
    right = "external data must be a file in the model's folder"
    assert row["message"] == f"w keeps its data in '../../outside.bin', outside the folder; {right}"
    assert ran.rows["good", "file/ort-cpu"]["status"] == "passed"


def test_data_in_the_folder_is_used(harness: Call, here: Path) -> None:
    net = record(here / "net", add(stored_outside("w.bin")), [X], [X + 1])
    (net / "w.bin").write_bytes(np.ones(3, np.float32).tobytes())
    first = harness("run", "net", QUIET, "--targets", "ort-cpu,reference")
    assert first.code == 0
    (net / "w.bin").write_bytes(np.zeros(3, np.float32).tobytes())
    second = harness("run", "net", QUIET, "--targets", "ort-cpu,reference")
    assert [row["status"] for row in second.report["results"]] == ["failed", "failed"]
    digests = {row["artifact"] for ran in (first, second) for row in ran.report["results"]}
    assert len(digests) == 2, "external data belongs to what was verified"


def test_recorded_values_with_external_data_are_refused(harness: Call, here: Path) -> None:
    (here / "secret.bin").write_bytes(np.ones(3, np.float32).tobytes())
    record(here / "net", one_node("Relu"), [stored_outside("secret.bin")], [X])
    row = harness("run", "net", QUIET).only
    assert row["message"] == (
        "test_data_set_0/input_0.pb keeps its data in another file; recorded values must hold their own"
    )


@pytest.mark.parametrize("linked", ["model.onnx", "data.json", "test_data_set_0/output_0.pb", "test_data_set_0"])
def test_a_link_out_of_the_folder_is_refused_before_anything_runs(harness: Call, here: Path, linked: str) -> None:
    relu(here / "net")
    (here / "net" / "data.json").write_text("{}", encoding="utf-8")
    (here / "net" / linked).rename(here / "elsewhere")
    (here / "net" / linked).symlink_to(here / "elsewhere")
    ran = harness("run", "net")
    assert ran.code == 2
    assert all(
        "a link that points outside the model's folder; put the file itself there" in line
        for line in ran.err.splitlines()
    )


# Truncated files


def test_a_model_that_crashes_the_checker_is_one_result(harness: Call, here: Path) -> None:
    model = one_node("Relu")
    model.graph.input[0].type.tensor_type.elem_type = 91
    record(here / "net", model, [X], [X])
    row = harness("run", "net", QUIET).only
    assert (row["status"], row["stage"]) == ("error", "load")
    assert "harness itself failed" not in row["message"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.onnx", b"", "model.onnx is not an ONNX model: it has no graph"),
        ("model.onnx", b"\xff" * 100, "model.onnx is not a model in ONNX's protobuf format, or is truncated"),
        ("model.onnx", None, "model.onnx is not a model in ONNX's protobuf format, or is truncated"),
        ("test_data_set_0/input_0.pb", b"", "test_data_set_0/input_0.pb holds no valid tensor"),
        ("test_data_set_0/input_0.pb", None, "test_data_set_0/input_0.pb is not a tensor in ONNX's protobuf format"),
        ("test_data_set_0/output_0.pb", b"not a protobuf", "test_data_set_0/output_0.pb is not a tensor"),
    ],
)
def test_a_truncated_file_is_one_result(
    harness: Call, here: Path, file: str, content: bytes | None, message: str
) -> None:
    path = relu(here / "net") / file
    path.write_bytes(path.read_bytes()[:-3] if content is None else content)
    ran = harness("run", "net", QUIET)
    assert ran.code == 1
    assert (ran.only["status"], ran.only["stage"]) == ("error", "build")
    assert ran.only["message"].startswith(message)
    assert "Traceback" not in ran.out + ran.err + "".join(ran.only["log"])


@pytest.mark.parametrize("dims", [[10**12], [10**6, 10**6, 10**6], [2**63 - 1, 2**63 - 1], [-1], [4], [3, -1, 1]])
def test_a_shape_that_does_not_fit_the_data_is_one_result(harness: Call, here: Path, dims: list[int]) -> None:
    claimed = numpy_helper.from_array(X)
    del claimed.dims[:]
    claimed.dims.extend(dims)
    record(here / "net", one_node("Relu"), [claimed], [X])
    row = harness("run", "net", QUIET, "--memory", "2G").only
    assert (row["status"], row["stage"]) == ("error", "build")
    assert row["message"].startswith("test_data_set_0/input_0.pb holds no valid tensor")


def test_a_huge_output_is_out_of_memory_and_does_not_affect_other_checks(harness: Call, here: Path) -> None:
    shape = np.array([2**40], np.int64)
    node = helper.make_node("ConstantOfShape", ["x"], ["y"])
    huge = graph([node], {"x": tensor(int(TensorProto.INT64))}, {"y": tensor()})
    record(here / "suite" / "huge", huge, [shape], [X])
    relu(here / "suite" / "small")
    ran = harness("run", "suite", QUIET, "--memory", "2G", "--targets", "ort-cpu,reference")
    for target in ("file/ort-cpu", "file/reference"):
        row = ran.rows["huge", target]
        assert (row["status"], row["stage"], row["symptom"]) == ("error", "run", "out-of-memory")
        assert ran.rows["small", target]["status"] == "passed"


def test_a_tensor_in_place_of_a_sequence_is_one_result(harness: Call, here: Path) -> None:
    numbers = helper.make_sequence_type_proto(tensor())
    model = graph([helper.make_node("Identity", ["s"], ["t"])], {"s": numbers}, {"t": numbers})
    record(here / "net", model, [X], [X])
    ran = harness("run", "net", QUIET)
    assert (ran.code, ran.only["status"]) == (1, "error")
    assert "input_0.pb is not a sequence" in ran.only["message"]


def test_inputs_of_another_dtype_or_shape_are_one_result(harness: Call, here: Path) -> None:
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": tensor(FLOAT, [1, 3])}, {"y": tensor()})
    record(here / "suite" / "dtype", model, [X.astype(np.float64)], [X])
    record(here / "suite" / "shape", model, [X.reshape(3, 1)], [X])
    ran = harness("run", "suite", QUIET, "--targets", "ort-cpu,reference")
    assert {(row["status"], row["stage"]) for row in ran.report["results"]} == {("error", "run")}


# Incomplete folders


@pytest.mark.parametrize(
    ("lost", "path", "message"),
    [
        ("model.onnx", "net", "net: test data without its model; put the model beside it as model.onnx"),
        ("test_data_set_0", "net", "net: no spec in this folder, and no recorded model"),
        ("test_data_set_0", "net/model.onnx", "a model alone has nothing to be compared with"),
    ],
)
def test_an_incomplete_recorded_model_is_refused(harness: Call, here: Path, lost: str, path: str, message: str) -> None:
    (relu(here / "net") / lost).rename(here / "lost")
    ran = harness("run", path)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_model_that_is_a_pipe_is_refused_without_waiting(harness: Call, here: Path) -> None:
    path = relu(here / "net") / "model.onnx"
    path.unlink()
    os.mkfifo(path)
    ran = harness("run", "net", QUIET)
    assert (ran.code, ran.err) == (2, "net/model.onnx:1:1: not a regular file; put the model itself there\n")


def test_a_file_that_cannot_be_read_is_one_result(harness: Call, here: Path) -> None:
    path = relu(here / "net") / "test_data_set_0" / "output_0.pb"
    path.unlink()
    os.mkfifo(path)
    row = harness("run", "net", QUIET).only
    assert (row["status"], row["stage"]) == ("error", "build")
    assert "no output_0.pb" in row["message"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_never_breaks_the_reader(tmp_path: Path, data: st.DataObject) -> None:
    """If bytes are changed, removed or added, reading succeeds or raises a message of one line."""
    net = tmp_path / "net"
    if not net.exists():
        record(net, add(numpy_helper.from_array(np.ones(3, np.float32), "w")), [X], [X + 1])
    file = data.draw(st.sampled_from(["model.onnx", "test_data_set_0/input_0.pb", "test_data_set_0/output_0.pb"]))
    whole = (net / file).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + data.draw(st.binary(max_size=8)) + whole[at + data.draw(st.integers(0, 8)) :]
    (net / file).write_bytes(damaged)
    message = ""
    try:
        read_data_set(net / "test_data_set_0", open_model(net / "model.onnx"))
    except StageError as error:
        message = str(error)
    finally:
        (net / file).write_bytes(whole)
    assert "\n" not in message


def test_a_changed_file_is_another_case(tmp_path: Path) -> None:
    """An interrupted run does not reuse results of a file that has changed since."""
    net = relu(tmp_path / "net")
    before = recorded_cases(net, "net")[0]
    output = net / "test_data_set_0" / "output_0.pb"
    os.utime(output, ns=(0, 0))
    assert recorded_cases(net, "net")[0] != before
