"""What a check asks of the machine that it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.engine.job import Job
from harness.errors import UsageError
from harness.spec.glob import matches
from harness.spec.target import Target

ON_A_GPU = ("cuda", "tensorrt")


@dataclass(frozen=True, slots=True)
class Demand:
    """A GPU or not, and the custom resources of Ray's that the machine must have."""

    gpu: bool = False
    resources: tuple[str, ...] = ()

    def without_gpu(self) -> Demand:
        """The demand where no machine has a GPU: the check is skipped there, and says why, as on one machine."""
        return replace(self, gpu=False)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster at ``address``, None for the one that Ray finds by itself.

    ``resources`` pairs globs of targets with the custom resource that marks the machines that they belong to.
    """

    address: str | None = None
    resources: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, address: str | None, resources: Sequence[str]) -> Cluster:
        """From the words of the command line. Raises :class:`UsageError` for what is no ``GLOB=NAME``."""
        pairs = []
        for text in resources:
            glob, equals, name = text.rpartition("=")
            if not (glob and equals and name):
                right = "write GLOB=NAME, such as '*/ort-acl=jetson'"
                raise UsageError(f"--ray-resource {text}: says not which targets need which resource; {right}")
            pairs.append((glob, name))
        return cls(address, tuple(pairs))

    def demand(self, target: Target) -> Demand:
        """What a check on ``target`` asks of its machine."""
        named = (name for glob, name in self.resources if matches(glob, str(target)))
        return Demand(any(word in target.runtime for word in ON_A_GPU), tuple(sorted(set(named))))


def parts(job: Job, cluster: Cluster) -> dict[Demand, Job]:
    """The job divided by what its targets ask of a machine, what asks for nothing first."""
    found: dict[Demand, list[Target]] = {}
    for target in job.targets:
        found.setdefault(cluster.demand(target), []).append(target)
    ordered = sorted(found, key=lambda demand: (demand.gpu, demand.resources))
    return {demand: replace(job, targets=tuple(found[demand])) for demand in ordered}
