"""AOTInductor's libraries on the CPU: compiled when they were exported, loaded and called here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.runtimes import Availability
from harness.runtimes._options import THREADS, settle
from harness.runtimes._torch_session import TorchSession
from harness.runtimes.compile import availability

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_CHOICES = {"threads": THREADS}


@dataclass(frozen=True, slots=True)
class Aoti:
    """``torch._inductor.aoti_load_package``."""

    name: str = "aoti-cpu"
    takes: Format = "aoti"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads``."""
        return {key: str(choice) for key, choice in _CHOICES.items()}

    def check(self, options: Mapping[str, str]) -> None:
        """Raises :class:`harness.errors.UsageError` for an option that is not one of :attr:`options`."""
        settle(self.name, _CHOICES, options)

    def availability(self) -> Availability:
        """Whether torch is here, and the C++ compiler without which there is nothing to load."""
        return availability()

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TorchSession:
        """The library, loaded into this process."""
        settings = settle(self.name, _CHOICES, options)
        self.availability().require(self.name)
        from torch._inductor import aoti_load_package

        return TorchSession(aoti_load_package(str(artifact.path)), settings, "cpu", "inductor, ahead of time")


PROVIDES = (Aoti(),)
