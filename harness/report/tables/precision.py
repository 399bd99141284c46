"""Markdown tables of the measures of whole outputs: SQNR, PSNR, cosine, RMS, KL divergence, decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def _has_transforms(target: str) -> bool:
    """True if the file of the target was changed after its export; the rest of a target is no part of it."""
    return any(word != "fixes" for word in target.partition("/")[0].partition("?")[0].split("+")[1:])


def _share(value: float | None) -> str:
    """A number of at most 1, with enough digits to tell it from 1."""
    return format_number(value) if value is None or abs(value) < _NEAR_ONE or value == 1 else f"{value:.7g}"
