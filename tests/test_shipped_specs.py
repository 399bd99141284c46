"""The shipped specs contain every row of the study notes, and torch accepts all of their cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.spec.discovery import Specs, load_specs
from harness.spec.known_failures import load_known_failures
from harness.spec.language.case import Case, LayerModel
from harness.spec.targets.sets import load_target_sets

ROOT = Path(__file__).parent.parent
ROWS = (
    "maxpool2d/notes-experiment",
    "maxpool2d/ceil-mode",
    "maxpool2d/return-indices",
    "avgpool2d/notes-divisor-override",
    "maxunpool2d/notes-experiment",
    "autoencoder/pool-unpool",
    "linear/notes-experiment",
    "mlp/two-layer",
    "mlp/lenet-head",
    "mlp/linear-collapse",
    "sigmoid/",
    "tanh/",
    "relu/",
    "leakyrelu/",
    "prelu/",
    "rrelu/",
)
SWEPT = {
    "MaxPool2d": {"kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"},
    "AvgPool2d": {"kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"},
    "MaxUnpool2d": {"kernel_size", "stride", "padding", "output_size"},
    "Linear": {"in_features", "out_features", "bias"},
    "LeakyReLU": {"negative_slope", "inplace"},
    "PReLU": {"num_parameters", "init"},
    "RReLU": {"lower", "upper", "inplace"},
}


@pytest.fixture(scope="module")
def specs() -> Specs:
    return load_specs([ROOT / "specs"])


@pytest.fixture(scope="module")
def layers(specs: Specs) -> dict[str, list[Case]]:
    cases_of: dict[str, list[Case]] = {}
    for case in specs.cases:
        if isinstance(case.model.model, LayerModel):
            cases_of.setdefault(case.model.model.layer, []).append(case)
    return cases_of


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_notes_is_a_shipped_case(specs: Specs, row: str) -> None:
    ids = [case.id for case in specs.cases]
    assert row in ids or any(each.startswith(row if row.endswith("/") else f"{row}[") for each in ids)


@pytest.mark.parametrize("layer", SWEPT)
def test_every_argument_of_a_notes_layer_has_more_than_one_value(layers: dict[str, list[Case]], layer: str) -> None:
    seen: dict[str, set[str]] = {}
    for case in layers[layer]:
        model = case.model.model
        assert isinstance(model, LayerModel)
        for name in SWEPT[layer]:
            arguments = {**model.args, **model.forward}
            seen.setdefault(name, set()).add(repr(arguments.get(name, "default")))
    assert {name for name, values in seen.items() if len(values) > 1} == SWEPT[layer]


def test_many_cases_and_many_other_layers(specs: Specs, layers: dict[str, list[Case]]) -> None:
    assert len(specs.cases) >= 350
    assert len(set(layers) - set(SWEPT) - {"Sigmoid", "Tanh", "ReLU"}) >= 45


def test_activations_have_inputs_of_both_signs(layers: dict[str, list[Case]]) -> None:
    """All-positive inputs cannot tell ReLU from the identity or the absolute value."""
    for layer in ("ReLU", "LeakyReLU", "PReLU", "RReLU"):
        fills = [case.inputs[0].fill for case in layers[layer]]
        assert any(fill is not None and fill.kind == "normal" for fill in fills), layer


def test_every_case_has_an_about_text(specs: Specs) -> None:
    assert [case.id for case in specs.cases if not case.about] == []


def test_every_known_failure_matches_an_existing_check(specs: Specs) -> None:
    targets = [str(target) for target in load_target_sets(ROOT / "specs").all]
    known = load_known_failures(ROOT / "specs" / "known-failures.yaml")
    ids = [case.id for case in specs.cases]
    assert known
    assert [e.cases for e in known if not any(e.matches(case, target) for case in ids for target in targets)] == []


def test_the_sets_of_targets_that_the_readme_names_are_there() -> None:
    sets = load_target_sets(ROOT / "specs").sets
    assert {"default", "stock", "fixes", "cuda", "reference", "quick"} <= set(sets)
    assert {str(target) for target in sets["stock"]} < {str(target) for target in sets["default"]}


def test_every_spec_names_its_schema() -> None:
    for path in [*(ROOT / "specs").rglob("*.yaml"), *(ROOT / "examples").rglob("*.yaml")]:
        if path.name in {"targets.yaml", "known-failures.yaml"}:
            continue
        first = path.read_text("utf-8").splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema="), path
        named = (path.parent / first.partition("=")[2]).resolve()
        assert named == ROOT / "specs" / "harness.schema.json", path


def test_a_user_module_is_refused_without_allow_import() -> None:
    with pytest.raises(SpecError, match="--allow-import"):
        load_specs([ROOT / "examples" / "specs"])
    assert len(load_specs([ROOT / "examples" / "specs"], allow_import=True).cases) == 8
