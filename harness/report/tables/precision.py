"""Markdown tables of the measures of whole outputs: SQNR, PSNR, cosine, RMS, KL divergence, decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.compare.decisions import percent
from harness.report.tables import code, plain, table
from harness.report.wording import comparisons, format_decisions, format_number
from harness.result import OutputComparison, Result

MEASURES = ("SQNR (dB)", "PSNR (dB)", "cosine", "RMS error", "reference's own", "KL (nats)", "top 5", "decisions")
_NEAR_ONE = 0.9995


def measures(comparison: OutputComparison) -> dict[str, str]:
    """The measures of an output as text, in the order of :data:`MEASURES`; ``-`` for what was not measured."""
    extra = comparison.extra
    texts = (
        format_number(comparison.sqnr),
        format_number(extra.get("psnr")),
        _share(comparison.cosine),
        format_number(comparison.rms),
        format_number(comparison.reference_rms),
        format_number(extra.get("kl")),
        _share(extra.get("top5")),
        format_decisions(comparison.decisions) or "-",
    )
    return dict(zip(MEASURES, texts, strict=True))


def measure_blocks(labelled: Sequence[tuple[str, OutputComparison]]) -> Iterator[str]:
    """The measures of one check's outputs, if any has some: a floating one with finite values."""
    rows = [
        [plain(label), *map(plain, measures(comparison).values())]
        for label, comparison in labelled
        if comparison.sqnr is not None or comparison.decisions is not None
    ]
    if rows:
        yield table(["output", *MEASURES], rows)


def precision_blocks(results: Sequence[Result]) -> Iterator[str]:
    """The measures of the checks that passed under transforms, or under a rule about decisions."""
    rows = [
        [code(result.case), code(result.target), plain(label), *map(plain, measures(comparison).values())]
        for result in results
        if result.status == "passed"
        for label, comparison in comparisons(result)
        if comparison.decisions is not None or _has_transforms(result.target)
    ]
    if rows:
        yield "## Precision"
        yield table(["case", "target", "output", *MEASURES], rows)


def sample_blocks(results: Sequence[Result]) -> Iterator[str]:
    """What came of the samples of each check that ran many: the shares with their intervals, and the worst samples."""
    sampled = [result for result in results if result.samples is not None]
    if not sampled:
        return
    yield "## Samples"
    yield table(
        ["case", "target", "samples", "agreement", "reference's accuracy", "target's accuracy", "metric", "SQNR (dB)"],
        [
            [code(result.case), code(result.target), *map(plain, _sample_cells(result.samples or {}))]
            for result in sampled
        ],
    )
    for result in sampled:
        worst = (result.samples or {}).get("worst", [])
        rows = [_worst_row(each) for each in worst]
        yield f"Worst samples of {code(result.case)} on {code(result.target)}; `report.json` has them all:"
        yield table(["sample", "SQNR (dB)", "max abs", "decision", "problem"], rows)


def _worst_row(row: Mapping[str, Any]) -> list[str]:
    ratio, largest = format_number(_number(row["sqnr"])), format_number(_number(row["max_abs"]))
    return [plain(str(row["sample"])), ratio, largest, _decided(row), plain(str(row["problem"] or "-"))]


def sample_lines(samples: Mapping[str, Any]) -> Iterator[str]:
    """What came of all samples of a check, in words."""
    names = ("agreement", "reference's accuracy", "target's accuracy", "metric", "SQNR (dB)")
    count, *cells = _sample_cells(samples)
    yield f"{count} samples: " + "; ".join(
        f"{name} {cell}" for name, cell in zip(names, cells, strict=True) if cell != "-"
    )
    worst = [str(each["sample"]) for each in samples.get("worst", [])[:_NAMED] if each["problem"] or _is_wrong(each)]
    if worst:
        yield f"worst: {', '.join(worst)}"


_NAMED = 5


def _sample_cells(samples: Mapping[str, Any]) -> list[str]:
    accuracy, metric = samples.get("accuracy") or {}, samples.get("metric")
    ratios = ", ".join(format_number(_number(ratio)) for ratio in samples.get("sqnr", ()))
    measured = "-"
    if metric is not None:
        measured = (
            f"{metric['name']} ({metric['better']} is better): {format_number(_number(metric['target']))}, "
            f"the reference's {format_number(_number(metric['reference']))}"
        )
    return [
        f"{samples.get('samples', 0):,}",
        _counted(samples.get("decisions")),
        _counted(accuracy.get("reference")),
        _counted(accuracy.get("target")),
        measured,
        ratios or "-",
    ]


def _counted(counts: Mapping[str, Any] | None) -> str:
    """A share with its counts and its 95 % interval."""
    if counts is None:
        return "-"
    low, high = counts["interval"]
    ties = f", {counts['ties']:,} ties" if counts.get("ties") else ""
    share = f"{percent(counts['share'])} ({counts['agree']:,} of {counts['of']:,}{ties})"
    return f"{share}, 95 % interval {100 * low:.4g} to {100 * high:.4g} %"


def _decided(row: Mapping[str, Any]) -> str:
    if not row["of"]:
        return "-"
    return "differs" if _is_wrong(row) else "tie" if row["ties"] else "agrees"


def _is_wrong(row: Mapping[str, Any]) -> bool:
    return bool(row["of"] - row["agree"] - row["ties"] > 0)


def _number(value: Any) -> float | None:
    """A number of report.json, where those that are not finite are written as text."""
    return None if value is None else float(value)


def _has_transforms(target: str) -> bool:
    """True if the file of the target was changed after its export; the rest of a target is no part of it."""
    return any(word != "fixes" for word in target.partition("?")[0].partition("/")[0].split("+")[1:])


def _share(value: float | None) -> str:
    """A number of at most 1, with enough digits to tell it from 1."""
    return format_number(value) if value is None or abs(value) < _NEAR_ONE or value == 1 else f"{value:.7g}"
