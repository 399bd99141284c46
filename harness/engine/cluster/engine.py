"""What a check asks of the machine that it runs on.

The cluster engine: jobs go to machines that have what they ask for, and what a dead machine had goes to others.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.engine.cluster.node import OWN_CODE, Brought, carry_out, load, unpack
from harness.engine.job import Job, fingerprint, lost
from harness.engine.journal import Entry, JournalWriter
from harness.environment import versions
from harness.errors import HarnessError, RuntimeMissing, UsageError
from harness.spec.glob import matches
from harness.spec.targets import Target

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


TRIES = 3
LOOK = 0.5
KNOCK = 5.0


@dataclass(frozen=True, slots=True)
class _Sent:
    """Part of a job on its way, the machine it is bound to if it is to one, and the parts that come after it."""

    job: Job
    demand: Demand
    node: str | None
    then: tuple[tuple[Demand, Job], ...]


class ClusterEngine:
    """Runs jobs on the machines of a Ray cluster and yields each entry as soon as its job is back."""

    def __init__(self, cluster: Cluster, journal: Path) -> None:
        self._cluster, self._writer = cluster, JournalWriter(journal)
        self._waiting: deque[tuple[Demand, Job, tuple[tuple[Demand, Job], ...]]] = deque()
        self._sent: dict[Any, _Sent] = {}
        self._tries: Counter[tuple[str, Demand]] = Counter()

    def run(self, jobs: Sequence[Job]) -> Iterator[Entry]:
        """What all checks came to, in the order in which it is known.

        Raises :class:`RuntimeMissing` where Ray is not installed, :class:`UsageError` where there is no such cluster,
        or none of its machines has a resource that was named, and :class:`HarnessError` where a machine has other
        versions installed. Leaving the generator stops what is under way.
        """
        ray = _joined(self._cluster, jobs)
        try:
            for job in jobs:
                first, *then = parts(job, self._cluster).items()
                self._waiting.append((*first, tuple(then)))
            _require(ray, {demand for demand, _, then in self._waiting for demand in (demand, *dict(then))})
            while self._waiting or self._sent:
                self._send(ray)
                done, _ = ray.wait(list(self._sent), timeout=LOOK)
                for reference in done:
                    yield from self._settle(ray, reference)
        finally:
            for reference in self._sent:
                ray.cancel(reference, force=True)
            ray.shutdown()
            self._writer.close()

    def _send(self, ray: Any) -> None:
        """Hand everything that waits to Ray, which runs it when a machine is free."""
        while self._waiting:
            demand, job, then = self._waiting.popleft()
            nodes = _fitting(ray, demand) or _fitting(ray, demand.without_gpu())
            if not nodes:
                raise HarnessError(f"no machine is left for {job.case.id}; start one and go on with --resume")
            options, node = _options(demand, nodes, alone=job.settings.latency, busy=self._busy())
            remote = ray.remote(carry_out).options(max_retries=0, **options)
            reference = remote.remote(job, load(job, job.settings.cache))
            self._sent[reference] = _Sent(job, demand, node, then)

    def _busy(self) -> Counter[str]:
        return Counter(sent.node for sent in self._sent.values() if sent.node is not None)

    def _settle(self, ray: Any, reference: Any) -> Iterator[Entry]:
        sent = self._sent.pop(reference)
        try:
            brought: Brought = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise error.cause from error
            raise HarnessError(f"harness itself failed on {sent.job.case.id}: {error.cause!r}") from error
        except ray.exceptions.RayError as error:
            yield from self._again(sent, error)
            return
        _agree(brought)
        unpack(brought.exports, sent.job.settings.cache)
        targets = {str(target): target for target in sent.job.targets}
        for entry in brought.entries:
            of = fingerprint(sent.job.case, targets[entry.result.target], sent.job.settings)
            yield self._told(replace(entry, of=of))
        self._go_on(sent)

    def _again(self, sent: _Sent, error: Exception) -> Iterator[Entry]:
        """The machine died: another takes the part over; where it kills one after the other, its checks are lost."""
        of = sent.job.case.id, sent.demand
        self._tries[of] += 1
        if self._tries[of] < TRIES:
            self._waiting.append((sent.demand, sent.job, sent.then))
            return
        said = f"{TRIES} machines of the cluster died with it: {type(error).__name__}"
        for target in sent.job.targets:
            result = lost(sent.job, target, "run", "crash", said, ())
            yield self._told(Entry(result, fingerprint(sent.job.case, target, sent.job.settings)))
        self._go_on(sent)

    def _told(self, entry: Entry) -> Entry:
        self._writer.add(entry)
        return entry

    def _go_on(self, sent: _Sent) -> None:
        """The next part of the same case: the files that this one exported travel with it."""
        if sent.then:
            (demand, job), *then = sent.then
            self._waiting.append((demand, job, tuple(then)))


def _joined(cluster: Cluster, jobs: Sequence[Job]) -> Any:
    """Ray, connected to the cluster. A case that runs code of the user's takes the folder along that it is found in.

    Ray would make the folder that is given to it, or else this one, the first place in which its workers look for
    modules. So it is given one that holds the user's folder, where that is to travel, and nothing else.
    """
    if find_spec("ray") is None:
        raise RuntimeMissing("--engine ray: Ray is not installed; pip install 'parity-harness[ray]'")
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own_code = any(job.runs_own_code for job in jobs)
    asked = f"--ray-address {cluster.address}" if cluster.address else "--engine ray"
    right = "start one with `ray start --head`, or name it with --ray-address HOST:PORT"
    try:
        _knock(cluster.address)
        with TemporaryDirectory() as folder, _sigterm_left_alone():
            if own_code:
                Path(folder, OWN_CODE).symlink_to(Path.cwd())
            ray.init(
                address=cluster.address or "auto",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"working_dir": folder},
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{asked}: there is no Ray cluster; {right}") from error
    return ray


@contextmanager
def _sigterm_left_alone() -> Iterator[None]:
    """Ray would leave at once with exit code 15; who answers SIGTERM so far goes on to do so."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _knock(address: str | None) -> None:
    """Raises ``OSError`` where nobody is at ``HOST:PORT``; Ray itself would go on asking for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK).close()


def _require(ray: Any, demands: set[Demand]) -> None:
    """Raises :class:`UsageError` for a resource that no machine has."""
    for name in sorted({name for demand in demands for name in demand.resources}):
        if not _fitting(ray, Demand(resources=(name,))):
            right = f"""start one with `ray start --address HOST:PORT --resources '{{"{name}": 1}}'`"""
            raise UsageError(f"--ray-resource {name}: no machine of the cluster has it; {right}")


def _fitting(ray: Any, demand: Demand) -> list[Mapping[str, Any]]:
    """The living machines that have what is asked for."""
    asked = {*demand.resources, *({"GPU"} if demand.gpu else ()), "CPU"}
    return [node for node in ray.nodes() if node["Alive"] and asked <= {k for k, v in node["Resources"].items() if v}]


def _options(
    demand: Demand, nodes: Sequence[Mapping[str, Any]], *, alone: bool, busy: Counter[str]
) -> tuple[dict[str, Any], str | None]:
    """How Ray is to place a part. What is timed has a machine to itself: all its CPUs, on the least busy that fits."""
    gpu = 1 if demand.gpu and all(node["Resources"].get("GPU") for node in nodes) else 0
    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpu, "resources": dict.fromkeys(demand.resources, 0.001)}
    if not alone:
        return options, None
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = min(nodes, key=lambda node: busy[node["NodeID"]])
    bound = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return options | {"num_cpus": node["Resources"]["CPU"], "scheduling_strategy": bound}, node["NodeID"]


def _agree(brought: Brought) -> None:
    """Raises :class:`HarnessError` where a machine has other versions: its verdicts would be about something else."""
    here = versions()
    other = {name: there for name, there in brought.versions.items() if here.get(name) != there}
    if other:
        told = ", ".join(f"{name} {there} for {here.get(name, 'none')}" for name, there in sorted(other.items()))
        raise HarnessError(f"{brought.machine} has {told}; install the same versions on every machine")
