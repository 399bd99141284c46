"""``manifest.json`` of a bundle: what was packed, by what it is held to, and the SHA-256 of every file.

    format        the version of this layout; only a key that may be passed over can be added without a new one
    seal          the SHA-256 of all else in the manifest
    versions      of the packages that the bundle was made with
    targets       what it was packed for
    files         SHA-256 by path, for every file of the bundle but this one
    cases         each with its exports, what they are held to, and what there is no file of, with the reason

A path is told with ``/`` from the bundle's folder, and leads nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from harness.errors import Location, Problem, SpecError
from harness.result import result_from_json
from harness.spec.compact import shown
from harness.spec.strict import Strict, objection
from harness.spec.tolerance import Close, Exact, Rule, Scaled, Tolerance, Ulp
from harness.spec.tolerances import tolerance

if TYPE_CHECKING:
    from harness.spec.case import Case

MANIFEST = "manifest.json"
FORMAT = 1
PACK_ANEW = "pack it anew with harness pack"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Index = Annotated[int, Field(ge=0)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


def _inside(path: str) -> str:
    """``path`` as it is written, where it can only lead to a place below the folder that it is told from."""
    parts = PurePosixPath(path).parts
    if not parts or path != "/".join(parts) or path.startswith("/") or {"..", "."} & {*parts} or {"\\", "\0"} & {*path}:
        raise objection(f"{shown(path)} leads out of the bundle, or is not a plain path", PACK_ANEW)
    return path


def _one_rule(words: Any) -> Any:
    """``words`` as they are, where they are a rule in the words of a spec."""
    if tolerance(words).by_output:
        raise objection("by_output: a rule is for all outputs or for one", PACK_ANEW)
    return words


def _result(raw: dict[str, Any]) -> dict[str, Any]:
    try:
        result_from_json(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise objection(f"this is not a result as a report holds it ({error})", PACK_ANEW) from error
    return raw


Inside = Annotated[str, AfterValidator(_inside)]
Arrays = dict[str, Inside]
OneRule = Annotated[Any, AfterValidator(_one_rule)]
Told = Annotated[dict[str, Any], AfterValidator(_result)]
"""A result as ``report.json`` holds it."""


class ToleranceEntry(Strict):
    """One rule for all outputs, and exceptions by the output's number; in the words of a spec."""

    rule: OneRule
    by_output: dict[Annotated[str, Field(pattern=r"^[0-9]+$")], OneRule]

    @classmethod
    def of(cls, held_to: Tolerance) -> ToleranceEntry:
        """``held_to`` in words."""
        by_output = {str(at): _in_words(rule) for at, rule in held_to.by_output.items()}
        return cls(rule=_in_words(held_to.rule), by_output=by_output)

    def tolerance(self) -> Tolerance:
        """The same as the data that outputs are compared by."""
        return Tolerance(_rule(self.rule), {int(at): _rule(words) for at, words in self.by_output.items()})


def _rule(words: Any) -> Rule:
    rule = tolerance(words).rule
    assert rule is not None
    return rule


def _in_words(rule: Rule) -> Any:
    """``rule`` as a spec writes it."""
    match rule:
        case Exact():
            return "exact"
        case Ulp(n):
            return {"ulp": n}
        case Scaled(n):
            return {"scaled": n}
        case Close(rtol, atol):
            return {"rtol": rtol, "atol": atol}


class InputEntry(Strict):
    """An input of the case, by its label."""

    label: str
    dtype: str
    shape: list[Index]


class RoundEntry(Strict):
    """What was recorded at one set of shapes; the fields are those of :class:`harness.model.answer.Reference`."""

    inputs: Arrays
    eager: Arrays
    oracle: Arrays | None = None
    magnitudes: list[Inside | None]
    undefined: list[Inside | None]
    stochastic: bool = False
    at: str | None = None

    def files(self) -> Iterator[str]:
        """Every file that the round speaks of."""
        yield from (*self.inputs.values(), *self.eager.values(), *(self.oracle or {}).values())
        yield from (path for path in (*self.magnitudes, *self.undefined) if path is not None)


class ExpectEntry(Strict):
    """What the spec expects; the fields are those of :class:`harness.verify.expected.Expected`.

    ``names`` are the arguments that its expressions speak of, ``arrays`` the parameters.
    """

    outputs: Arrays | None = None
    shape: list[list[Index]] | None = None
    range: Pair | None = None
    formula: str | None = None
    gradient: dict[str, str]
    gradient_range: Pair | None = None
    equals: Arrays | None = None
    differs_from: Arrays | None = None
    names: dict[str, Any]
    arrays: Arrays

    def files(self) -> Iterator[str]:
        """Every file that the expectations speak of."""
        for each in (self.outputs, self.equals, self.differs_from, self.arrays):
            yield from (each or {}).values()


class ExportEntry(Strict):
    """One exported file; the fields are those of :class:`harness.exporters.Artifact`, with what it is held to."""

    format: Literal["torchscript", "onnx"]
    path: Inside
    digest: Digest
    opset: int | None = None
    checker: str | None = None
    notes: list[str]
    tolerance: ToleranceEntry


class Place(Strict):
    """Where the case stands in the specs that it was packed from."""

    file: str
    line: int = 1
    column: int = 1


class CaseEntry(Strict):
    """A case by the id that it has in its specs.

    ``findings`` are a result that tells how eager torch was held against its definition and the spec. ``raises`` is
    the text with which eager torch refuses the case, where it is to be refused. ``not_packed`` are, by export, the
    results that stand for what there is no file of: an export that failed cannot be taken to a board.
    """

    id: str
    about: str = ""
    where: Place
    inputs: list[InputEntry]
    rounds: list[RoundEntry]
    expect: ExpectEntry
    findings: Told | None = None
    raises: str | None = None
    exports: dict[str, ExportEntry]
    not_packed: dict[str, Told]

    @classmethod
    def of(cls, case: Case) -> CaseEntry:
        """What can be said of ``case`` before anything is built."""
        return cls(
            id=case.id,
            about=case.about,
            where=Place(file=case.where.file, line=case.where.line, column=case.where.column),
            inputs=[InputEntry(label=each.label, dtype=each.dtype, shape=list(each.shape)) for each in case.inputs],
            rounds=[],
            expect=ExpectEntry(gradient={}, names={}, arrays={}),
            raises=case.expect.raises,
            exports={},
            not_packed={},
        )

    def files(self) -> Iterator[str]:
        """Every file without which the case cannot be verified."""
        yield from self.expect.files()
        for part in self.rounds:
            yield from part.files()
        yield from (export.path for export in self.exports.values())


class Manifest(Strict):
    """The whole of ``manifest.json``."""

    format: Literal[1]
    seal: Digest
    versions: dict[str, str]
    targets: Annotated[list[str], Field(min_length=1)]
    files: dict[Inside, Digest]
    cases: Annotated[list[CaseEntry], Field(min_length=1)]

    @property
    def exports(self) -> tuple[str, ...]:
        """The first half of each target that it was packed for."""
        return tuple(dict.fromkeys(target.partition("/")[0] for target in self.targets))


def seal_of(content: dict[str, Any]) -> str:
    """The SHA-256 of a manifest without its seal, in one spelling."""
    told = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(path: Path) -> Manifest:
    """The manifest at ``path``.

    Raises :class:`SpecError`, one line a problem, where it is cut short, of a newer format, not a bundle's, or was
    changed after it was written.
    """
    raw = _parsed(path)
    newest = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or type(newest) is not int or newest < 1:
        raise refused(path, "this is not the manifest of a bundle: it has no `format` number", PACK_ANEW)
    if newest > FORMAT:
        raise refused(path, f"this bundle is of format {newest}", f"this harness reads format {FORMAT}; update it")
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False)
        more = f" (and {len(others)} more)" if others else ""
        raise refused(path, f"{_where(first['loc'])}: {_said(first['msg'])}{more}", PACK_ANEW) from error
    if manifest.seal != seal_of(raw):
        raise refused(path, "it was changed after it was packed: its seal is another", PACK_ANEW)
    return manifest


def refused(path: Path, wrong: str, right: str, line: int = 1, column: int = 1) -> SpecError:
    """The one thing that is wrong with the file at ``path``."""
    return SpecError([Problem(Location(str(path), line, column), wrong, right)])


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise refused(path, f"cannot be read ({error.strerror})", PACK_ANEW) from error
    except json.JSONDecodeError as error:
        wrong = f"the manifest is cut short or broken ({error.msg})"
        raise refused(path, wrong, PACK_ANEW, error.lineno, error.colno) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise refused(path, "this is not a JSON text that can be read", PACK_ANEW) from error


def _where(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "[key]")
    return "".join(parts).lstrip(".")


def _said(message: str) -> str:
    return message.partition(f"; {PACK_ANEW}")[0]
