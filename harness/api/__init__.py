"""The Python API: four functions, so that a test of your own model is three lines.

Everything is imported inside the functions that need it: ``import harness`` stays fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.search_path import InstalledFirst

if TYPE_CHECKING:
    from torch import nn
    from torch.nn import Module

    from harness.api.functions import Compared, Ran, Verified
    from harness.model.binding import Inputs

__all__ = ["compare", "compare_models", "run", "verify"]

ToleranceLike = str | Mapping[Any, Any]
"""A tolerance as in a spec: ``"exact"``, ``{"ulp": 2}``, ``{"rtol": 1e-5, "atol": 1e-6}``, or ``by_output``."""


def run(
    paths: str | Path | Sequence[str | Path],
    *,
    targets: str | Sequence[str] = "default",
    keywords: str | Sequence[str] = (),
    shard: str | None = None,
    jobs: int | None = None,
    report_dir: str | Path | None = None,
    format: str | Sequence[str] = ("json", "md", "html"),  # noqa: A002 - the option's name
    known_failures: str | Path | None = None,
    require: str | Sequence[str] = (),
    baseline: str | Path | None = None,
    min_effect: float = 0.03,
    gate: str | Sequence[str] = (),
    latency: bool = True,
    layers: bool = False,
    timeout: float | Literal["by size"] | None = "by size",
    memory: int | None = None,
    strict: bool = False,
    strict_ulp: int | None = None,
    no_cache: bool = False,
    resume: bool = False,
    allow_import: bool = False,
    maxfail: int | None = None,
    **old_names: Any,
) -> Ran:
    """Verify the specs and recorded models under ``paths``, as ``harness run`` does, and return the judged report.

    Each argument is the option of the same name with the same default, but for the following. The report is written,
    in ``format``, only if ``report_dir`` is given. ``timeout`` is in seconds per check; ``"by size"``, which is the
    option's default, is 120 and 60 more for each GiB of the model, and None is no limit. ``memory`` is in bytes, to
    which eight for each byte of the model are added. The old names ``workers`` and ``formats`` of ``jobs`` and
    ``format`` work until the next release. Checks run in worker processes: in a script, call this function under
    ``if __name__ == "__main__":``.

    Raises :class:`harness.errors.RequestError` if the request is wrong, before anything runs, and
    :class:`harness.errors.HarnessError` if it cannot be carried out. A check that fails raises nothing.

    >>> import harness
    >>> report = harness.run("specs/sigmoid.yaml", targets="trace/torch-cpu", keywords="saturat")
    >>> report.passed, report.summary["failed"]
    (True, 0)
    """
    with InstalledFirst():
        from harness.api.arguments import with_current_names
        from harness.api.functions import run as run_impl

        renamed = with_current_names(old_names, {"workers": "jobs", "formats": "format"})
        return run_impl(
            paths,
            targets=targets,
            keywords=keywords,
            shard=shard,
            jobs=renamed.get("jobs", jobs),
            report_dir=report_dir,
            formats=renamed.get("format", format),
            known_failures=known_failures,
            require=require,
            baseline=baseline,
            min_effect=min_effect,
            gate=gate,
            latency=latency,
            layers=layers,
            timeout=timeout,
            memory=memory,
            strict_ulp=strict_ulp,
            no_cache=no_cache,
            resume=resume,
            maxfail=maxfail,
            allow_import=allow_import,
            strict=strict,
        )


def verify(
    module: Module,
    inputs: Inputs,
    targets: str | Sequence[str] = "default",
    *,
    tolerance: ToleranceLike | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    also: Sequence[Inputs] = (),
    strict: bool = False,
    layers: bool = False,
) -> Verified:
    """Export ``module`` to each of ``targets`` and compare all outputs with eager PyTorch, in this process.

    ``inputs`` are for ``forward``: one tensor or NumPy array, a sequence by position, or a mapping by label. Labels
    that are all parameters of ``forward`` bind by name, others by position; a mixture of both is an error. An input may
    be None, or a list, tuple or dict of inputs; the tensors in it are called ``boxes.0`` and ``cache.k``. ``targets``
    are written as after ``--targets``. The default ``tolerance`` is that of :func:`torch.testing.assert_close`.
    ``dynamic`` opens axes of the exported file, as in ``{"x": {0: "N"}}``. ``also`` has further inputs, each like
    ``inputs``, at which the same file is verified. ``strict`` fails a pass that is inconclusive, because no output
    could have shown an error.
    ``layers`` compares every layer inside the module as well (``results[0].layers``), and fails a check in which one is
    wrong by itself although the outputs agree. If no layer can be compared, that is no pass either.
    The module is verified in its current mode (call ``.eval()`` first for inference) and on the CPU. A pass in training
    mode is inconclusive if the module answers otherwise in evaluation mode. Neither the module nor the inputs are
    changed.

    An exception in a stage is part of the result. Raises :class:`harness.errors.UsageError` if ``module`` is not an
    ``nn.Module``, an input is not a tensor or array, or a target is unknown, before anything is exported.

    >>> import harness, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    >>> harness.verify(model, torch.randn(2, 4), targets="onnx-torchscript@17/ort-cpu").assert_passed()

    If an exported model differs, the result says how:

    >>> pool = torch.nn.AvgPool2d(2, divisor_override=3)
    >>> verdict = harness.verify(pool, torch.randn(1, 1, 4, 4), targets="onnx-torchscript@17/ort-cpu")
    >>> verdict.passed, verdict.results[0].blame
    (False, 'exporter')
    """
    with InstalledFirst(keep=True):  # the module may import more of the user's code when it is called
        from harness.api.functions import verify as verify_impl

        return verify_impl(
            module, inputs, targets, tolerance=tolerance, dynamic=dynamic, also=also, strict=strict, layers=layers
        )


def compare_models(
    subject: nn.Module | str | Path,
    reference: nn.Module | str | Path,
    inputs: Inputs | None = None,
    targets: str | Sequence[str] | None = None,
    tolerance: ToleranceLike | None = None,
    *,
    layers: bool = False,
) -> Verified:
    """Compare ``subject`` with ``reference`` in this process: each is an ``nn.Module`` or the path of a model file.

    Model files are ``.onnx``, ``.ort``, ``.pt2`` and TorchScript (``.pt``, ``.pth``, ``.jit``, ``.ts``), which runs its
    code when it is loaded. ``inputs`` are as for :func:`verify`: one array or tensor, a sequence, or a mapping by name,
    with lists, tuples, dicts and None in them. Without them, two sets are drawn in the declared dtypes and shapes, with
    small sizes for open axes. ``targets`` are the runtimes for a file, such as ``"ort-cpu,openvino"``; the default is
    ``ort-cpu``, or the runtime for the file's format. A module is called as it is. By default a subject may be three
    times as far from float64 as the reference's own run; where there is no float64 run, the tolerance is that of
    :func:`torch.testing.assert_close`, and a note says so. ``layers`` compares every layer as well, as in
    :func:`verify`.

    The notes of each result tell how inputs and outputs were matched. An exception in a stage is part of the result.
    Raises :class:`harness.errors.UsageError` if a side is neither a module nor a model, or an input is no array.

    >>> import harness, tempfile, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.jit.save(torch.jit.script(model), f"{folder}/model.jit")
    ...     harness.compare_models(f"{folder}/model.jit", model, torch.randn(2, 4)).assert_passed()
    """
    with InstalledFirst(keep=True):
        from harness.api.functions import compare_models as compare_models_impl

        return compare_models_impl(subject, reference, inputs, targets, tolerance=tolerance, layers=layers)


def compare(actual: Any, expected: Any, tolerance: ToleranceLike | None = None) -> Compared:
    """Compare the outputs ``actual`` with ``expected``: number, names, shapes, dtypes, NaNs, infinities, values.

    Each argument is an array or a tensor, a sequence of them, or a mapping by name. By default, integers must be equal,
    and the tolerance of floating outputs is that of :func:`torch.testing.assert_close` for the dtype of each. If
    nothing was compared, the result is not a pass.

    Raises :class:`harness.errors.UsageError` if an argument has anything but arrays and tensors, or if the tolerance
    is invalid.

    >>> import harness, numpy
    >>> y = numpy.array([1.0, 2.0], numpy.float32)
    >>> harness.compare(y, y, "exact").passed
    True
    >>> found = harness.compare(y + numpy.float32(0.5), y, {"ulp": 4})
    >>> found.outputs[0].mismatched, found.outputs[0].max_abs
    (2, 0.5)
    """
    with InstalledFirst():
        from harness.api.functions import compare as compare_impl

        return compare_impl(actual, expected, tolerance)
