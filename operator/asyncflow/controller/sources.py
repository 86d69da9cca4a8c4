"""The resources from which the cluster state is updated."""

from dataclasses import dataclass

from asyncflow.api import names
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.kube.client import JOBS, LEASES, PODS, TASKS, TYPES
from asyncflow.kube.source import Source


@dataclass(frozen=True, slots=True)
class Sources:
    """The resources that the operator watches, each under its plural name."""

    asynctasks: Source
    tasktypes: Source
    jobs: Source
    leases: Source
    pods: Source
    unbound_pods: Source

    @classmethod
    def of(cls, state: ClusterState) -> "Sources":
        """Return the sources that update a cluster state."""
        return cls(
            asynctasks=Source(TASKS, state.put_task, state.drop_task),
            tasktypes=Source(TYPES, state.put_type, state.drop_type),
            jobs=Source(JOBS, state.put_job, state.drop_job, labels=names.ATTEMPT_SELECTOR),
            leases=Source(LEASES, state.put_lock, state.drop_lock, labels=names.LOCK_SELECTOR),
            # Deleted pods are kept: they are evidence. A pod without Job and record is an attempt, too.
            pods=Source(
                PODS,
                state.put_pod,
                labels=names.ATTEMPT_SELECTOR,
                fields="status.phase!=Succeeded",
                watched_fields="status.phase!=Pending,status.phase!=Running",
            ),
            # The only evidence that a pod was deleted before it was bound: the Job controller removes its
            # finalizer at once. The event that a pod was bound looks like its deletion, and is ignored.
            unbound_pods=Source(
                PODS, state.put_unbound_pod, labels=names.ATTEMPT_SELECTOR, fields="spec.nodeName="
            ),
        )
