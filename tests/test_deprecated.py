"""Plugins of other packages with the old names still work, and every old name warns with the new one."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from harness import layers
from harness.compare.metrics import ComparedValues
from harness.compare.numbers import NumberFormat, Pair, number_format
from harness.compare.rules import Allowance
from harness.deprecated import OLD_MODULES, OLD_NAMES
from harness.errors import Interrupted, Location, Problem, StageError, Unsupported
from harness.layers import Answer, Call, Layer, Mutant, with_current_names
from harness.layers.relu import ReLU
from harness.model.build import Subject
from harness.report.wording import format_element
from harness.result import OutputComparison
from harness.runtimes import Availability
from harness.spec.language.tolerances import Exact, Tolerance
from tests.old_plugins import Ran, run_with_old_plugins


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run with one old plugin of each kind from an installed distribution; every warning is shown."""
    return run_with_old_plugins(tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("packages"))


CHECKS = [
    (case, target)
    for case in ("old/softsign", "old/silu")
    for target in ("old-trace/torch-cpu", "onnx-dynamo+fixes/old-board")
]


@pytest.mark.parametrize("check", CHECKS, ids="-".join)
def test_a_check_with_old_plugins_passes_and_measures_what_they_measure(ran: Ran, check: tuple[str, str]) -> None:
    row = ran.rows[check]
    assert (ran.code, row["status"], row["message"]) == (0, "passed", None)
    (output,), (finding,) = row["outputs"], row["findings"]
    largest = {"old/softsign": 0.75, "old/silu": 2.8577224}[check[0]]
    assert output["extra"]["old_metric"] == pytest.approx(largest)
    assert finding["passed"]
    assert output["tolerance"] == {"old/softsign": "2 ulp", "old/silu": "rtol 1e-05 + atol 1e-05"}[check[0]]


def test_what_an_old_exporter_and_an_old_runtime_say_is_reported(ran: Ran) -> None:
    assert ran.rows["old/silu", "old-trace/torch-cpu"]["notes"] == ["answer of shape [3]"]
    absent = ran.rows["old/silu", "onnx-dynamo/old-absent"]
    assert absent["status"] == "skipped"
    assert absent["message"] == "old-absent: no such board; install with: ask your dealer"


def test_an_old_report_format_is_written(ran: Ran) -> None:
    assert ran.text.startswith("All as expected: 6 checks (4 passed, 2 skipped).\n4 exports made, 0 from the cache\n")
    lines = ran.text.splitlines()
    silu = lines[lines.index("silu") :]
    assert silu[3:5] == ["old-trace/torch-cpu wrong False", "sees errors"]
    assert silu[8].startswith("within the tolerance (rtol 1e-05 + atol 1e-05); largest error ")
    assert format_element(1 / 3) == "0.333333333"


USES = [
    ("layers", "layer plugin Softsign: the protocol harness.layers.Layer has changed; rename oracle to float64_ref"),
    ("exporters", "Subject.answer is now Subject.eager_outputs"),
    ("exporters", "harness.model.subject.Subject is now harness.model.build.Subject"),
    ("fixes", "harness.fixes._builder.narrowed is now harness.fixes._builder.from_compute_type"),
    ("runtimes", "Availability(bring=...) is now Availability(install=...)"),
    ("compare.metrics", "Pair.most_relative is now Pair.max_relative"),
]


@pytest.mark.parametrize(("kind", "warning"), USES, ids=[warning.split(" is ")[0] for _, warning in USES])
def test_the_log_of_a_check_holds_the_warnings_of_its_old_plugins(ran: Ran, kind: str, warning: str) -> None:
    exporter = "old-trace/torch-cpu" if kind == "exporters" else "onnx-dynamo+fixes/old-board"
    row = ran.rows["old/softsign" if kind == "layers" else "old/silu", exporter]
    lines = [line for line in row["log"] if f"DeprecationWarning: {warning}" in line]
    assert lines
    assert kind == "layers" or all(f"old_{kind.replace('.', '_')}.py:" in line for line in lines)


def test_names_that_a_plugin_imports_warn_where_they_are_imported(ran: Ran) -> None:
    assert "old_runtimes.py:2: DeprecationWarning: harness.environment.installed is now" in ran.warnings
    assert (
        "old_report.py:3: DeprecationWarning: harness.report.facts.about is now harness.report.machines" in ran.warnings
    )


PLAIN_NAMES = [(module, old) for module, names in OLD_NAMES.items() for old in names]


@pytest.mark.parametrize(("module", "old"), PLAIN_NAMES, ids=map(".".join, PLAIN_NAMES))
def test_every_old_name_is_the_current_object_and_warns_at_the_caller(module: str, old: str) -> None:
    owner, _, current = OLD_NAMES[module][old].rpartition(".")
    owner = owner or module
    with pytest.warns(DeprecationWarning, match=r" is now ") as caught:
        value = getattr(import_module(module), old)
    assert value is vars(import_module(owner))[current]
    assert [str(one.message) for one in caught] == [
        f"{module}.{old} is now {owner}.{current}; the old name works until the next release"
    ]
    assert caught[0].filename == __file__


MOVED_NAMES = {
    "harness.api.answers": ("Compared", "Ran", "Verified"),
    "harness.compare.bits": ("same_bits",),
    "harness.compare.distance": ("distances",),
    "harness.compare.numberformat": ("NumberFormat", "bit_patterns", "dtype_name", "number_format", "ordinals"),
    "harness.compare.pair": ("Pair",),
    "harness.compare.strict": ("strict_ulp",),
    "harness.model.subject": ("Subject",),
    "harness.module_copy": ("copy_module",),
    "harness.onnx_arrays": ("from_array", "to_array"),
    "harness.report.advice": ("Advice", "next_step"),
    "harness.report.case_name": ("CaseName",),
    "harness.report.markup": ("code", "command", "fenced", "link", "plain", "table"),
    "harness.report.matrix": ("NO_CHECK", "Group", "Row", "cell", "groups", "targets"),
    "harness.spec.case": ("Case", "Layout", "Mode", "TensorSpec"),
    "harness.spec.tolerance": ("Close", "Exact", "Rule", "Scaled", "Tolerance", "Ulp"),
}
"""The names in the removed modules; those of ``harness.report.facts`` have new spellings too."""


@pytest.mark.parametrize(("module", "names"), MOVED_NAMES.items(), ids=MOVED_NAMES)
def test_every_old_module_has_its_names(module: str, names: tuple[str, ...]) -> None:
    current = OLD_MODULES[module]
    for name in names:
        with pytest.warns(DeprecationWarning, match=f"^{module}.{name} is now {current}.{name};"):
            assert getattr(import_module(module), name) is vars(import_module(current))[name]


def test_a_name_in_an_old_module_that_has_a_new_spelling_warns_once_with_it() -> None:
    with pytest.warns(DeprecationWarning, match=r" is now ") as caught:
        from harness.compare.numberformat import steps_between  # type: ignore[import-not-found]
    (warning,) = caught
    assert str(warning.message).startswith(
        "harness.compare.numberformat.steps_between is now harness.compare.numbers.ulps_between;"
    )
    assert warning.filename == __file__
    one = np.array([1.0], np.float32)
    assert steps_between(one, np.nextafter(one, np.float32(2)), number_format(one.dtype)).tolist() == [1]


def test_other_names_and_modules_do_not_exist() -> None:
    with pytest.raises(ImportError, match=r"cannot import name 'said' from 'harness\.errors'"):
        from harness.errors import said  # type: ignore[attr-defined]  # noqa: F401
    with pytest.raises(AttributeError, match=r"module 'harness\.layers' has no attribute 'Twins'"):
        _ = layers.Twins  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="has no attribute 'Exactly'"):
        _ = import_module("harness.spec.tolerance").Exactly
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'harness\.spec\.tolerances'"):
        import_module("harness.spec.tolerances")
    assert not hasattr(import_module("harness.spec.tolerance"), "__wrapped__")


def pair() -> Pair:
    x = np.array([1.0, -2.0], np.float32)
    return Pair(x, x + np.float32(0.5), number_format(x.dtype) or NumberFormat("text"))


def compared() -> ComparedValues:
    allowance = Allowance(np.array([1, 3]), np.array(2))
    return ComparedValues(pair(), allowance, np.array([4], np.intp), (3,))


ATTRIBUTES: list[tuple[object, dict[str, str]]] = [
    (Availability("no device", "buy one"), {"bring": "install"}),
    (Allowance(np.array([1, 3]), np.array(2)), {"outside": "exceeded"}),
    (compared(), {"strays": "nonfinite_mismatches", "outside": "exceeded"}),
    (
        pair(),
        {
            "form": "format",
            "steps": "ulps",
            "size": "magnitude",
            "same": "equal",
            "most_relative": "max_relative",
            "signs_of_zero": "zero_sign_differences",
        },
    ),
    (NumberFormat("floating", unused_bits=3), {"spare": "unused_bits"}),
    (Mutant("a", why_equivalent="no elements"), {"why_equal": "why_equivalent"}),
    (OutputComparison(0, "y", (1,), "float32", "exact", inconclusive="no elements"), {"blind": "inconclusive"}),
    (Problem(Location("a.yaml"), "wrong", "right"), {"wrong": "message", "right": "remedy"}),
    (Unsupported("no", from_library=True), {"of_library": "from_library"}),
    (Interrupted(signal.SIGTERM), {"by": "signal"}),
]


@pytest.mark.parametrize(("owner", "names"), ATTRIBUTES, ids=[type(owner).__name__ for owner, _ in ATTRIBUTES])
def test_old_attributes_have_the_current_values(owner: object, names: dict[str, str]) -> None:
    for old, new in names.items():
        with pytest.warns(DeprecationWarning, match=rf"\.{old} is now \w+\.{new};") as caught:
            value = getattr(owner, old)
        assert np.array_equal(value, getattr(owner, new))
        assert [warning.filename for warning in caught] == [__file__]


def keywords(**arguments: Any) -> Any:
    """Return old arguments that mypy does not know."""
    return arguments


CONSTRUCTORS: list[tuple[Callable[[], object], object]] = [
    (lambda: Availability("no device", **keywords(bring="buy one")), Availability("no device", "buy one")),
    (lambda: replace(Availability(), **keywords(bring="buy one")), Availability(install="buy one")),
    (lambda: NumberFormat("floating", **keywords(spare=3)), NumberFormat("floating", unused_bits=3)),
    (lambda: Mutant("a", **keywords(why_equal="same")), Mutant("a", why_equivalent="same")),
    (lambda: Problem(Location("a"), **keywords(wrong="b", right="c")), Problem(Location("a"), "b", "c")),
]


@pytest.mark.parametrize(("make", "expected"), CONSTRUCTORS)
def test_constructors_take_old_arguments(make: Callable[[], object], expected: object) -> None:
    with pytest.warns(DeprecationWarning, match=r"\w+\(\w+=\.\.\.\) is now \w+\(\w+=\.\.\.\);"):
        assert make() == expected
    assert pickle.loads(pickle.dumps(expected)) == expected


def test_errors_of_old_plugins_say_that_a_library_raised_them() -> None:
    with pytest.warns(DeprecationWarning, match=r"StageError\(of_library=...\) is now StageError\(from_library=...\)"):
        error = Unsupported("no", **keywords(of_library=True))
    assert isinstance(error, StageError)
    assert error.from_library


def test_an_exporter_reads_the_answer_and_a_runtime_says_why_not() -> None:
    subject = Subject(cast("Any", None), {}, 1, eager_outputs=[cast("Any", "y")])
    with pytest.warns(DeprecationWarning, match=r"Subject\.answer is now Subject\.eager_outputs"):
        assert cast("Any", subject).answer == ["y"]
    with pytest.warns(DeprecationWarning, match=r"Availability\.why_not is now Availability\.unavailable_message"):
        line = cast("Any", Availability("not installed", "pip install board")).why_not("board")
    assert line == "board: not installed; install with: pip install board"


class OldLayer:
    name = "Softsign"

    def oracle(self, call: Call) -> Answer:
        return Answer((call.inputs[0] / (1 + np.abs(call.inputs[0])),))

    def tolerance(self, *_: object) -> Tolerance:
        return Tolerance(Exact())

    def twins(self, _: Call) -> list[Mutant]:
        return [Mutant("Tanh()", layer="Tanh", args={})]


class OldReLU(ReLU):
    """It overrides harness's float64 reference under the old name."""

    def oracle(self, call: Call) -> Answer:
        return OldLayer().oracle(call)


# It inherits the protocol's methods, which return None.
OldLayerOfTheProtocol: Any = type("OldLayerOfTheProtocol", (OldLayer, Layer), {})

CALL = Call({}, {}, [np.array([-1.0, 3.0])])


OLD_METHODS = {name: getattr(OldLayer(), name) for name in ("oracle", "tolerance", "twins")}
OLD_LAYERS = [OldLayer(), OldLayerOfTheProtocol(), OldReLU(), SimpleNamespace(name="Softsign", **OLD_METHODS)]


@pytest.mark.parametrize("old", OLD_LAYERS, ids=[type(old).__name__ for old in OLD_LAYERS])
def test_a_layer_with_the_old_method_names_has_the_current_ones(old: Any) -> None:
    plugin = with_current_names(old)
    message = f"layer plugin {old.name}: .*rename oracle to float64_reference"
    with pytest.warns(DeprecationWarning, match=message):
        answer = plugin.float64_reference(CALL)
    assert answer.outputs[0].tolist() == [-0.5, 0.75]
    assert plugin.tolerance({}, "float32", None) == old.tolerance({}, "float32", None)


def test_the_mutants_of_an_old_layer_are_its_twins() -> None:
    with pytest.warns(DeprecationWarning, match="layer plugin Softsign: .*rename twins to mutants"):
        (mutant,) = with_current_names(OldLayer()).mutants(CALL)
    assert mutant.layer == "Tanh"


class NewReLU(OldReLU):
    """It supports this release and the previous one."""

    def float64_reference(self, call: Call) -> Answer:
        return Answer((call.inputs[0],))


@pytest.mark.parametrize("current", [ReLU(), NewReLU()])
def test_a_layer_with_the_current_names_is_used_as_it_is(current: Any) -> None:
    assert with_current_names(current) is current


def test_the_old_name_of_mutant_works() -> None:
    with pytest.warns(DeprecationWarning, match=r"harness\.layers\.Twin is now harness\.layers\.Mutant;"):
        from harness.layers import Twin  # type: ignore[attr-defined]
    assert Twin is Mutant
    assert Twin("a", "ReLU", {}, None, None, "b").why_equivalent == "b"
