"""The stuck-task governor: it wakes those whom something concerns, and nobody else."""

from collections.abc import Callable
from datetime import datetime

import pytest

from asyncflow.api import names
from asyncflow.api.meta import format_time
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.stuck import NODE_MAX_AGE, Governor
from asyncflow.core.scheduling.admission import Admission
from asyncflow.kube.client import NODES, PODS, ApiUnreachable
from support.builders import NAMESPACE, T0, at, context, job_body, pod_body, task_body
from support.fake_api import FakeApiServer, FakeClient


class Watch:
    """A governor with what it looks after."""

    def __init__(self) -> None:
        self.now = T0
        self.api = FakeApiServer(lambda: self.now)
        self.admission = Admission()
        ignore: Callable[..., None] = lambda *_: None  # noqa: E731
        self.state = ClusterState(lambda uid: self.shared.tasks.add(uid), ignore, ignore)
        self.shared = context(
            self.state, client=FakeClient(self.api), admission=self.admission, clock=lambda: self.now
        )
        self.governor = Governor(self.shared)

    def run_attempt(self, name: str, task_type: str, node: str, active: int = 1) -> None:
        """Let an attempt of a task run on a node; its Job tells of so many pods."""
        body = task_body(name)
        body["spec"]["taskTypeName"] = task_type
        self.state.put_task(body)
        job = job_body(name=name, active=active, startTime=format_time(T0))
        job["metadata"]["labels"][names.TYPE_LABEL] = task_type
        self.state.put_job(job)
        self.admission.occupy(f"uid-{name}", (NAMESPACE, task_type))
        pod = pod_body(name=name, phase="Running", startTime=format_time(T0))
        pod["spec"] = {"nodeName": node, "containers": [{}]}
        pod["metadata"]["labels"][names.TYPE_LABEL] = task_type
        self.api.load(PODS, pod)
        if node not in self.api.objects(NODES, None):
            self.api.create(NODES, None, {"metadata": {"name": node}, "spec": {}})
            self.boot(node, "1")

    def boot(self, node: str, boot: str) -> None:
        """Let a node be in another boot."""
        info = {"systemUUID": "m", "bootID": boot}
        self.api.patch(NODES, None, node, {"status": {"nodeInfo": info}}, subresource="status")

    async def tick(self, *kinds: str, at: datetime) -> set[str]:
        """Let the governor look at types; return whom it woke."""
        self.now = at
        for uid in self.shared.tasks.waiting:
            self.shared.tasks.take(uid)
        for task_type in kinds:
            await self.governor.tick((NAMESPACE, task_type))
        return set(self.shared.tasks.waiting)


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def test_nobody_is_woken_as_long_as_nothing_changes(watch: Watch) -> None:
    watch.run_attempt("a", "poll", "n1")
    assert await watch.tick("poll", at=at(3)) == set(), "it has run for a moment only"
    assert await watch.tick("poll", at=at(10)) == {"uid-a"}
    for second in range(20, 60, 10):
        assert await watch.tick("poll", at=at(second)) == set()


async def test_a_node_that_was_looked_at_again_is_news_though_it_is_as_it_was(watch: Watch) -> None:
    """A boot goes on record only from a look after the pod's start."""
    watch.run_attempt("a", "poll", "n1")
    await watch.tick("poll", at=at(10))
    again = T0 + NODE_MAX_AGE
    assert await watch.tick("poll", at=again) == set()
    assert await watch.tick("poll", at=again.replace(second=30)) == {"uid-a"}


async def test_every_type_hears_of_a_node_that_they_share(watch: Watch) -> None:
    watch.run_attempt("a", "poll", "n1")
    watch.run_attempt("b", "mail", "n1")
    assert await watch.tick("poll", "mail", at=at(10)) == {"uid-a", "uid-b"}
    watch.boot("n1", "2")
    later = (T0 + NODE_MAX_AGE).replace(second=30)
    assert await watch.tick("poll", "mail", at=later) == {"uid-a", "uid-b"}


async def test_what_a_look_that_was_cut_off_has_seen_is_told_by_the_next(watch: Watch) -> None:
    watch.run_attempt("a", "poll", "n1")
    watch.run_attempt("b", "poll", "n2")
    await watch.tick("poll", at=at(10))
    watch.boot("n1", "2")
    watch.api.fail("get", ApiUnreachable("no answer"), name="n2")
    later = (T0 + NODE_MAX_AGE).replace(second=30)
    with pytest.raises(ApiUnreachable):
        await watch.tick("poll", at=later)
    assert await watch.tick("poll", at=later.replace(second=40)) == {"uid-a", "uid-b"}


async def test_a_job_of_which_no_pod_is_known_is_looked_at_after_a_while(watch: Watch) -> None:
    """The controller-manager may have died between making the pod and saying so."""
    watch.run_attempt("a", "poll", "n1", active=0)
    assert await watch.tick("poll", at=at(29)) == set()
    assert await watch.tick("poll", at=at(31)) == {"uid-a"}
