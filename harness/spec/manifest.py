"""``manifest.json`` of a bundle: what was packed, by what it is held to, and the SHA-256 of every file.

    format        the version of this layout; a key that bundles without it can lack can be added without a new one
    seal          the SHA-256 of all else in the manifest
    versions      of the packages that the bundle was made with
    targets       what it was packed for
    files         SHA-256 by path, for every file of the bundle but this one
    cases         each with its exports, what they are held to, and what there is no file of, with the reason

:mod:`harness.spec.packed_entries` has what it says of each case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from harness.spec.json_file import place_in, read_json, refused
from harness.spec.packed_entries import PACK_ANEW, CaseEntry, Digest, Inside
from harness.spec.strict import Strict

MANIFEST = "manifest.json"
FORMAT = 1


class Manifest(Strict):
    """The whole of ``manifest.json``."""

    format: Literal[1]
    seal: Digest
    versions: dict[str, str]
    targets: Annotated[list[str], Field(min_length=1)]
    files: dict[Inside, Digest]
    cases: Annotated[list[CaseEntry], Field(min_length=1)]

    @property
    def entries(self) -> Iterator[CaseEntry]:
        """Every case at every shape."""
        return (entry for case in self.cases for entry in case.at_every_shape())

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
    if not path.is_file():
        raise refused(path, "this is not a file", PACK_ANEW)
    if path.is_symlink():
        raise refused(path, "a link, which may lead out of the bundle", "put the file itself there")
    raw = read_json(path, "the manifest", PACK_ANEW)
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
        raise refused(path, f"{place_in(first['loc'])}: {_said(first['msg'])}{more}", PACK_ANEW) from error
    if manifest.seal != seal_of(raw):
        raise refused(path, "it was changed after it was packed: its seal is another", PACK_ANEW)
    return manifest


def _said(message: str) -> str:
    return message.partition(f"; {PACK_ANEW}")[0]
