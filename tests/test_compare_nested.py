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
from torch import nn

import harness
from harness.check.files.matching import match_outputs
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


class Cached(nn.Module):
    """A list of dicts of tensors, and an input that may be left out."""

    def __init__(self, scale: float = 0.5) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self, x: torch.Tensor, past: list[dict[str, torch.Tensor]], mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The longer keys."""
        present: list[torch.Tensor] = []
        for layer in past:
            present.append(torch.cat([layer["key"], x * self.scale - layer["value"]], 1))  # noqa: PERF401 - scripted
        return x * 2 if mask is None else x * mask, present


class Keyword(nn.Module):
    """Takes what it needs by keyword."""

    def forward(self, x: torch.Tensor, *, past: Any, mask: torch.Tensor | None = None) -> Any:
        """As the other."""
        return Cached()(x, past, mask)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One net in every form that takes nested inputs."""
    folder = tmp_path_factory.mktemp("sides")
    x, past = _nested_inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, separator in (("dots.onnx", "."), ("underscores.onnx", "_")):
            names = ["x", *(path.replace(".", separator) for path in PAST)]
            torch.onnx.export(Cached().eval(), (x, past), folder / name, dynamo=False, input_names=names)
        script = torch.jit.script(Cached())
        torch.jit.save(script, folder / "cached.jit")
        torch.export.save(torch.export.export(Cached(), (x, past)), folder / "cached.pt2")
    files = {path.name: path for path in folder.iterdir()}
    return {**files, "module": Cached(), "script": script, "keyword": Keyword()}


def _nested_inputs() -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    torch.manual_seed(3)
    return torch.randn(1, 1, 4), [{part: torch.randn(1, 1, 4) for part in ("key", "value")} for _ in range(2)]


FORMS = ["dots.onnx", "underscores.onnx", "cached.jit", "cached.pt2", "module", "script", "keyword"]


@pytest.mark.parametrize("form", FORMS)
def test_nested_inputs_reach_every_form_by_name_and_by_order(sides: dict[str, Any], form: str) -> None:
    x, past = _nested_inputs()
    harness.compare_models(sides[form], sides["module"], {"past": past, "x": x.numpy()}).assert_passed()
    harness.compare_models(sides["cached.jit"], sides[form], {"past": past, "x": x}).assert_passed()
    harness.compare_models(sides[form], sides["dots.onnx"], [x, past]).assert_passed()
    assert not harness.compare_models(sides[form], Cached(0.51), [x, past])


def test_an_input_that_may_be_left_out_is_given_or_none(sides: dict[str, Any]) -> None:
    x, past = _nested_inputs()
    mask = torch.full((1,), 3.0)
    for subject in ("cached.jit", "module", "script", "keyword"):
        for given in (mask, None):
            inputs = {"x": x, "mask": given, "past": past}
            harness.compare_models(sides[subject], sides["cached.jit"], inputs).assert_passed()
    (result,) = harness.compare_models(
        sides["dots.onnx"], sides["module"], {"x": x, "past": past, "mask": mask}
    ).results
    assert "dots.onnx has no input mask" in str(result.message)


def test_inputs_of_torchscript_are_bound_by_name_in_any_order(tmp_path: Path) -> None:
    class Difference(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, power: int = 1, c: torch.Tensor | None = None) -> Any:
            d = (a - b) ** power
            return d if c is None else d + c

    torch.jit.save(torch.jit.script(Difference()), tmp_path / "difference.jit")
    a, b = torch.randn(3), torch.randn(3)
    inputs = {"b": b, "a": a}
    harness.compare_models(Difference(), tmp_path / "difference.jit", inputs).assert_passed()
    harness.compare_models(tmp_path / "difference.jit", Difference(), inputs).assert_passed()
    (result,) = harness.compare_models(tmp_path / "difference.jit", Difference(), inputs | {"c": b}).results
    assert "its inputs are passed by order, power=1 before c: give power too" in str(result.message)


def test_the_command_takes_nested_inputs_for_files_of_torch(sides: dict[str, Any], here: Path, harness: Call) -> None:
    x, past = _nested_inputs()
    tensors: dict[str, Any] = {"x": x.numpy()}
    tensors |= {f"past.{at}.{part}": past[at][part].numpy() for at in range(2) for part in past[at]}
    np.savez(here / "inputs.npz", **tensors)
    np.savez(here / "masked.npz", mask=np.full(1, 3, "float32"), **tensors)
    files = {name: str(sides[name]) for name in ("dots.onnx", "cached.jit", "cached.pt2")}
    for subject, reference, inputs in (
        ("cached.jit", "dots.onnx", "inputs.npz"),
        ("dots.onnx", "cached.pt2", "inputs.npz"),
        ("cached.pt2", "cached.jit", "inputs.npz"),
        ("cached.jit", "cached.jit", "masked.npz"),
    ):
        ran = harness("compare", files[subject], files[reference], "--inputs", inputs)
        assert ran.code == 0, ran.err + ran.out


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
    given = {name: name.replace(".", "_") for name in names}
    assert list(nested_labels(given, ["input"]).values()) == labels
