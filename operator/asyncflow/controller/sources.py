"""What the cluster state is filled from."""

from dataclasses import dataclass

from asyncflow.api import names
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.kube.client import JOBS, LEASES, PODS, TASKS, TYPES
from asyncflow.kube.source import Source


@dataclass(frozen=True, slots=True)
class Sources:
    """The resources that the operator follows, each named as the API server names it."""

    asynctasks: Source
    tasktypes: Source
    jobs: Source
    leases: Source
    pods: Source

    @classmethod
    def of(cls, state: ClusterState) -> "Sources":
        """Return the sources that fill a cluster state."""
        return cls(
            asynctasks=Source(TASKS, state.put_task, state.drop_task),
            tasktypes=Source(TYPES, state.put_type, state.drop_type),
            jobs=Source(JOBS, state.put_job, state.drop_job, labels=names.ATTEMPT_SELECTOR),
            leases=Source(LEASES, state.put_lock, state.drop_lock, labels=names.LOCK_SELECTOR),
            # A pod that is gone is still evidence; one without Job or record is an attempt, too.
            pods=Source(
                PODS,
                state.put_pod,
                labels=names.ATTEMPT_SELECTOR,
                fields="status.phase!=Succeeded",
                watched_fields="status.phase=Failed",
            ),
        )
