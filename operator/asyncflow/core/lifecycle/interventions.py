"""Manual intervention by annotations on a task.

An annotation names its attempt by a uid: one that is left behind, or copied to another task, has no effect on
any other attempt.
"""

from dataclasses import dataclass

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, Verdict

VERDICTS = {verdict.value.lower(): verdict for verdict in Verdict}
NOTE_MAX = 400


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
    """Return the confirmation of an administrator, if there is one: ``<uid> [note]``."""
    uid, _, note = task.metadata.annotations.get(names.CONFIRMED_DEAD_ANNOTATION, "").strip().partition(" ")
    return DeathConfirmation(uid, note.strip()[:NOTE_MAX]) if uid else None


def decision(task: AsyncTask) -> UserDecision | None:
    """Return the user's decision, if it can be parsed: ``retry|fail|succeed <uid of the Job> [note]``."""
    words = task.metadata.annotations.get(names.DECISION_ANNOTATION, "").split(maxsplit=2)
    if len(words) < 2 or words[0].lower() not in VERDICTS:
        return None
    return UserDecision(VERDICTS[words[0].lower()], words[1], (words[2:] or [""])[0].strip()[:NOTE_MAX])


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
