"""The cluster engine: sends jobs to the machines of a Ray cluster that have what the jobs need.

What a machine had when it died goes to another one.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.engine.cluster.node import USER_CODE, NodeResult, files_of, run_on_node, write_cache_entries
from harness.engine.job import Job, fingerprint, lost_check_result
from harness.engine.journal import Entry, JournalWriter
from harness.engine.processes.limits import RUN_SIGNALS
from harness.environment import install_command, versions
from harness.errors import HarnessError, RuntimeMissing, UsageError
from harness.spec.glob import matches
from harness.spec.targets import Target

GPU_RUNTIMES = ("cuda", "tensorrt")
MAX_ATTEMPTS = 3
POLL_SECONDS = 0.5
CONNECT_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Demand:
    """What a check needs of its machine: a GPU or not, and custom resources of Ray's."""

    gpu: bool = False
    resources: tuple[str, ...] = ()

    def without_gpu(self) -> Demand:
        """The demand where no machine has a GPU: the check is skipped there with its reason, as on one machine."""
        return replace(self, gpu=False)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster at ``address``, None for the one that Ray finds by itself.

    ``resources`` pairs globs of targets with the custom resource that marks the machines for them.
    """

    address: str | None = None
    resources: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, address: str | None, resources: Sequence[str]) -> Cluster:
        """Parse the command line's options. Raises :class:`UsageError` for a resource that is not ``GLOB=NAME``."""
        pairs = []
        for text in resources:
            glob, equals, name = text.rpartition("=")
            if not (glob and equals and name):
                fix = "write GLOB=NAME, such as '*/ort-acl=jetson'"
                raise UsageError(f"--ray-resource {text}: does not say which targets need which resource; {fix}")
            pairs.append((glob, name))
        return cls(address, tuple(pairs))

    def demand(self, target: Target) -> Demand:
        """What a check on ``target`` needs of its machine."""
        names = (name for glob, name in self.resources if matches(glob, str(target)))
        return Demand(any(word in target.runtime for word in GPU_RUNTIMES), tuple(sorted(set(names))))


Part = tuple[Demand, Job]


def split_by_demand(job: Job, cluster: Cluster) -> dict[Demand, Job]:
    """Split the job by what its targets need of a machine; the part with the smallest demand comes first."""
    targets: dict[Demand, list[Target]] = {}
    for target in job.targets:
        targets.setdefault(cluster.demand(target), []).append(target)
    ordered = sorted(targets, key=lambda demand: (demand.gpu, demand.resources))
    return {demand: replace(job, targets=tuple(targets[demand])) for demand in ordered}


@dataclass(frozen=True, slots=True)
class _SentPart:
    """A part of a job that was sent, the machine it is bound to if any, and the parts of the job that follow."""

    job: Job
    demand: Demand
    node: str | None
    following: tuple[Part, ...]


class ClusterEngine:
    """Runs jobs on the machines of a Ray cluster and yields each entry as soon as its job is back."""

    def __init__(self, cluster: Cluster, journal: Path) -> None:
        self._cluster, self._writer = cluster, JournalWriter(journal)
        self._waiting: deque[tuple[Demand, Job, tuple[Part, ...]]] = deque()
        self._sent: dict[Any, _SentPart] = {}
        self._attempts: Counter[tuple[str, Demand]] = Counter()

    def run(self, jobs: Sequence[Job]) -> Generator[Entry, None, None]:
        """Yield the entries of all checks, in the order in which they finish.

        Raises :class:`RuntimeMissing` where Ray is not installed, :class:`UsageError` where there is no such cluster or
        none of its machines has a resource that was named, and :class:`HarnessError` where a machine has other versions
        installed. Closing the generator stops what is running.
        """
        ray = _connect(self._cluster, jobs)
        try:
            for job in jobs:
                first, *following = split_by_demand(job, self._cluster).items()
                self._waiting.append((*first, tuple(following)))
            demands = {demand for first, _, following in self._waiting for demand in (first, *dict(following))}
            _require_resources(ray, demands)
            while self._waiting or self._sent:
                self._send(ray)
                done, _ = ray.wait(list(self._sent), timeout=POLL_SECONDS)
                for reference in done:
                    yield from self._receive(ray, reference)
        finally:
            with _signals_deferred():
                for reference in self._sent:
                    ray.cancel(reference, force=True)
                ray.shutdown()
            self._writer.close()

    def _send(self, ray: Any) -> None:
        """Send everything that waits to Ray, which runs it when a machine is free."""
        while self._waiting:
            demand, job, following = self._waiting.popleft()
            nodes = _nodes_with(ray, demand) or _nodes_with(ray, demand.without_gpu())
            if not nodes:
                raise HarnessError(f"no machine is left for {job.case.id}; start one and continue with --resume")
            options, node = _options(demand, nodes, alone=job.settings.latency, busy=self._busy())
            remote = ray.remote(run_on_node).options(max_retries=0, **options)
            reference = remote.remote(job, files_of(job, job.settings.cache))
            self._sent[reference] = _SentPart(job, demand, node, following)

    def _busy(self) -> Counter[str]:
        return Counter(sent.node for sent in self._sent.values() if sent.node is not None)

    def _receive(self, ray: Any, reference: Any) -> Iterator[Entry]:
        sent = self._sent.pop(reference)
        try:
            result: NodeResult = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UsageError):
                raise error.cause from error
            raise HarnessError(f"harness itself failed on {sent.job.case.id}: {error.cause!r}") from error
        except ray.exceptions.RayError as error:
            yield from self._retry(sent, error)
            return
        _require_same_versions(result)
        write_cache_entries(result.exports, sent.job.settings.cache)
        targets = {str(target): target for target in sent.job.targets}
        for entry in result.entries:
            # The entry gets the fingerprint of this run's job, not of the job as the machine moved it.
            of_run = fingerprint(sent.job.case, targets[entry.result.target], sent.job.settings)
            yield self._record(replace(entry, fingerprint=of_run))
        self._queue_following(sent)

    def _retry(self, sent: _SentPart, error: Exception) -> Iterator[Entry]:
        """Give the part of a dead machine to another one; after several dead machines, its checks are lost."""
        key = sent.job.case.id, sent.demand
        self._attempts[key] += 1
        if self._attempts[key] < MAX_ATTEMPTS:
            self._waiting.append((sent.demand, sent.job, sent.following))
            return
        message = f"{MAX_ATTEMPTS} machines of the cluster died with it: {type(error).__name__}"
        for target in sent.job.targets:
            result = lost_check_result(sent.job, target, "run", "crash", message, ())
            yield self._record(Entry(result, fingerprint(sent.job.case, target, sent.job.settings)))
        self._queue_following(sent)

    def _record(self, entry: Entry) -> Entry:
        self._writer.add(entry)
        return entry

    def _queue_following(self, sent: _SentPart) -> None:
        """Queue the next part of the same case; it is sent with the files that this part exported."""
        if sent.following:
            (demand, job), *following = sent.following
            self._waiting.append((demand, job, tuple(following)))


def _connect(cluster: Cluster, jobs: Sequence[Job]) -> Any:
    """Return Ray, connected to the cluster. For a user's code, the folder that it is in is sent along.

    Ray makes the folder that it is given, or else the current one, the first place where its workers look for modules.
    So it is given a folder that holds nothing but a link to the user's folder, where that is to be sent.
    """
    if find_spec("ray") is None:
        raise RuntimeMissing(f"--engine ray: Ray is not installed; install with: {install_command('ray')}")
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    runs_user_code = any(job.runs_user_code for job in jobs)
    option = f"--ray-address {cluster.address}" if cluster.address else "--engine ray"
    fix = "start one with `ray start --head`, or name it with --ray-address HOST:PORT"
    try:
        _require_listener(cluster.address)
        with TemporaryDirectory() as folder, _signals_deferred():
            if runs_user_code:
                Path(folder, USER_CODE).symlink_to(Path.cwd())
            ray.init(
                address=cluster.address or "auto",
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"working_dir": folder},
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{option}: there is no Ray cluster; {fix}") from error
    return ray


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Deliver the first of the signals that end a run after the block, with the handlers that were there before it.

    An exception from a handler while Ray connects or shuts down leaves it half open, and its exit hook then ends the
    process at once, with exit code 1. Ray's own handler of SIGTERM, which it installs as it connects, exits with 15.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: handler for number in RUN_SIGNALS if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield
    except SystemExit:
        received.append(signal.SIGTERM)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def _require_listener(address: str | None) -> None:
    """Raises ``OSError`` where nothing listens at ``HOST:PORT``; Ray itself would retry for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()


def _require_resources(ray: Any, demands: set[Demand]) -> None:
    """Raises :class:`UsageError` for a resource that no machine has."""
    for name in sorted({name for demand in demands for name in demand.resources}):
        if not _nodes_with(ray, Demand(resources=(name,))):
            fix = f"""start one with `ray start --address HOST:PORT --resources '{{"{name}": 1}}'`"""
            raise UsageError(f"--ray-resource {name}: no machine of the cluster has it; {fix}")


def _nodes_with(ray: Any, demand: Demand) -> list[Mapping[str, Any]]:
    """The living machines that meet the demand."""
    needed = {*demand.resources, *({"GPU"} if demand.gpu else ()), "CPU"}
    return [node for node in ray.nodes() if node["Alive"] and needed <= {k for k, v in node["Resources"].items() if v}]


def _options(
    demand: Demand, nodes: Sequence[Mapping[str, Any]], *, alone: bool, busy: Counter[str]
) -> tuple[dict[str, Any], str | None]:
    """How Ray is to place a part. A timed part has a machine to itself: all its CPUs, on the least busy that fits."""
    gpu = 1 if demand.gpu and all(node["Resources"].get("GPU") for node in nodes) else 0
    options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpu, "resources": dict.fromkeys(demand.resources, 0.001)}
    if not alone:
        return options, None
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = min(nodes, key=lambda node: busy[node["NodeID"]])
    bound = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return options | {"num_cpus": node["Resources"]["CPU"], "scheduling_strategy": bound}, node["NodeID"]


def _require_same_versions(result: NodeResult) -> None:
    """Raises :class:`HarnessError` where a machine has other versions: its results would be about something else."""
    here = versions()
    different = {name: there for name, there in result.versions.items() if here.get(name) != there}
    if different:
        listed = ", ".join(f"{name} {there} for {here.get(name, 'none')}" for name, there in sorted(different.items()))
        raise HarnessError(f"{result.machine} has {listed}; install the same versions on every machine")
