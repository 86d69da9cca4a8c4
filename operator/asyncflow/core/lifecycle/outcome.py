"""How an attempt ended, and how that is known.

Proof of death is one of: the kubelet reported the containers terminated; no pod was ever bound to a node and
none can be any more; the attempt was fenced (`asyncflow.core.lifecycle.proof_of_death`). A Job that is merely
gone, or failed by a disruption, proves nothing: the pod garbage collector fails the pods of deleted nodes,
whose processes may still run.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.api.asynctask import Outcome, Proof
from asyncflow.core.lifecycle.proof_of_death import Evidence
from asyncflow.core.views.execution import DEADLINE_REASON, Execution
from asyncflow.core.views.pod import PodView

STOP_CANCELLED = reasons.CANCELLED
STOP_TOTAL_DEADLINE = reasons.TOTAL_DEADLINE_EXCEEDED
STOP_TASK_ENDED = reasons.TASK_ENDED
STOP_NOT_STARTED = reasons.NOT_STARTED
STOP_SUSPENDED = reasons.JOB_SUSPENDED
STOP_FENCED = reasons.FENCED
"""There is proof of death from outside: the Job is closed so that it creates no other pod."""

KILLED = (137, 143)
"""Exit codes of a process that was ended by SIGKILL or SIGTERM."""


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
    proof_detail: str = ""


def judge(
    job: Execution,
    pod: PodView | None,
    *,
    gone: bool = False,
    looked: bool = False,
    evidence: Evidence | None = None,
    overdue: bool = False,
) -> Ending | None:
    """Return how an attempt ended whose Job is finished, gone, or closed with proof of death from outside.

    Args:
        job: the Job, as last seen.
        pod: its pod as last seen, which may be gone by now.
        gone: whether the Job was deleted before its outcome was recorded.
        looked: whether the pods were read from the API server since the Job ended.
        evidence: proof of death from outside, if there is any.
        overdue: whether the attempt's lease has expired.

    Returns:
        None if its pods have to be read first. An ending with the proof None is no proof of death.
    """
    if job.complete and not (pod is not None and pod.interrupted):
        return Ending(Outcome.SUCCEEDED, Proof.NODE, reasons.COMPLETED, end_time=job.finish_time)
    settled = pod is not None and (pod.terminal or pod.never_bound)
    if not looked and not settled and evidence is None:
        return None
    proof = _proof(job, pod)
    if proof is None and evidence is not None:
        return _from_outside(job, pod, evidence, overdue=overdue)
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


def _from_outside(job: Execution, pod: PodView | None, evidence: Evidence, *, overdue: bool) -> Ending:
    """Return the ending of an attempt that no node reported: unknown, unless its Job has the cause."""
    if job.stop_reason == STOP_CANCELLED:
        outcome, reason = Outcome.CANCELLED, job.stop_reason
    elif job.stop_reason == STOP_TOTAL_DEADLINE:
        outcome, reason = Outcome.TIMED_OUT, job.stop_reason
    elif job.disrupted or (pod is not None and pod.disruption):
        outcome, reason = Outcome.DISRUPTED, (pod.disruption if pod else "") or reasons.DISRUPTED
    elif overdue:
        outcome, reason = Outcome.UNKNOWN, reasons.LEASE_EXPIRED
    else:
        outcome, reason = Outcome.UNKNOWN, reasons.NODE_LOST if evidence.node_lost else reasons.NOT_REPORTED
    return Ending(
        outcome=outcome,
        proof=evidence.proof,
        reason=reason,
        message="its node did not report how it ended",
        node_name=(pod.node_name or None) if pod else None,
        proof_detail=evidence.detail,
    )


def _proof(job: Execution, pod: PodView | None) -> Proof | None:
    if pod is not None and not pod.node_name and (pod.terminal or pod.deleting):
        return Proof.NEVER_STARTED
    if pod is not None and pod.rejected:
        return Proof.NEVER_STARTED
    if pod is not None and pod.terminal and (pod.dead or pod.reason == DEADLINE_REASON):
        return Proof.NODE
    if job.exit_reported or job.succeeded:
        return Proof.NODE  # only a kubelet reports an exit code, or the success of a pod
    if job.never_bound or (pod is None and not job.has_pod and (job.finished or job.without_pod)):
        return Proof.NEVER_STARTED  # its only pod was deleted before it was bound, or there never was one
    return None


def _outcome(job: Execution, pod: PodView | None, proof: Proof | None, *, gone: bool) -> tuple[Outcome, str]:
    if job.stop_reason == STOP_CANCELLED:
        return Outcome.CANCELLED, job.stop_reason
    if job.stop_reason == STOP_NOT_STARTED:
        return Outcome.NOT_STARTED, job.stop_reason
    if job.stop_reason in (STOP_TOTAL_DEADLINE, STOP_TASK_ENDED):
        return Outcome.TIMED_OUT, job.stop_reason
    if job.stop_reason == STOP_SUSPENDED and proof is not Proof.NEVER_STARTED:
        return Outcome.DISRUPTED, job.stop_reason
    if proof is Proof.NEVER_STARTED:
        rejected = pod is not None and pod.rejected
        return Outcome.NOT_STARTED, pod.reason if pod is not None and rejected else STOP_NOT_STARTED
    if (pod is not None and pod.reason == DEADLINE_REASON) or _killed_at_deadline(job, pod):
        return Outcome.TIMED_OUT, DEADLINE_REASON
    if job.disrupted or (pod is not None and pod.disruption):
        return Outcome.DISRUPTED, (pod.disruption if pod else "") or reasons.DISRUPTED
    if gone:
        return Outcome.UNKNOWN, reasons.JOB_DELETED
    if job.reason != DEADLINE_REASON and pod is not None and pod.interrupted:
        return Outcome.DISRUPTED, reasons.POD_DELETED
    code = job.exit_code if pod is None or pod.exit_code is None else pod.exit_code
    if job.reason == DEADLINE_REASON and (not code or code in KILLED):
        return Outcome.TIMED_OUT, DEADLINE_REASON
    if code or job.exit_reported:
        return Outcome.FAILED, reasons.NON_ZERO_EXIT_CODE
    return Outcome.UNKNOWN, job.reason or "Unknown"


def _killed_at_deadline(job: Execution, pod: PodView | None) -> bool:
    """Return whether a kill without a known pod is attributed to the deadline: the attempt was that old."""
    return (
        pod is None
        and job.exit_code in KILLED
        and job.finish_time is not None
        and job.attempt_seconds > 0
        and job.finish_time - job.created >= timedelta(seconds=job.attempt_seconds)
    )


def _message(job: Execution, pod: PodView | None, *, gone: bool) -> str:
    if gone:
        return "its Job was deleted by another client"
    blocked = f"{pod.blocked_by}: {pod.blocked_message}" if pod is not None and pod.blocked_by else ""
    return (job.stop_message or (pod.message if pod else "") or blocked or job.message)[:1024]
