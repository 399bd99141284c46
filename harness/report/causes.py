"""The unexpected checks of a report by cause, so that one fault in a hundred checks is read once.

Two checks have one cause if they ended alike and name the same operator or layer:

- FAILED: symptom, blame, layers and kind of difference. Such a group is split by the argument, dtype or rank that its
  cases have and the passing cases of these layers lack, such as ``divisor_override``.
- ERROR: stage, symptom, blame and message, which names the operator. Where it names none (a crash, a timeout), layers.
- FIXED: the entry in the list of known failures.

:func:`causes` puts FAILED first, because nobody notices a wrong answer, then ERROR, which stops by itself, then FIXED.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from harness.errors import one_line, shortened
from harness.report.wording import (
    CaseName,
    comparison_line,
    explanation,
    main_comparison,
    split_settings,
    stage_and_symptom,
    unexpected,
)
from harness.result import Blame, Result, Status
from harness.spec.quoting import count_of

_ORDER: tuple[Status, ...] = ("failed", "error", "fixed")
_NAMES_NOTHING = frozenset({"crash", "timeout", "out-of-memory"})
_MAX_TITLE = 200
_MAX_LAYERS = 3

MIN_CASES = 3
"""Cases with a setting, and cases without it, before it is taken for what tells them apart."""

MIN_SHARE = 0.9
"""The share of the cases with a setting that must go wrong. Some pass by accident: a divisor may equal the default."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Checks that went wrong alike. ``subject`` is the layer or model with the setting that matters, if one does.

    ``kind`` says what is wrong without the numbers of one check; ``line`` is the message of the first check.
    ``contrast`` counts the cases with and without the setting; None if no setting tells them apart.
    """

    subject: str
    kind: str
    line: str
    contrast: str | None
    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """The check that stands for the others."""
        return self.results[0]

    @property
    def status(self) -> Status:
        """The status of all of its checks."""
        return self.first.status

    @property
    def blame(self) -> Blame | None:
        """The blame of all of its checks."""
        return self.first.blame

    @property
    def title(self) -> str:
        """What is wrong, on one line."""
        return f"{self.subject}: {self.kind}" if self.subject else self.kind

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, in the report's order."""
        return tuple(dict.fromkeys(result.target for result in self.results))

    @property
    def cases(self) -> tuple[str, ...]:
        """The ids of the cases, in the report's order."""
        return tuple(dict.fromkeys(result.case for result in self.results))

    @property
    def extent(self) -> str:
        """How many checks, cases, targets and exporters, such as ``6 checks, 3 cases, 2 targets, 1 exporter``."""
        checks, cases, targets = len(self.results), len(self.cases), self.targets
        parts = [count_of(checks, "check")] + ([count_of(cases, "case")] if cases != checks else [])
        if len(targets) == 1:
            return f"{', '.join(parts)} on {targets[0]}"
        exporters = {re.split(r"[@+?/]", target, maxsplit=1)[0] for target in targets}
        return ", ".join([*parts, count_of(len(targets), "target"), count_of(len(exporters), "exporter")])


def causes(results: Sequence[Result]) -> tuple[Cause, ...]:
    """The causes of the checks of ``results`` that are not as expected: FAILED, ERROR, FIXED, the frequent ones first.

    Each unexpected check is in exactly one of them.
    """
    groups: dict[object, list[Result]] = {}
    for result in unexpected(results):
        groups.setdefault(_key(result), []).append(result)
    by_layers = _by_layers(results) if groups else {}
    found = chain.from_iterable(_split(group, by_layers) for group in groups.values())
    return tuple(sorted(found, key=lambda cause: (_ORDER.index(cause.status), -len(cause.results))))


# What two checks must share


def _key(result: Result) -> object:
    ended = (result.status, stage_and_symptom(result), result.blame)
    match result.status:
        case "failed":
            return (*ended, layers_of(result), _general(_kind(result)))
        case "error":
            return (*ended, _general(_first_line(result)), layers_of(result) if _names_nothing(result) else None)
        case _:
            return (*ended, result.message)


def _names_nothing(result: Result) -> bool:
    return result.symptom in _NAMES_NOTHING or not result.message


def _first_line(result: Result) -> str:
    lines = (result.message or "").strip().splitlines()
    return one_line(lines[0]) if lines else ""


def _problem(result: Result) -> str:
    """What is wrong with the values of a failed check."""
    comparison = main_comparison(result)
    failing = comparison is not None and not comparison.passed
    return comparison_line(comparison) if failing and comparison is not None else explanation(result)


_COUNTED = re.compile(r"^(?:[\w.]+: )?(?:all )?[\d,]+ of [\d,]+ |^[\w.]+: (?=\D)")
_DETAIL = re.compile(r"(?<=by more than the tolerance).*")
_NUMBER = re.compile(r"0x[0-9a-f]+|(?<!\w)[-+]?\d[\d.,]*(?:e[-+]?\d+)?", re.IGNORECASE)
_PLACE = re.compile(r"[\[(]N(?:,? ?N)*[\])]|(?<=with name )'[^']*'|(?<=node )\([^)]*\)|(?<=parameter )\([^)]*\)")
_DTYPE = re.compile(r"(?<=tensor\()\w+(?=\))")
_ONNXRUNTIME = re.compile(r"^\w+: \[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from \S+ failed:\s*)?")


def _kind(result: Result) -> str:
    """The first part of the problem without the counts of this check, such as ``values differ by more than ...``."""
    head = _DETAIL.sub("", _COUNTED.sub("", _problem(result).partition(";")[0]))
    plural = re.sub(r"\bvalues? (is|differs)\b", lambda found: _PLURAL[found[1]], head)
    return shortened(plural, _MAX_TITLE) or stage_and_symptom(result) or result.status


_PLURAL = {"is": "values are", "differs": "values differ"}


def _general(text: str) -> str:
    """``text`` without what differs between checks of one cause: numbers, positions, and names of nodes in a graph."""
    return _DTYPE.sub("T", _PLACE.sub("N", _NUMBER.sub("N", text)))


# Layers and settings

_CALL = re.compile(r"([A-Za-z_][\w.:]*)\(")
_CONTAINER = "Sequential"
_NOT_SET = frozenset({"None", "False", "null", "false"})


def layers_of(result: Result) -> tuple[str, ...]:
    """The layers or the callable of the case's model, each once; its spec if the report does not name the model.

    If the inside of the model was compared, these are the layers in which an error begins.
    """
    if wrong := [layer.type for layer in result.layers if layer.wrong]:
        return tuple(dict.fromkeys(wrong))
    return tuple(dict.fromkeys(name for name, _ in _calls(result.case_model or ""))) or _of_case(result)


def _of_case(result: Result) -> tuple[str, ...]:
    name = CaseName.parse(result.case)
    return (result.case_model or name.spec or name.family,)


def _calls(model: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The calls in ``model`` with their arguments: ``("ReLU", ("inplace=True",))``."""
    at = 0
    while found := _CALL.search(model, at):
        end = _closing(model, found.end())
        inside = model[found.end() : end]
        if found[1] == _CONTAINER:
            yield from _calls(inside)
        else:
            yield found[1], tuple(setting.strip() for setting in split_settings(inside) if "=" in setting)
        at = end + 1


def _closing(text: str, at: int) -> int:
    """The index of the parenthesis that closes the one before ``at``; the end of a text that was cut."""
    depth = 1
    for index in range(at, len(text)):
        depth += (text[index] in "([{") - (text[index] in ")]}")
        if not depth:
            return index
    return len(text)


def _settings(result: Result) -> Iterator[str]:
    """What may tell the cases of one layer apart, the more general first: arguments, dtypes, ranks, then values."""
    calls = list(_calls(result.case_model or ""))
    named = [(f"{layer}." if len(calls) > 1 else "", setting) for layer, settings in calls for setting in settings]
    for before, setting in named:
        name, _, value = setting.partition("=")
        if value not in _NOT_SET:
            yield before + name
    for tensor in result.inputs:
        yield f"{tensor.get('dtype')} input"
        yield f"{len(tensor.get('shape') or ())}-D input"
    yield from (before + setting for before, setting in named)


# The setting that matters

_Cases = Mapping[str, Sequence[str]]


def _by_layers(results: Sequence[Result]) -> Mapping[tuple[str, ...], Sequence[Result]]:
    layers: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        layers.setdefault(layers_of(result), []).append(result)
    return layers


def _split(group: list[Result], by_layers: Mapping[tuple[str, ...], Sequence[Result]]) -> Iterator[Cause]:
    """``group`` as causes: checks with the setting that matters, then the rest in the same way."""
    first = group[0]
    if first.status == "fixed":
        yield _cause(group, None, None)
        return
    failing = {result.case: tuple(dict.fromkeys(_settings(result))) for result in group}
    passing = _passing(group, by_layers)
    best = _best_setting(failing, passing)
    if best is None or (first.status == "error" and not all(best in settings for settings in failing.values())):
        yield _cause(group, None, None)
        return
    yield _cause([one for one in group if best in failing[one.case]], best, _contrast(best, failing, passing))
    if rest := [one for one in group if best not in failing[one.case]]:
        yield from _split(rest, by_layers)


def _passing(group: Sequence[Result], by_layers: Mapping[tuple[str, ...], Sequence[Result]]) -> _Cases:
    """The cases of the same layers that came to another end on the targets of ``group``, with their settings."""
    on = {result.target for result in group}
    wrong = {result.case for result in group}
    alike = chain.from_iterable(by_layers[layers] for layers in dict.fromkeys(map(layers_of, group)))
    passed = (one for one in alike if one.status == "passed" and one.target in on and one.case not in wrong)
    return {one.case: tuple(dict.fromkeys(_settings(one))) for one in passed}


def _best_setting(failing: _Cases, passing: _Cases) -> str | None:
    """The setting that most failing cases have and next to no passing case has; None if too few cases tell.

    Fewer than :data:`MIN_CASES` cases without it tell only if no other argument, dtype or rank would do as well.
    """
    counts = Counter(chain.from_iterable(failing.values()))
    good = Counter(chain.from_iterable(passing.values()))
    telling = [
        setting
        for setting, count in counts.items()
        if count >= MIN_CASES and good[setting] < len(passing) and count >= MIN_SHARE * (count + good[setting])
    ]
    # The earlier of two equal ones is the more general one.
    best = max(telling, key=lambda setting: (counts[setting], -good[setting]), default=None)
    if best is None or len(passing) - good[best] >= MIN_CASES:
        return best
    rivals = {setting.partition("=")[0] for setting in telling if counts[setting] == counts[best]}
    return best if len(rivals) == 1 and counts[best] == len(failing) else None


def _contrast(setting: str, failing: _Cases, passing: _Cases) -> str:
    bad = sum(setting in settings for settings in failing.values())
    good = sum(setting in settings for settings in passing.values())
    without = len(failing) - bad
    others = len(passing) - good + without
    return f"{bad:,} of {count_of(bad + good, 'case')} with {setting} go wrong, {without:,} of {others:,} without it"


def _cause(group: Sequence[Result], setting: str | None, contrast: str | None) -> Cause:
    first = group[0]
    if first.status == "failed":
        line, kind = _problem(first), _kind(first)
    else:
        line = explanation(first)
        kind = shortened(_ONNXRUNTIME.sub("", _first_line(first)) or stage_and_symptom(first), _MAX_TITLE)
    return Cause(_subject(group, setting), kind, line, contrast, tuple(group))


def _subject(group: Sequence[Result], setting: str | None) -> str:
    """The layers that most of ``group`` have, else all layers, and the setting that matters; empty for a fixed check.

    Not all of them need have it: the description of a large model is cut.
    """
    if group[0].status == "fixed":
        return ""
    counts = Counter(chain.from_iterable(map(layers_of, group)))
    shared = [layer for layer, count in counts.items() if count >= MIN_SHARE * len(group)]
    layers = shared or list(counts)
    more = f" and {len(layers) - _MAX_LAYERS} more" if len(layers) > _MAX_LAYERS else ""
    return ", ".join(layers[:_MAX_LAYERS]) + more + (f" with {setting}" if setting else "")
