"""Manual intervention by annotations on a task.

An annotation names its attempt by a uid: one that is left behind, or copied to another task, has no effect on
any other attempt.
"""

from dataclasses import dataclass

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, Verdict

VERDICTS = {verdict.value.lower(): verdict for verdict in Verdict}
NOTE_MAX = 400
CONFIRMATION_MAX = 64 + NOTE_MAX


@dataclass(frozen=True, slots=True)
class DeathConfirmation:
    """The confirmation by an administrator that an attempt's processes are dead."""

    uid: str
    """Of the pod; of the Job where no pod of it was ever seen."""
    note: str


@dataclass(frozen=True, slots=True)
class UserDecision:
    """A user's decision about what follows an attempt."""

    verdict: Verdict
    job_uid: str
    note: str


def death_confirmation(task: AsyncTask) -> DeathConfirmation | None:
    """Return the confirmation of an administrator, if there is one: ``<uid> [note]``.

    One that was rejected, because the node of the attempt was ready, does not count any more: what was true
    then may have changed since.
    """
    text = confirmation_text(task)
    uid, _, note = text.partition(" ")
    return DeathConfirmation(uid, note.strip()) if uid and text != task.status.rejected_confirmation else None


def confirmation_text(task: AsyncTask) -> str:
    """Return the annotation that confirms a death, without surrounding space; "" if there is none."""
    return task.metadata.annotations.get(names.CONFIRMED_DEAD_ANNOTATION, "").strip()[:CONFIRMATION_MAX]


def decision(task: AsyncTask) -> UserDecision | None:
    """Return the user's decision, if it can be parsed: ``retry|fail|succeed <uid of the Job> [note]``."""
    words = task.metadata.annotations.get(names.DECISION_ANNOTATION, "").split(maxsplit=2)
    if len(words) < 2 or words[0].lower() not in VERDICTS:
        return None
    return UserDecision(VERDICTS[words[0].lower()], words[1], (words[2:] or [""])[0].strip()[:NOTE_MAX])


def ignored_confirmation(task: AsyncTask, uid: str) -> str:
    """Return why the confirmation on a task does not count for the attempt with this uid; else "".

    One that was for an earlier attempt, which is recorded, may stay on the task.
    """
    if (text := confirmation_text(task)) and text == task.status.rejected_confirmation:
        return (
            f"The annotation {names.CONFIRMED_DEAD_ANNOTATION} has no effect: it was given while the node "
            "was Ready. Check again, and give it with another note."
        )
    found = death_confirmation(task)
    earlier = {u for a in task.status.attempts if a.outcome is not None for u in (a.pod_uid, a.job_uid)}
    if found is None or found.uid == uid or found.uid in earlier:
        return ""
    return (
        f"The annotation {names.CONFIRMED_DEAD_ANNOTATION} has no effect: it names {found.uid[:64]}, and the "
        f"attempt that needs it is {uid}."
    )


def ignored_decision(task: AsyncTask, job_uid: str) -> str:
    """Return why the decision on a task does not count for the attempt with this Job; else ""."""
    text = task.metadata.annotations.get(names.DECISION_ANNOTATION, "").strip()
    if not text:
        return ""
    found = decision(task)
    if found is None:
        return (
            f"The annotation {names.DECISION_ANNOTATION} has no effect: it must be retry, fail or succeed, "
            "followed by the uid of the Job."
        )
    earlier = {a.job_uid for a in task.status.attempts if a.decision is not None}
    if found.job_uid == job_uid or found.job_uid in earlier:
        return ""
    return (
        f"The annotation {names.DECISION_ANNOTATION} has no effect: it names {found.job_uid[:64]}, and the "
        f"Job of the last attempt is {job_uid}."
    )


def retry_now(task: AsyncTask) -> str | None:
    """Return the request for another attempt or run, if it has not been fulfilled yet."""
    request = task.metadata.annotations.get(names.RETRY_NOW_ANNOTATION, "")[:256]
    return request if request and request != task.status.retry_now else None


def how_to_confirm(task: AsyncTask, uid: str) -> str:
    """Return the command that confirms the death of an attempt."""
    return _annotate(task, f'{names.CONFIRMED_DEAD_ANNOTATION}="{uid} why you know"')


def how_to_decide(task: AsyncTask, job_uid: str) -> str:
    """Return the command that decides what follows an attempt."""
    return _annotate(task, f'{names.DECISION_ANNOTATION}="retry|fail|succeed {job_uid} why"')


def _annotate(task: AsyncTask, annotation: str) -> str:
    meta = task.metadata
    return f"kubectl annotate --overwrite -n {meta.namespace} asynctask {meta.name} {annotation}"
