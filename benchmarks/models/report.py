"""The report on whole models, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from tabulate import tabulate

from benchmarks.models.correct import Row
from benchmarks.models.faults import KINDS
from benchmarks.models.power import VISIBLE, Outcome
from harness.environment import installed_version

PACKAGES = ("torch", "torchvision", "transformers", "onnx", "onnxruntime", "onnxscript")
STATES = ("passed", "false alarm", "not exported", "not loaded", "error")

MARKDOWN = """\
# Whole models

Models of torchvision and transformers with random weights: correct exports, none of which may fail, and planted faults,
which must be caught.

Versions: {versions}.

## No false alarm

Each model, in each precision and with each seed, went through `harness run` on {targets}, at two sets of
inputs, each twice in a row.

**{judged} models x precisions x seeds were judged, {in_ort} of them on ONNX Runtime. {alarms} of {checks} judged checks
failed.**

{correct}

- **RMS**, **worst**: the largest error of the target against float64, in units of eager torch's own, of all checks in
  the row. The rule `calibrated: 3` allows {allowed}.
- **inconclusive**: passes that harness itself marks, because eager torch's own error is a large share of the output.
- **not exported**, **not loaded**: the exporter refuses the model or writes a file that ONNX Runtime refuses. Nothing
  was judged. The reasons:

{reasons}

The vision models have torchvision's own sizes, and BatchNorm's statistics are measured on random images, except in
`-collapsed`. The language models have three layers (encoder and decoder each), a width of 256 and 1,000 words.

## Power

Faults were planted in small nets, and harness judged the outputs of the faulty net. A fault is *visible* if the outputs
are more than three times as far from float64 as eager torch's own run (4.5 times in float16), in RMS or at the worst
value; that was computed independently of harness's comparison.

**float32: {planted32} faults, {visible32} visible in RMS, {caught32} of them caught, {missed32} missed.**
**float16: {planted16} faults, {visible16} visible in RMS, {caught16} of them caught, {missed16} missed.**
{between_caught16} of {between16} more float16 faults with 3 to 4.5 times eager torch's own error in RMS were caught.

{power}

{by_net}

- **visible**: in RMS. **missed**: visible in RMS, but harness passed all draws.
- **worst value only**: not visible in RMS, but more than three times eager torch's largest error at the worst value.
  One value of thousands scatters: correct exports reach {largest_worst} times. So harness allows twice as much there,
  and **of these, caught** is what is beyond that.
- **not visible**: neither. These are faults that the output hides, such as those behind ConvNeXt's layer scale of 1e-6.

The largest error of a missed fault: {largest_missed}.

## Through the whole check

{door_planted} of the float32 faults were planted in modules that are right in eager torch and wrong when they are
exported, and went through `harness run`. **{door_visible} checks had a visible fault and were judged; {door_caught}
failed, {door_missed} passed.** {door_refused} were not exported or not loaded, {door_hidden} had a fault that is not
visible.

Made by `make models`, in {minutes:.0f} minutes of checks and judging.
"""


def markdown(
    correct: Sequence[Row], power: Sequence[Outcome], door: Sequence[tuple[Outcome, Row]], seconds: float
) -> str:
    """The report. ``door`` pairs each fault with its check."""
    judged = [row for row in correct if row.judged]
    door_judged = [(outcome, row) for outcome, row in door if row.judged]
    door_visible = [row for outcome, row in door_judged if outcome.visible]
    values: dict[str, object] = {
        "versions": ", ".join(f"{name} {installed_version(name)}" for name in PACKAGES),
        "targets": ", ".join(f"`{target}`" for target in sorted({row.target for row in correct})),
        "judged": len({row.case for row in judged}),
        "in_ort": len({row.case for row in judged if "ort" in row.target}),
        "checks": len(judged),
        "alarms": sum(row.state == "false alarm" for row in judged),
        "correct": _correct_table(correct),
        "allowed": ALLOWED,
        "reasons": _reasons(correct),
        "power": _power_table(power, lambda outcome: outcome.kind, KINDS, "fault"),
        "by_net": _power_table(power, lambda outcome: outcome.net, _in_order(each.net for each in power), "net"),
        "largest_worst": _number(max((row.worst or 0.0 for row in judged), default=0.0)),
        "largest_missed": _largest_missed(power),
        "door_planted": len({(outcome.net, outcome.kind, outcome.path) for outcome, _ in door}),
        "door_visible": len(door_visible),
        "door_caught": sum(row.state == "false alarm" for row in door_visible),
        "door_missed": sum(row.state == "passed" for row in door_visible),
        "door_refused": len(door) - len(door_judged),
        "door_hidden": len(door_judged) - len(door_visible),
        "minutes": seconds / 60,
    }
    for bits in ("32", "16"):
        of_dtype = [outcome for outcome in power if outcome.dtype == f"float{bits}"]
        visible = [outcome for outcome in of_dtype if outcome.visible]
        values |= {
            f"planted{bits}": len(of_dtype),
            f"visible{bits}": len(visible),
            f"caught{bits}": sum(outcome.caught for outcome in visible),
            f"missed{bits}": sum(not outcome.caught for outcome in visible),
        }
    between = [outcome for outcome in power if outcome.dtype == "float16" and 3 < outcome.rms <= VISIBLE["float16"]]
    values |= {"between16": len(between), "between_caught16": sum(outcome.caught for outcome in between)}
    return MARKDOWN.format(**values)


ALLOWED = "an RMS error of 3 times and 6 times at the worst value in float32, 4.5 and 9 times in float16 and bfloat16"


def _correct_table(rows: Sequence[Row]) -> str:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.model, row.dtype, row.target), []).append(row)
    body = []
    for key, group in groups.items():
        states = Counter(row.state for row in group)
        body.append(
            [
                *key,
                *(states[state] or "" for state in STATES),
                sum(row.inconclusive for row in group) or "",
                _number(max((row.rms for row in group if row.judged and row.rms is not None), default=None)),
                _number(max((row.worst for row in group if row.judged and row.worst is not None), default=None)),
            ]
        )
    headers = ("model", "precision", "target", *STATES, "inconclusive", "RMS", "worst")
    return tabulate(body, headers=headers, tablefmt="github", disable_numparse=True)


def _reasons(rows: Sequence[Row]) -> str:
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.state != "passed":
            text = " ".join((row.reason or "").partition(" node with name")[0].split())[:160]
            reasons.setdefault((row.target, text), []).append(f"{row.model} {row.dtype}")
    return "\n".join(
        f"- {target}, {len(models)} checks ({', '.join(_in_order(models))}): {text}"
        for (target, text), models in reasons.items()
    )


def _power_table(outcomes: Sequence[Outcome], key: Callable[[Outcome], str], keys: Iterable[str], title: str) -> str:
    body = []
    for dtype in ("float32", "float16"):
        for name in keys:
            group = [outcome for outcome in outcomes if key(outcome) == name and outcome.dtype == dtype]
            if group:
                body.append([dtype, name, *_counts(group).values()])
    return tabulate(body, headers=("precision", title, *_counts([])), tablefmt="github")


def _counts(group: Sequence[Outcome]) -> Mapping[str, int]:
    visible = [outcome for outcome in group if outcome.visible]
    by_worst = [outcome for outcome in group if outcome.visible_at_the_worst_value]
    hidden = [each for each in group if not (each.visible or each.visible_at_the_worst_value)]
    return {
        "planted": len(group),
        "visible": len(visible),
        "caught": sum(outcome.caught for outcome in visible),
        "missed": sum(not outcome.caught for outcome in visible),
        "worst value only": len(by_worst),
        "of these, caught": sum(outcome.caught for outcome in by_worst),
        "not visible": len(hidden),
    }


def _largest_missed(outcomes: Sequence[Outcome]) -> str:
    missed = [each for each in outcomes if (each.visible or each.visible_at_the_worst_value) and not each.caught]
    if not missed:
        return "none was missed"
    largest = max(missed, key=lambda outcome: outcome.rms)
    worst = max(missed, key=lambda outcome: outcome.worst)
    return (
        f"{_number(largest.rms)} times eager torch's own in RMS ({largest.kind} in {largest.net}, {largest.dtype}), "
        f"{_number(worst.worst)} times at the worst value ({worst.kind} in {worst.net}, {worst.dtype})"
    )


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
