"""What people ask for by annotations on a task.

An annotation names what it is about by a uid: one that is left there, or copied to another task, says nothing
about any other attempt.
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
class PersonsDecision:
    """What a person decided after an attempt."""

    verdict: Verdict
    job_uid: str
    note: str


def death_confirmation(task: AsyncTask) -> DeathConfirmation | None:
    """Return the confirmation of an administrator, if there is one: ``<uid> [note]``."""
    uid, _, note = task.metadata.annotations.get(names.CONFIRMED_DEAD_ANNOTATION, "").strip().partition(" ")
    return DeathConfirmation(uid, note.strip()[:NOTE_MAX]) if uid else None


def decision(task: AsyncTask) -> PersonsDecision | None:
    """Return a person's decision, if it can be read: ``retry|fail|succeed <uid of the Job> [note]``."""
    words = task.metadata.annotations.get(names.DECISION_ANNOTATION, "").split(maxsplit=2)
    if len(words) < 2 or words[0].lower() not in VERDICTS:
        return None
    return PersonsDecision(VERDICTS[words[0].lower()], words[1], (words[2:] or [""])[0].strip()[:NOTE_MAX])


def retry_now(task: AsyncTask) -> str | None:
    """Return a request for the next attempt that has not been answered, if there is one."""
    asked = task.metadata.annotations.get(names.RETRY_NOW_ANNOTATION, "")[:256]
    return asked if asked and asked != task.status.retry_now else None


def how_to_confirm(task: AsyncTask, uid: str) -> str:
    """Return the command by which an administrator confirms an attempt's death."""
    return _annotate(task, f'{names.CONFIRMED_DEAD_ANNOTATION}="{uid} why you know"')


def how_to_decide(task: AsyncTask, job_uid: str) -> str:
    """Return the command by which a person decides what comes after an attempt."""
    return _annotate(task, f'{names.DECISION_ANNOTATION}="retry|fail|succeed {job_uid} why"')


def _annotate(task: AsyncTask, annotation: str) -> str:
    meta = task.metadata
    return f"kubectl annotate --overwrite -n {meta.namespace} asynctask {meta.name} {annotation}"
