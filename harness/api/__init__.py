"""The Python API: three functions and what they answer, so that a test of one's own model is three lines.

Everything is imported where it is used: ``import harness`` stays light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.search_path import Installed

if TYPE_CHECKING:
    from harness.api.functions import Compared, Ran, Verified

__all__ = ["compare", "run", "verify"]

ToleranceLike = str | Mapping[Any, Any]
"""A tolerance as a spec writes it: ``"exact"``, ``{"ulp": 2}``, ``{"rtol": 1e-5, "atol": 1e-6}``, or ``by_output``."""


def run(
    paths: str | Path | Sequence[str | Path],
    *,
    targets: str | Sequence[str] = "default",
    keywords: str | Sequence[str] = (),
    workers: int = 0,
    report_dir: str | Path | None = None,
    formats: Sequence[str] = ("json", "md"),
    known_failures: str | Path | None = None,
    require: str | Sequence[str] = (),
    latency: bool = False,
    timeout: float | Literal["by size"] | None = "by size",
    allow_import: bool = False,
) -> Ran:
    """Verify the specs and recorded models under ``paths``, as ``harness run`` does, and give the judged report.

    Each argument is the option of the same name. ``workers`` is the number of processes, 0 for one a core. The report
    is written only where ``report_dir`` says to, in ``formats``. ``timeout`` is in seconds for each check;
    ``"by size"`` is 120 and 60 more for each GiB of the model, and None is no limit. Workers are processes: in a
    script, call it under ``if __name__ == "__main__":``.

    Raises :class:`harness.errors.RequestError` where the request is wrong, before anything runs, and
    :class:`harness.errors.HarnessError` where it cannot be carried out; never for what a check comes to.

    >>> import harness
    >>> report = harness.run("specs/sigmoid.yaml", targets="trace/torch-cpu", keywords="saturat")
    >>> report.passed, report.summary["failed"]
    (True, 0)
    """
    with Installed():
        from harness.api.functions import run as carry_out

        return carry_out(
            paths,
            targets=targets,
            keywords=keywords,
            workers=workers,
            report_dir=report_dir,
            formats=formats,
            known_failures=known_failures,
            require=require,
            latency=latency,
            timeout=timeout,
            allow_import=allow_import,
        )


def verify(
    module: Any,
    inputs: Any,
    targets: str | Sequence[str] = "default",
    *,
    tolerance: ToleranceLike | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    also: Sequence[Any] = (),
) -> Verified:
    """Export ``module`` to each of ``targets`` and hold every answer against eager PyTorch, in this process.

    ``inputs`` are the tensors for ``forward``: one, several by order, or several by label (labels are names for
    ``dynamic`` and count by order too). ``targets`` are written as after ``--targets``. Without ``tolerance``, the
    defaults of :func:`torch.testing.assert_close` hold. ``dynamic`` opens axes in the exported file, as in
    ``{"x": {0: "N"}}``, and ``also`` holds further inputs, each like ``inputs``, that the same file must answer.
    The module is verified in the mode that it is in (call ``.eval()`` first for inference) and on the CPU. Neither it
    nor the inputs are changed.

    What a stage raises is part of the answer. Raises :class:`harness.errors.UsageError` for a module, inputs or a
    target that are not ones, before anything is exported.

    >>> import harness, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    >>> harness.verify(model, torch.randn(2, 4), targets="onnx-torchscript@17/ort-cpu").assert_passed()

    Where an exported model is another, the answer says so, with its numbers:

    >>> pool = torch.nn.AvgPool2d(2, divisor_override=3)
    >>> verdict = harness.verify(pool, torch.randn(1, 1, 4, 4), targets="onnx-torchscript@17/ort-cpu")
    >>> verdict.passed, verdict.results[0].blame
    (False, 'exporter')
    """
    with Installed(keep=True):  # the module may import more of the user's code when it is called
        from harness.api.functions import verify as carry_out

        return carry_out(module, inputs, targets, tolerance=tolerance, dynamic=dynamic, also=also)


def compare(actual: Any, expected: Any, tolerance: ToleranceLike | None = None) -> Compared:
    """Hold the outputs ``actual`` against ``expected``: their number, names, shapes, dtypes, NaNs, infinities, values.

    Each is an array or a tensor, a sequence of them, or a mapping by name. Without ``tolerance``, integers must be
    equal, and floating outputs within the defaults of :func:`torch.testing.assert_close` for the dtype of each. Nothing
    compared is not a pass.

    Raises :class:`harness.errors.UsageError` for what holds no arrays, and for a tolerance that is not one.

    >>> import harness, numpy
    >>> y = numpy.array([1.0, 2.0], numpy.float32)
    >>> harness.compare(y, y, "exact").passed
    True
    >>> found = harness.compare(y + numpy.float32(0.5), y, {"ulp": 4})
    >>> found.outputs[0].mismatched, found.outputs[0].max_abs
    (2, 0.5)
    """
    with Installed():
        from harness.api.functions import compare as carry_out

        return carry_out(actual, expected, tolerance)
