"""``harness compare``: the screen, the exit codes, the spec that it saves, and every mistake at once."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.compared_models import (
    changed,
    two_by_two,
    with_channels_last,
    with_input_named,
    with_other_weight,
    write_net,
)
from tests.conftest import Call


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    write_net(folder)
    changed(folder, with_other_weight, "off.onnx")
    two_by_two(folder, "two.onnx")
    return folder


@pytest.fixture
def nets(made: Path, here: Path) -> Path:
    """The working directory, with the files."""
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here


@pytest.mark.usefixtures("nets")
def test_a_comparison_that_was_to_compare_layers_and_compared_none_says_why_it_fails(harness: Call) -> None:
    words = ("compare", "net.ort", "fixed.onnx")
    assert harness(*words).code == 0
    ran = harness(*words, "--layers")
    assert ran.code == 1
    said = "  note       exit code 1: layers were asked for, and no layer of any check was compared; "
    assert said in ran.out
    assert "first node that differs" not in ran.out, "no value differs"
    assert "of a file of the format ort cannot be seen" in " ".join(ran.out.split())


@pytest.mark.usefixtures("nets")
def test_an_export_is_still_its_module(harness: Call) -> None:
    ran = harness("compare", "net.onnx", "net.py:Net", "--weights", "weights.pt")
    assert ran.code == 0, ran.err
    assert "SAME: net.onnx is still net.py:Net (on ort-cpu)" in ran.out
    assert ran.out.count("note       compared in evaluation mode: net.py:Net returned a module in training mode") == 1
    assert "x float32[3, 3, 8, 8], drawn (open axes: N=3)" in ran.out
    assert "the reference's own" in ran.out
    assert "reference" in next(line for line in ran.out.splitlines() if "latency" in line)
    assert ran.only["status"] == "passed"
    assert ran.only["latency"]["eager_us"] is not None


@pytest.mark.parametrize(
    ("name", "part", "saved"),
    [
        ("parallel.pt", "module", lambda state: {f"module.{key}": each for key, each in state.items()}),
        ("trained.ckpt", "state_dict.net", lambda state: {"epoch": 3, "state_dict": {"net": state}}),
        ("trained.bin", "model", lambda state: {"model": state, "optimizer": {"m": [torch.zeros(3)]}}),
    ],
)
def test_the_part_of_a_checkpoint_that_is_all_weights_is_taken(
    harness: Call, nets: Path, name: str, part: str, saved: Callable[[dict[str, torch.Tensor]], Any]
) -> None:
    state = torch.load(nets / "weights.pt")
    torch.save(saved(state), nets / name)
    ran = harness("compare", "net.onnx", "net.py:Net", "--weights", name, "--save-spec", "asked.yaml")
    assert ran.code == 0, ran.err
    assert f"the weights are the part {part} of {name}" in ran.out
    asked = (nets / "asked.yaml").read_text(encoding="utf-8")
    assert f"weights: {{file: {name}, key: {part}}}" in asked
    (nets / "asked.yaml").write_text(asked.replace(f"{{file: {name}, key: {part}}}", name), encoding="utf-8")
    refused = harness("run", "asked.yaml", "--allow-import", "--no-latency")
    assert refused.code == 2
    assert f"they are its part {part}; write {{file: {name}, key: {part}}}" in refused.err


RANDOM = """
import torch
from net import Net

class Noisy(Net):
    def forward(self, x):
        return super().forward(x) + torch.randn(())
"""


def with_noise(model: onnx.ModelProto) -> None:
    (output,) = model.graph.output
    next(node for node in model.graph.node if output.name in node.output).output[0] = "exact"
    model.graph.node.append(helper.make_node("RandomNormalLike", ["exact"], ["noise"]))
    model.graph.node.append(helper.make_node("Add", ["exact", "noise"], [output.name]))


def test_a_reference_that_answers_differently_each_time_is_not_compared(harness: Call, nets: Path) -> None:
    (nets / "noisy.py").write_text(RANDOM, encoding="utf-8")
    changed(nets, with_noise, "noisy.onnx")
    ran = harness("compare", "noisy.onnx", "noisy.py:Noisy", "--weights", "weights.pt", "--save-spec", "asked.yaml")
    assert ran.code == 2, ran.out
    assert "NOT COMPARED: noisy.onnx with noisy.py:Noisy" in ran.out
    assert "name a reference that answers the same at each call" in ran.out
    assert not (nets / "asked.yaml").exists()


def test_a_checkpoint_with_the_weights_twice_or_with_others_beside_them_is_refused(harness: Call, nets: Path) -> None:
    state = torch.load(nets / "weights.pt")
    torch.save({"model": state, "average": state}, nets / "twice.pt")
    torch.save({"model": {**state, "head": torch.zeros(1)}}, nets / "more.pt")
    twice = harness("compare", "net.onnx", "net.py:Net", "--weights", "twice.pt")
    assert (twice.code, "several times: model, average; save one of them alone" in twice.err) == (2, True)
    more = harness("compare", "net.onnx", "net.py:Net", "--weights", "more.pt")
    assert (more.code, "unknown to the model: " in more.err, "model.head" in more.err) == (2, True, True)


@pytest.mark.usefixtures("nets")
def test_a_changed_weight_is_shown_with_blame_place_and_a_spec_that_repeats_it(harness: Call) -> None:
    ran = harness("compare", "off.onnx", "net.py:Net", "--weights", "weights.pt", "--save-spec", "asked.yaml")
    assert ran.code == 1, ran.err
    assert "DIFFERENT: off.onnx is not net.py:Net (on ort-cpu)" in ran.out
    assert "blame      the file" in ran.out
    assert ran.out.count("worst at [") == 1, "the same sentence for each draw, and again in the evidence"
    assert "; also at draw 2" in ran.out
    assert re.search(r"x rounding.*\n *conv .*WRONG [0-9,]{3,5}\b", ran.out)
    assert "harness explain asked/off asked.yaml --allow-import" in ran.out
    assert "asked.yaml" in ran.out.splitlines()[-1]
    refused = harness("run", "asked.yaml", "--no-latency")
    assert (refused.code, "pass --allow-import to allow it" in refused.err) == (2, True)
    again = harness("run", "asked.yaml", "--allow-import", "--no-latency")
    assert again.code == 1
    for key in ("status", "blame", "outputs", "message", "case", "target"):
        assert again.only[key] == ran.only[key], key
    explained = harness("explain", "asked/off", "asked.yaml", "--allow-import")
    assert explained.code == 1
    assert "the exported file itself is wrong" in explained.out


def test_two_files_on_your_own_data_and_several_runtimes(harness: Call, nets: Path) -> None:
    (nets / "samples").mkdir()
    for number in range(3):
        np.savez(nets / "samples" / f"{number}.npz", x=np.full((2, 3, 8, 8), number, "float32"))
    words = ("net.ort", "net.onnx", "--inputs", "samples", "--targets", "ort-cpu,reference")
    refused = harness("compare", *words)
    assert (refused.code, "which reference does not run" in refused.err) == (2, True)
    ran = harness("compare", "fixed.onnx", *words[1:], "--save-spec", "ci/asked.yaml")
    assert (ran.code, "--save-spec ci/asked.yaml" in ran.err, "leads out of the folder" in ran.err) == (2, True, True)
    ran = harness("compare", "fixed.onnx", *words[1:], "--save-spec", "asked.yaml")
    assert ran.code == 0, ran.err
    assert {target for _, target in ran.rows} == {"file:subject/ort-cpu", "file:subject/reference"}
    again = harness("run", "asked.yaml", "--targets", "file:subject/*", "--no-latency")
    assert again.code == 0
    assert {at for row in again.report["results"] for at in [output["at"] for output in row["outputs"]]} == {
        None,
        "sample 1.npz",
        "sample 2.npz",
    }


def test_samples_without_names_or_with_names_that_are_no_labels_are_each_a_sample(harness: Call, nets: Path) -> None:
    draws = [np.full((2, 3, 8, 8), number, "float32") for number in range(3)]
    for folder in ("arrays", "dots", "sets/test_data_set_0", "sets/test_data_set_1"):
        (nets / folder).mkdir(parents=True)
    for number, values in enumerate(draws):
        np.save(nets / "arrays" / f"{number}.npy", values)
        torch.save({"input.1": torch.from_numpy(values)}, nets / "dots" / f"{number}.pt")
        for each in (nets / "sets").glob(f"*_{number}"):
            (each / "input_0.pb").write_bytes(numpy_helper.from_array(values).SerializeToString())
    changed(nets, with_input_named("input.1"), "dots.onnx")
    for subject, folder, count in (("fixed.onnx", "arrays", 2), ("dots.onnx", "dots", 2), ("fixed.onnx", "sets", 1)):
        ran = harness("compare", subject, "fixed.onnx", "--inputs", folder, "--save-spec", f"{folder}.yaml")
        assert (ran.code, f" and {count} more" in ran.out) == (0, True), ran.err
        again = harness("run", f"{folder}.yaml", "--no-latency")
        assert (again.code, len({output["at"] for output in again.only["outputs"]})) == (0, count + 1), again.err
    np.save(nets / "arrays" / "2.npy", np.zeros((2, 3, 8, 9), "float32"))
    ran = harness("compare", "fixed.onnx", "fixed.onnx", "--inputs", "arrays")
    assert (ran.code, "2.npy: x has shape [2,3,8,9], the case's own [2,3,8,8]" in ran.err) == (2, True)


def test_torchscript_with_operators_of_a_library_says_which_one_to_install(harness: Call, nets: Path) -> None:
    library: Any = torch.library.Library("torch_cluster", "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            twice: torch.Tensor = torch.ops.torch_cluster.twice(x)
            return twice

    torch.jit.save(torch.jit.trace(Twice(), torch.ones(2)), str(nets / "twice.pt"))  # type: ignore[no-untyped-call]
    ran = harness("compare", "twice.pt", "fixed.onnx")
    assert ran.code == 2
    assert ran.err == "twice.pt: calls torch_cluster::twice; install torch_cluster, which has this operator\n"


@pytest.mark.usefixtures("nets")
def test_shapes_arguments_and_a_tolerance_are_given_on_the_command_line(harness: Call) -> None:
    options = (
        "--args",
        "{channels: 3}",
        "--weights",
        "weights.pt",
        "--shape",
        "x=1,3,9,9",
        "--tolerance",
        "{atol: 1e-0}",
    )
    ran = harness("compare", "net.jit", "net.py:Net", *options)
    assert ran.code == 0, ran.err
    assert "x float32[1, 3, 9, 9], drawn" in ran.out
    assert ran.only["outputs"][0]["tolerance"] == "rtol 0 + atol 1"


def test_every_mistake_is_one_line(harness: Call, nets: Path) -> None:
    np.savez(nets / "pickled.npz", x=np.array([{}], dtype=object))
    torch.save(torch.nn.ReLU(), nets / "pickled.pt")
    torch.save({"conv.weight": torch.ones(4, 3, 3, 3), "extra": torch.ones(1)}, nets / "other.pt")
    (nets / "broken.onnx").write_bytes((nets / "net.onnx").read_bytes()[:300])
    np.savez(nets / "rank.npz", a=np.ones((2, 4, 1), "float32"), b=np.ones((3, 4), "int64"))
    np.savez(nets / "both.npz", a=np.ones((2, 5), "int32"), b=np.ones(3, "float32"))
    np.savez(nets / "names.npz", p=np.ones((2, 4), "float32"), q=np.ones((2, 4), "float32"))
    for suffix in ("onnx", "ort", "pt"):
        (nets / f"text.{suffix}").write_text("no model\n")
    with zipfile.ZipFile(nets / "zip.pt2", "w") as archive:
        archive.writestr("a", "b")
    mistakes = {
        ("net.onnx", "net.py:absent"): ["factory 'net.py:absent': net.py has no attribute 'absent'"],
        ("net.onnx", "other.py:net"): ["factory 'other.py:net': no such file; name it relative to"],
        ("net.onnx", "net.py:three"): ["is no callable but int"],
        ("net.onnx", "net.py:number"): ["returned int; it must return an nn.Module"],
        ("net.onnx", "net.py:needs"): [
            "needs channels, width(channels, width); give them with --args '{channels: ...}'"
        ],
        ("net.onnx", "net.py:needs", "--args", "{widht: 2, channels: 3}"): [
            "net.py:needs: has no argument widht; did you mean width?"
        ],
        ("net.onnx", "net.py:needs", "--args", "{colour: 2}"): [
            "net.py:needs: has no argument colour; it has channels, width"
        ],
        ("net.onnx", "fixed.onnx", "--targets", "onnx-dynamo@23/ort-cpu,onnx-dynamo+fixes+int8/ort-cpu"): [
            "--targets onnx-dynamo@23/ort-cpu: net.onnx is exported already; name the runtime alone: ort-cpu, or +int8",
            "net.onnx is exported already; name the runtime alone: +int8/ort-cpu",
        ],
        ("net.onnx", "fixed.onnx", "--targets", "ort-cup"): [
            "--targets ort-cup: no runtime ort-cup; did you mean ort-cpu?"
        ],
        ("net.onnx", "net.py"): ["neither a model file nor a callable"],
        ("net.py", "net.onnx"): ["net.py: not a model file"],
        ("absent.onnx", "pickled.pt"): [
            "absent.onnx: no such file",
            "pickled.pt: a pickle that runs code when it is loaded (it needs torch.nn.modules.activation.ReLU); save",
        ],
        ("broken.onnx", "net.py:absent", "--inputs", "pickled.npz"): [
            "broken.onnx: a truncated ONNX model",
            "has no attribute 'absent'",
            "pickled.npz: x holds pickled objects",
        ],
        ("net.onnx", "net.py:Net", "--weights", "other.pt"): ["conv.bias", "extra"],
        ("net.onnx", "fixed.onnx", "--weights", "weights.pt"): ["fixed.onnx is a file, which has its own"],
        ("two.onnx", "two.onnx", "--inputs", "rank.npz"): [
            "a has shape [2, 4, 1], and two.onnx takes a float32[N, 4]",
            "b is int64, and two.onnx takes b float32[N, 4]",
        ],
        ("two.onnx", "two.onnx", "--inputs", "both.npz"): [
            "a is int32[2, 5], and two.onnx takes a float32[N, 4]",
            "b has shape [3], and two.onnx takes b float32[N, 4]",
        ],
        ("two.onnx", "two.onnx", "--inputs", "names.npz"): [
            "the inputs are (p float32[2, 4], q float32[2, 4]), two.onnx takes (a float32[N, 4], b float32[N, 4])",
        ],
        ("two.onnx", "two.onnx", "--shape", "a=2,4", "--shape", "b=3,4"): [
            "axis N of two.onnx is 2 in a and 3 in b; give both the same size"
        ],
        ("text.ort", "net.onnx"): ["text.ort: not a model in ONNX Runtime's format"],
        ("text.onnx", "net.onnx"): ["text.onnx: not an ONNX model; export it again"],
        ("text.pt", "zip.pt2"): ["text.pt: not a model that torch wrote", "zip.pt2: not a model that torch wrote"],
        ("net.onnx", "net.py:Net", "--weights", "pickled.pt"): ["pickled.pt: a pickle that runs code", "state_dict()"],
        ("net.onnx", "fixed.onnx", "--shape", "z=1,3"): ["--shape z: no input has this name; the inputs are x"],
        ("net.onnx", "fixed.onnx", "--shape", "x", "--args", "3"): [
            "--shape x: not a shape",
            "--args 3: not a mapping",
        ],
        ("net.onnx", "fixed.onnx", "--tolerance", "{rtoll: 1e-3}"): [
            "--tolerance {rtoll: 1e-3}: {rtoll:0.001} is not a tolerance; did you mean rtol?"
        ],
        ("net.onnx", "fixed.onnx", "--tolerance", "decisions"): [
            "decisions alone is not a tolerance; write {decisions: {by: argmax, axis: -1, at_least: 0.999}}"
        ],
        ("net.onnx", "fixed.onnx", "--tolerance", "atol"): ["atol alone is not a tolerance; write {rtol: r, atol: a}"],
        ("net.onnx", "fixed.onnx", "--loop", "a b=x"): ['"a b" is not an output; write its path'],
        ("net.jit", "net.py:Net"): ["x: no shape is declared; give --shape x=1,3,224,224, or --inputs FILE"],
    }
    for words, messages in mistakes.items():
        ran = harness("compare", *words)
        assert (ran.code, ran.out) == (2, ""), (words, ran)
        assert 0 < len(ran.err.splitlines()) <= len(messages), ran.err
        for message in messages:
            assert message in ran.err, (words, ran.err)
        assert "compare:" not in ran.err, "a place in a file that the user does not have"


@pytest.mark.usefixtures("nets")
def test_a_shape_sets_the_axes_that_another_input_shares(harness: Call) -> None:
    ran = harness("compare", "two.onnx", "two.onnx", "--shape", "a=5,4")
    assert ran.code == 0, ran.err
    assert "b float32[5, 4], drawn (open axes: N=5)" in ran.out


@pytest.mark.usefixtures("nets")
def test_a_missing_runtime_is_not_compared_and_has_its_own_exit_code(harness: Call) -> None:
    ran = harness("compare", "net.onnx", "net.onnx", "--targets", "ort-coreml")
    assert (ran.code, ran.only["status"]) == (3, "skipped"), ran.err
    assert "NOT COMPARED: net.onnx with net.onnx (on ort-coreml)" in ran.out
    assert "keep this question" not in ran.out
    both = harness("compare", "net.onnx", "net.onnx", "--targets", "ort-cpu,ort-coreml")
    assert (both.code, "keep this question" in both.out) == (0, True)


@pytest.mark.usefixtures("nets")
def test_a_file_that_does_not_run_is_not_compared_and_not_called_different(harness: Call, nets: Path) -> None:
    model = onnx.load(nets / "net.onnx")
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, nets / "unknown.onnx")
    ran = harness("compare", "unknown.onnx", "net.onnx", "--shape", "x=1,3,8,8")
    assert (ran.code, ran.only["status"]) == (2, "error"), ran.out
    assert "NOT COMPARED: unknown.onnx with net.onnx" in ran.out
    assert "keep this question" not in ran.out


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (("nett.onnx", "net.py:Net"), ["nett.onnx: no such file; did you mean net.onnx?"]),
        (("sub/nett.onnx", "sub/net.jit"), ["sub/nett.onnx: no such file; did you mean sub/net.onnx?"]),
        (("net.onnx", "nett.py:Net"), ["factory 'nett.py:Net': no such file; did you mean net.py?"]),
        (("net.onnx", "net.py:Net", "--weights", "wieghts.pt"), ["wieghts.pt: no such file; did you mean weights.pt?"]),
        (("net.onnx", "net.py:Net", "--inputs", "nodata"), ["nodata: no such file; name a data file"]),
        (
            ("nett.onnx", "other.py:Net", "--inputs", "a.npz"),
            ["did you mean net.onnx?", "other.py:Net': no such file; name it relative", "a.npz: no such file; name a"],
        ),
    ],
)
def test_a_file_that_does_not_exist_is_told_before_torch_is_loaded(
    harness: Call, nets: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], messages: list[str]
) -> None:
    (nets / "sub").mkdir()
    for name in ("net.onnx", "net.jit"):
        shutil.copy(nets / name, nets / "sub")
    monkeypatch.setattr("harness.explain.process.SeparateProcess", None)
    ran = harness("compare", *words)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", len(messages)), ran.err
    assert all(message in ran.err for message in messages), ran.err


def test_a_file_that_a_spec_misspells_is_suggested_as_the_spec_would_write_it(harness: Call, nets: Path) -> None:
    (nets / "specs").mkdir()
    shutil.copy(nets / "net.onnx", nets / "specs")
    (nets / "specs" / "tagger.yaml").write_text(SPEC.format(reference="net.onnx", file="nett.onnx"), encoding="utf-8")
    ran = harness("check", "specs/tagger.yaml")
    assert (ran.code, "nett.onnx: no such file beside the spec; did you mean net.onnx?" in ran.err) == (2, True)
    ran = harness("check", "specs/tager.yaml")
    assert (ran.code, "tager.yaml: no such file or directory; did you mean specs/tagger.yaml?" in ran.err) == (2, True)


SPEC = """
harness: 1
cases:
  - name: c
    file: {reference}
    inputs: {{x: {{shape: [2, 3, 8, 8]}}}}
    files: {{deployed: {file}}}
"""


def test_a_factory_that_needs_arguments_says_which(harness: Call, nets: Path) -> None:
    text = SPEC.format(reference="net.onnx", file="net.onnx").replace("file: net.onnx", "factory: net.py:needs")
    (nets / "s.yaml").write_text(text, encoding="utf-8")
    row = harness("run", "s.yaml", "--no-latency", "--allow-import").only
    assert (row["status"], row["stage"], row["blame"]) == ("error", "build", "spec")
    assert "needs channels, width(channels, width); give them under `args`" in row["message"]
    text = text.replace("net.py:needs", "net.py:needs\n    args: {chanels: 3}")
    (nets / "s.yaml").write_text(text, encoding="utf-8")
    row = harness("run", "s.yaml", "--no-latency", "--allow-import").only
    assert (row["status"], row["stage"], row["blame"]) == ("error", "build", "spec")
    assert "has no argument chanels; did you mean channels?" in row["message"]


def test_a_spec_names_files_inside_its_folder_and_torchscript_needs_consent(harness: Call, nets: Path) -> None:
    def run(reference: str, file: str, *words: str) -> tuple[int, str]:
        (nets / "s.yaml").write_text(SPEC.format(reference=reference, file=file), encoding="utf-8")
        ran = harness("run", "s.yaml", "--no-latency", *words)
        return ran.code, ran.err + ran.out

    assert run("net.onnx", "net.ort")[0] == 0
    code, text = run("../net.onnx", "/etc/hostname")
    assert (code, text.count("leads out of the folder")) == (2, 2)
    code, text = run("net.jit", "traced.pt")
    assert (code, text.count("TorchScript runs code when it is loaded; pass --allow-import")) == (2, 2)
    assert run("net.jit", "traced.pt", "--allow-import")[0] == 0
    assert run("net.jit", "traced.pt", "--allow-import", "--targets", "onnx-torchscript@17/ort-cpu")[0] == 0
    code, text = run("net.onnx", "net.pt2", "--targets", "file:deployed/ort-cpu")
    assert (code, "net.pt2 is programs of torch.export, which ort-cpu does not run" in text) == (2, True)


@pytest.mark.usefixtures("nets")
def test_a_known_failure_of_a_file_is_known(harness: Call, nets: Path) -> None:
    (nets / "s.yaml").write_text(SPEC.format(reference="net.onnx", file="off.onnx"), encoding="utf-8")
    entry = "- {cases: s/c, targets: file:deployed/ort-cpu, stage: compare, symptom: mismatch, reason: a test}\n"
    (nets / "known-failures.yaml").write_text(entry, encoding="utf-8")
    ran = harness("run", "s.yaml", "--no-latency")
    assert (ran.code, ran.only["status"]) == (0, "known")


def test_a_folder_by_its_absolute_path_is_saved_relative_to_the_spec(nets: Path, harness: Call) -> None:
    (nets / "data [1]").mkdir()
    for number in range(3):
        np.savez(nets / "data [1]" / f"{number}.npz", x=np.full((1, 3, 8, 8), number, "float32"))
    inputs = ("--inputs", str(nets / "data [1]"))
    ran = harness("compare", "net.onnx", "net.onnx", *inputs, "--save-spec", "saved.yaml")
    assert ran.code == 0, ran.err + ran.out
    assert "sample 2.npz" in str(ran.only["outputs"])
    assert str(nets) not in (nets / "saved.yaml").read_text(encoding="utf-8")
    again = harness("run", "saved.yaml", "--no-latency")
    assert again.code == 0, again.err


def test_no_spec_is_left_where_nothing_was_compared(nets: Path, harness: Call) -> None:
    options = ("--loop", "nothing=x", "--save-spec", "saved.yaml")
    ran = harness("compare", "net.onnx", "net.onnx", *options)
    assert ran.code == 2
    assert "saved.yaml is not written: nothing was compared" in ran.out
    assert not (nets / "saved.yaml").exists()


def test_no_spec_is_left_where_the_report_cannot_be_written(nets: Path, harness: Call) -> None:
    words = ("compare", "net.onnx", "net.onnx", "--save-spec", "saved.yaml")
    ran = harness(*words, "--report-dir", "net.onnx/reports")
    assert (ran.code, "--report-dir net.onnx/reports" in ran.err) == (2, True)
    assert not (nets / "saved.yaml").exists()
    assert harness(*words).code == 0


@pytest.mark.usefixtures("nets")
def test_the_saved_spec_asks_the_same_targets(harness: Call) -> None:
    asked = ("ort-cpu?optimization=disabled", "+fp16/ort-cpu")
    ran = harness("compare", "net.onnx", "fixed.onnx", "--targets", ",".join(asked), "--save-spec", "asked.yaml")
    assert ran.code == 0, ran.err
    for target in asked:
        assert f"SAME: net.onnx is still fixed.onnx (on {target})" in ran.out
    again = harness("run", "asked.yaml", "--no-latency")
    assert again.code == 0, again.err
    targets = {"file:subject/ort-cpu?optimization=disabled", "file:subject+fp16/ort-cpu"}
    assert {row["target"] for row in again.report["results"]} == targets
    other = harness("run", "asked.yaml", "--no-latency", "--targets", "file:subject/ort-cpu")
    assert other.only["target"] == "file:subject/ort-cpu"
    unclear = harness("explain", "asked/net", "asked.yaml")
    assert (unclear.code, "+fp16/ort-cpu" in unclear.err) == (2, True)
    ran = harness("compare", "off.onnx", "fixed.onnx", "--targets", "ort-cpu,+fp16/ort-cpu", "--save-spec", "off.yaml")
    assert "harness explain off/off off.yaml --target file:subject/ort-cpu\n" in ran.out


@pytest.mark.usefixtures("nets")
def test_a_spec_names_only_targets_of_its_files(harness: Call, nets: Path) -> None:
    text = "harness: 1\ncases:\n  - {name: a, file: fixed.onnx, files: {own: net.onnx}, inputs: {x: {shape: [3]}},\n"
    (nets / "wrong.yaml").write_text(
        f"{text}     targets: [file:other/ort-cpu, onnx-dynamo@18/ort-cpu, file:own/ort]}}\n", encoding="utf-8"
    )
    ran = harness("run", "wrong.yaml")
    assert ran.code == 2
    first, second, third = ran.err.splitlines()
    words = "is no target of a file under `files`; write file:own/RUNTIME"
    assert first == f"wrong.yaml:4:16: targets: file:other/ort-cpu {words}"
    assert second == f"wrong.yaml:4:36: targets: onnx-dynamo@18/ort-cpu {words}"
    assert third.startswith("wrong.yaml:4:60: ")
    (nets / "none.yaml").write_text(
        "harness: 1\ncases:\n  - {name: a, layer: ReLU, inputs: {x: {shape: [3]}}, targets: [trace/torch-cpu, b/c]}\n",
        encoding="utf-8",
    )
    remedy = "remove it, and choose targets with --targets; or add the `files:` that it is about"
    ran = harness("run", "none.yaml")
    assert (ran.code, ran.err) == (2, f"none.yaml:3:55: targets: only a case with `files` has its own; {remedy}\n")


ADDS = """
import torch


class Adds(torch.nn.Module):
    def forward(self, a, b, kinds):
        return a + b
"""


def adds(path: Path, kind: int) -> None:
    """Write the export of ``Adds`` to ``path``, which has no input ``kinds``."""
    tensors = [helper.make_tensor_value_info(name, kind, [2, 6]) for name in ("a", "b", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "adds", tensors[:2], tensors[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def test_a_mask_is_drawn_as_of_padded_texts(harness: Call, here: Path) -> None:
    """At random it may leave a row with nothing to attend to, where no two correct softmaxes need to agree."""
    values = [("x", TensorProto.FLOAT), ("attention_mask", TensorProto.INT64), ("y", TensorProto.FLOAT)]
    tensors = [helper.make_tensor_value_info(name, kind, [3, 5]) for name, kind in values]
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "mask"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "masked", tensors[:2], tensors[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(here / "masked.onnx"))
    ran = harness("compare", "masked.onnx", "masked.onnx", "--save-spec", "asked.yaml")
    assert ran.code == 0, ran.out
    assert "attention_mask int64[3, 5], drawn as a mask of texts that end with padding" in ran.out
    asked = (here / "asked.yaml").read_text(encoding="utf-8")
    assert "- [1, 1, 1, 1, 1]\n      - [1, 1, 1, 1, 0]\n      - [1, 1, 1, 0, 0]" in asked
    assert harness("run", "asked.yaml", "--no-latency").code == 0


def test_an_input_that_a_file_lacks_is_drawn_like_its_integers_or_asked_for(harness: Call, here: Path) -> None:
    (here / "nets.py").write_text(ADDS, encoding="utf-8")
    adds(here / "ints.onnx", TensorProto.INT64)
    adds(here / "floats.onnx", TensorProto.FLOAT)
    ran = harness("compare", "ints.onnx", "nets.py:Adds", "--save-spec", "asked.yaml")
    assert ran.code == 0, ran.err
    assert "kinds int64[2, 6], drawn" in ran.out
    assert "kinds is no input of ints.onnx: an exporter drops inputs that it does not read" in ran.out
    again = harness("run", "asked.yaml", "--allow-import", "--no-latency")
    assert again.code == 0, again.err
    asked = harness("compare", "floats.onnx", "nets.py:Adds")
    assert asked.code == 2
    assert "kinds: no shape is declared, and the file has no such input; give --shape kinds=" in asked.err
    given = harness("compare", "floats.onnx", "nets.py:Adds", "--shape", "kinds=2,6")
    assert given.code == 0, given.err


def test_code_that_exits_is_a_line_for_the_user(harness: Call, here: Path) -> None:
    parses = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--data', required=True)\n"
    (here / "train.py").write_text(f"{parses}parser.parse_args()\n", encoding="utf-8")
    (here / "exits.py").write_text("import sys\n\n\ndef net():\n    sys.exit('no data')\n", encoding="utf-8")
    forward = "import sys, torch\n\n\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        sys.exit(4)\n"
    (here / "forward.py").write_text(forward, encoding="utf-8")
    adds(here / "adds.onnx", TensorProto.FLOAT)
    np.savez(here / "x.npz", x=np.ones((2, 3), "float32"))
    commands = {
        "compare": ["compare", "adds.onnx"],
        "record": ["record", "-o", "recorded"],
        "init": ["init"],
        "scan": ["scan", "--inputs", "x.npz", "-o", "scanned"],
        "ladder": ["ladder", "--inputs", "x.npz"],
        "sensitivity": ["sensitivity", "--inputs", "x.npz", "--to", "fp16"],
    }
    guard = 'its import calls exit(2); put what a script does, such as parse_args(), under `if __name__ == "__main__"`'
    for words in commands.values():
        ran = harness(*words, "train.py:net")
        assert (ran.code, guard in ran.err) == (2, True), ran.err
        assert "harness itself failed" not in ran.err
    for name in ("compare", "record", "scan", "ladder"):
        ran = harness(*commands[name], "exits.py:net")
        assert (ran.code, "the code called exit(no data)" in ran.err) == (2, True), ran.err
    for name in ("ladder", "sensitivity", "scan"):
        ran = harness(*commands[name], "forward.py:Net")
        assert (ran.code, "the code called exit(4)" in ran.err) == (2, True), ran.err


def test_a_pointer_of_git_lfs_is_named_as_one_wherever_a_file_is_read(harness: Call, nets: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    recorded = nets / "recorded" / "test_data_set_0"
    recorded.mkdir(parents=True)
    names = ["lfs.onnx", "lfs.ort", "lfs.pt", "lfs.npz", "lfs.safetensors", "recorded/model.onnx"]
    shutil.copy(nets / "net.onnx", nets / "external.onnx")
    for name in [
        *names,
        "external.onnx.data",
        *(f"recorded/test_data_set_0/{each}_0.pb" for each in ("input", "output")),
    ]:
        (nets / name).write_text(pointer, encoding="utf-8")
    said = "a pointer of Git LFS, not the file itself; run git lfs pull"
    for named, words in {
        "lfs.onnx": ["compare", "lfs.onnx", "net.onnx"],
        "lfs.ort": ["compare", "lfs.ort", "net.onnx"],
        "lfs.pt": ["compare", "net.onnx", "lfs.pt"],
        "lfs.npz": ["compare", "net.onnx", "fixed.onnx", "--inputs", "lfs.npz"],
        "lfs.safetensors": ["compare", "net.onnx", "net.py:Net", "--weights", "lfs.safetensors"],
        "external.onnx.data": ["compare", "external.onnx", "net.onnx"],
        "input_0.pb": ["compare", "net.onnx", "fixed.onnx", "--inputs", "recorded/test_data_set_0"],
    }.items():
        ran = harness(*words)
        assert (ran.code, f"{named}: {said}" in ran.err, len(ran.err.splitlines())) == (2, True, 1), ran.err
    ran = harness("run", "recorded", "--no-latency")
    assert (ran.code, f"model.onnx is {said}" in ran.out) == (1, True), ran.out


def test_a_file_with_the_channels_last_gets_the_shape_that_its_module_takes(harness: Call, nets: Path) -> None:
    changed(nets, with_channels_last, "nhwc.onnx")
    words = ("compare", "nhwc.onnx", "net.py:Net", "--weights", "weights.pt")
    drawn = harness(*words)
    assert (drawn.code, "NOT COMPARED" in drawn.out) == (2, True), drawn.out
    assert "(channels first: --shape x=2,3,8,8)" in drawn.out
    given = harness(*words, "--shape", "x=2,3,8,8")
    assert given.code == 0, given.out
    other = harness("compare", "fixed.onnx", "net.py:Net", "--args", "{channels: 4}")
    assert (other.code, "channels first" in other.out) == (2, False), other.out


def test_the_screen_says_what_whole_numbers_were_drawn_from(harness: Call, here: Path) -> None:
    for kind, words in {
        TensorProto.INT64: "drawn from 0 and 1; give --inputs for other values",
        TensorProto.UINT8: "drawn from 0 to 255",
    }.items():
        adds(here / "adds.onnx", kind)
        ran = harness("compare", "adds.onnx", "adds.onnx")
        assert ran.code == 0, ran.out
        assert words in ran.out
