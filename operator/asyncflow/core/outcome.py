"""How an attempt ended, and how that is known.

Proof of death is one of: the kubelet reported the containers terminated; no pod was ever bound to a node and
none can be any more; the node was fenced. A Job that is merely gone, or failed by a disruption, proves
nothing: the pod garbage collector fails pods of vanished nodes while their processes run on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncflow.api.asynctask import Outcome, Proof
from asyncflow.core.observed import DEADLINE_REASON, JobView, PodView

STOP_CANCELLED = "Cancelled"
STOP_TOTAL_DEADLINE = "TotalDeadlineExceeded"
STOP_TASK_ENDED = "TaskEnded"

KILLED = (137, 143)
"""Exit codes of a process that SIGKILL or SIGTERM ended."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an attempt."""

    outcome: Outcome
    proof: Proof | None
    reason: str
    message: str = ""
    exit_code: int | None = None
    end_time: datetime | None = None
    node_name: str | None = None


def judge(
    job: JobView, pods: Iterable[PodView], *, gone: bool = False, looked: bool = False
) -> Ending | None:
    """Tell how a finished or vanished Job's attempt ended.

    Args:
        job: the Job, as last seen.
        pods: what is known of its pods, also of such that are gone by now.
        gone: whether the Job was deleted before it was judged.
        looked: whether the pods were read from the API server since the Job ended.

    Returns:
        None if its pods have to be read first. An ending whose proof is None proves no death.
    """
    if job.complete:
        return Ending(Outcome.SUCCEEDED, Proof.NODE, "Completed", end_time=job.finish_time)
    pod = max(
        (p for p in pods if p.job_uid == job.uid),
        key=lambda p: (p.terminal, int(p.resource_version)),
        default=None,
    )
    if not looked and (pod is None or not (pod.terminal or not pod.node_name)):
        return None
    proof = _proof(job, pod)
    outcome, reason = _outcome(job, pod, proof, gone=gone)
    exit_code = job.exit_code if pod is None or pod.exit_code is None else pod.exit_code
    return Ending(
        outcome=outcome,
        proof=proof,
        reason=reason,
        message=_message(job, pod, gone=gone),
        exit_code=exit_code,
        end_time=(pod.end_time if pod else None) or job.finish_time,
        node_name=(pod.node_name or None) if pod else None,
    )


def _proof(job: JobView, pod: PodView | None) -> Proof | None:
    if pod is not None and not pod.node_name and (pod.terminal or pod.deleting):
        return Proof.NEVER_STARTED  # a pod that is being deleted is not bound any more
    if pod is not None and pod.terminal and (pod.dead or pod.reason == DEADLINE_REASON):
        return Proof.NODE
    if job.exit_code is not None or job.succeeded:
        return Proof.NODE  # only a kubelet's report brings an exit code, or a pod's success
    return None


def _outcome(job: JobView, pod: PodView | None, proof: Proof | None, *, gone: bool) -> tuple[Outcome, str]:
    if job.stop_reason == STOP_CANCELLED:
        return Outcome.CANCELLED, job.stop_reason
    if job.stop_reason:
        return Outcome.TIMED_OUT, job.stop_reason
    if proof is Proof.NEVER_STARTED:
        return Outcome.NOT_STARTED, "NotStarted"
    if (pod is not None and pod.reason == DEADLINE_REASON) or _killed_at_deadline(job, pod):
        return Outcome.TIMED_OUT, DEADLINE_REASON
    if job.disrupted or (pod is not None and pod.disruption):
        return Outcome.DISRUPTED, (pod.disruption if pod else "") or "Disrupted"
    if gone:
        return Outcome.UNKNOWN, "JobDeleted"
    code = job.exit_code if pod is None or pod.exit_code is None else pod.exit_code
    if job.reason == DEADLINE_REASON and (not code or code in KILLED):
        return Outcome.TIMED_OUT, DEADLINE_REASON
    if code:
        return Outcome.FAILED, "NonZeroExitCode"
    return Outcome.UNKNOWN, job.reason or "Unknown"


def _killed_at_deadline(job: JobView, pod: PodView | None) -> bool:
    """Without its pod, a kill is taken for the deadline's if the attempt had lasted that long."""
    return (
        pod is None
        and job.exit_code in KILLED
        and job.finish_time is not None
        and job.attempt_seconds > 0
        and job.finish_time - job.created >= timedelta(seconds=job.attempt_seconds)
    )


def _message(job: JobView, pod: PodView | None, *, gone: bool) -> str:
    if gone:
        return "its Job was deleted by someone else"
    return ((pod.message if pod else "") or job.message)[:1024]
