"""AOTInductor on the CPU: a library that was compiled at export is loaded and called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.runtimes import Availability
from harness.runtimes._torch_session import TorchSession
from harness.runtimes._validation import THREADS, describe_options, resolve_options
from harness.runtimes.compile import inductor_availability

if TYPE_CHECKING:
    from harness.exporters import Artifact, Format

_OPTIONS = {"threads": THREADS}


@dataclass(frozen=True, slots=True)
class Aoti:
    """``torch._inductor.aoti_load_package``."""

    name: str = "aoti-cpu"
    takes: Format = "aoti"

    @property
    def options(self) -> Mapping[str, str]:
        """``threads``."""
        return describe_options(_OPTIONS)

    def check(self, options: Mapping[str, str]) -> None:
        """Raise :class:`harness.errors.UsageError` for an unknown option or value."""
        resolve_options(self.name, _OPTIONS, options)

    def availability(self) -> Availability:
        """Whether torch and a C++ compiler are installed: without the compiler there is no library to load."""
        return inductor_availability()

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> TorchSession:
        """The library, loaded into this process."""
        settings = resolve_options(self.name, _OPTIONS, options)
        self.availability().require(self.name)
        from torch._inductor import aoti_load_package

        return TorchSession(aoti_load_package(str(artifact.path)), settings, "cpu", "inductor, ahead of time")


PROVIDES = (Aoti(),)
