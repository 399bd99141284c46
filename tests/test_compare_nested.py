"""``harness compare`` with modules that take lists and mappings of tensors, and return them by name."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml

from harness.check.files.matching import match_outputs
from harness.check.files.signatures import Declared, FileSignature
from harness.scaffold.nesting import nested, nested_labels
from tests.conftest import Call

NETS = '''
import torch
from torch import nn


class Decoder(nn.Module):
    """One more key and value for each layer of a cache."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x, past):
        present = []
        for layer in past:
            keys, values = torch.cat([layer["key"], x], 1), torch.cat([layer["value"], x * self.scale], 1)
            x = torch.softmax(x @ keys.transpose(1, 2), -1) @ values
            present.append({"key": keys, "value": values})
        return {"y": x, "present": present}


class Detector(nn.Module):
    """A dict for a list of images of any size."""

    def forward(self, images):
        means = [image.mean((1, 2)) for image in images]
        return [{"score": mean.sigmoid(), "box": mean * 2} for mean in means]
'''
PARTS = [f"{layer}.{part}" for layer in range(2) for part in ("key", "value")]
PAST, PRESENT = [f"past.{part}" for part in PARTS], [f"present.{part}" for part in PARTS]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the nets, files of them, and inputs."""
    folder = tmp_path_factory.mktemp("nested")
    (folder / "nets.py").write_text(NETS, encoding="utf-8")
    nets: dict[str, Any] = {}
    exec(NETS, nets)
    net = SimpleNamespace(**nets)
    x = torch.randn(1, 1, 8)
    past = [{"key": torch.randn(1, 3, 8), "value": torch.randn(1, 3, 8)} for _ in range(2)]
    images = [torch.randn(3, 4, 5), torch.randn(3, 6, 7)]
    leaves = [tensor for layer in past for tensor in layer.values()]
    cache: dict[str, Any] = {name: leaf.numpy() for name, leaf in zip(["x", *PAST], [x, *leaves], strict=True)}
    np.savez(folder / "cache.npz", **cache)
    pictures: dict[str, Any] = {f"images.{at}": image.numpy() for at, image in enumerate(images)}
    np.savez(folder / "images.npz", **pictures)
    axes = {name: {1: "P"} for name in PAST}
    decoder: dict[str, Any] = {"input_names": ["x", *PAST], "output_names": ["y", *PRESENT], "dynamic_axes": axes}
    outputs = [f"{at}.{name}" for at in range(2) for name in ("score", "box")]
    detector: dict[str, Any] = {"input_names": ["images.0", "images.1"], "output_names": outputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file, module, inputs, names in (
            ("decoder.onnx", net.Decoder(), (x, past), decoder),
            ("off.onnx", net.Decoder(1.01), (x, past), decoder),
            ("detector.onnx", net.Detector(), (images,), detector),
        ):
            torch.onnx.export(module.eval(), inputs, folder / file, dynamo=False, **names)
    swapped = onnx.load(folder / "detector.onnx")
    swapped.graph.output.insert(0, swapped.graph.output.pop())
    onnx.save(swapped, folder / "swapped.onnx")
    return folder


@pytest.fixture
def folder(made: Path, here: Path) -> Path:
    """The working directory, with the files."""
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here


def test_a_cache_is_put_together_from_the_names_of_the_file(folder: Path, harness: Call) -> None:
    ran = harness("compare", "decoder.onnx", "nets.py:Decoder", "--inputs", "cache.npz", "--save-spec", "asked.yaml")
    assert ran.code == 0, ran.err + ran.out
    assert ran.only["notes"] == []
    assert [output["name"] for output in ran.only["outputs"]] == ["y", *PRESENT]
    past = yaml.safe_load((folder / "asked.yaml").read_text(encoding="utf-8"))["cases"][0]["inputs"]["past"]
    assert [list(layer) for layer in past] == [["key", "value"], ["key", "value"]]
    again = harness("run", "asked.yaml", "--allow-import", "--no-latency")
    assert again.code == 0, again.err


@pytest.mark.usefixtures("folder")
def test_a_drawn_cache_is_fed_back_and_a_wrong_one_is_found(harness: Call) -> None:
    options = ("--shape", "past.1.key=1,5,8", "--loop", "present=past", "--steps", "3")
    shapes = [option for name in PAST if name != "past.1.key" for option in ("--shape", f"{name}=1,5,8")]
    ran = harness("compare", "decoder.onnx", "nets.py:Decoder", *options, *shapes)
    assert ran.code == 0, ran.err + ran.out
    wrong = harness("compare", "off.onnx", "nets.py:Decoder", *options, *shapes)
    assert wrong.code == 1
    assert "step 1 is the first that departs" in wrong.out


@pytest.mark.usefixtures("folder")
def test_a_list_of_images_and_dicts_of_outputs_are_paired_by_name(harness: Call) -> None:
    for file in ("detector.onnx", "swapped.onnx"):
        ran = harness("compare", file, "nets.py:Detector", "--inputs", "images.npz")
        assert ran.code == 0, ran.err + ran.out
    assert any("another order (1.box, 0.score, 0.box, 1.score)" in note for note in ran.only["notes"])
    missing = harness("compare", "decoder.onnx", "nets.py:Detector", "--inputs", "cache.npz")
    assert missing.code == 2
    assert "nets.py:Detector takes (images)" in missing.err


def test_a_spec_has_a_list_where_the_parts_are_numbers() -> None:
    entry = {"shape": [1]}
    paths = ["x", "past.0.key", "past.1.key", "state.a", "odd.1"]
    assert nested(dict.fromkeys(paths, entry)) == {
        "x": entry,
        "past": [{"key": entry}, {"key": entry}],
        "state": {"a": entry},
        "odd": {"1": entry},
    }


def test_outputs_are_paired_by_their_paths_in_any_order() -> None:
    own, paths = ["output_0", "output_1"], ["y", "past.key"]
    for names in (["past.key", "y"], ["past_key", "y"]):
        matched = match_outputs(names, own, "a.onnx", paths)
        assert matched.reference == {names[0]: "output_1", "y": "output_0"}
        assert "in another order" in matched.notes[0]
    lacking = match_outputs(["past.key"], own, "a.onnx", paths)
    assert lacking.reference == {"past.key": "output_1"}
    assert lacking.missing == ("output_0",)
    assert lacking.notes == ("a.onnx lacks outputs of the reference: y",)
    assert match_outputs(["a", "b"], own, "a.onnx", paths).reference == {"a": "output_0", "b": "output_1"}


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["input.1"], ["input_1"]),
        (["input.1", "input.3"], ["input_1", "input_3"]),
        (["input.0", "input.1"], ["input.0", "input.1"]),
        (["input.0.key", "input.1.key"], ["input.0.key", "input.1.key"]),
        (["input.key", "input"], ["input_key", "input"]),
        (["other.0"], ["other_0"]),
    ],
)
def test_a_name_with_a_number_of_torch_is_no_place_in_a_list(names: list[str], labels: list[str]) -> None:
    """torch's older exporter calls an input ``input.1`` whose own name was used already."""
    reference = FileSignature((Declared("input", None, None),))
    given = {name: name.replace(".", "_") for name in names}
    assert list(nested_labels(given, reference).values()) == labels
