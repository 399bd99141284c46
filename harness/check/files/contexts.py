"""The context of each target of a case: the case itself for exports, and one for each file under test."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from harness.check.cache.artifacts import ArtifactCache
from harness.check.cache.memo import Capture
from harness.check.case_context import CaseContext
from harness.check.files.context import TestedFile
from harness.check.files.reference import FileReference, ReferenceAnswers
from harness.spec.language.case import Case, StoredModel
from harness.spec.model_files import MODULE_FORMATS
from harness.spec.targets import Target

if TYPE_CHECKING:
    from harness.check.module.prepared_case import PreparedCase


class CaseContexts:
    """What the checks of a case in one process share. torch is loaded only for a case that needs it."""

    def __init__(
        self,
        case: Case,
        artifacts: ArtifactCache,
        strict_ulp: int | None = None,
        capture: Capture | None = None,
        on_size: Callable[[int], None] = lambda _size: None,
    ) -> None:
        """``on_size`` is called with the size of each model in bytes, once it is known."""
        self._case, self._artifacts, self._strict_ulp = case, artifacts, strict_ulp
        self._capture, self._on_size = capture, on_size
        self._files: dict[str, TestedFile] = {}

    def of(self, target: Target) -> CaseContext:
        """The context of the checks on ``target``."""
        name = target.tested_file
        if name is None:
            return self.prepared
        if name not in self._files:
            self._files[name] = TestedFile(
                self._case, name, self.reference, self._artifacts, self._capture, self._on_size
            )
        return self._files[name]

    @cached_property
    def prepared(self) -> PreparedCase:
        """The case with its module, which is built or loaded."""
        from harness.check.module.prepared_case import PreparedCase

        return PreparedCase(self._case, self._artifacts, self._strict_ulp, self._capture, self._on_size)

    @cached_property
    def reference(self) -> ReferenceAnswers:
        """What the files under test are compared with."""
        model = self._case.model.model
        if isinstance(model, StoredModel) and model.format not in MODULE_FORMATS:
            return FileReference(self._case, self._strict_ulp, self._on_size)
        return self.prepared
