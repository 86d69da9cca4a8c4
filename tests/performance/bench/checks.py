"""What has to be there of a short task and of a Job when they are over."""

from collections import Counter

from performance.observer import has_condition
from support.admin_api import PODS, AdminApi, Body


def wrong_task(body: Body, jobs: dict[str, Body]) -> list[str]:
    """Return what a task lacks that has succeeded with its first attempt, where these Jobs are, by name."""
    name, status = body["metadata"]["name"], body["status"]
    attempts = status.get("attempts", [])
    if status["phase"] != "Succeeded" or len(attempts) != 1:
        return [f"{name} is {status['phase']} after {len(attempts)} attempts"]
    (attempt,) = attempts
    job = jobs.get(attempt["jobName"])
    checks = {
        "the attempt succeeded": attempt.get("outcome") == "Succeeded",
        "its node has said that it is over": attempt.get("proofOfDeath") == "Node",
        "it is on record from start to end": bool(attempt.get("startTime") and attempt.get("endTime")),
        "it has its Job": job is not None and job["metadata"]["uid"] == attempt.get("jobUid"),
        "its lease is given back": "lease" not in status,
        "the task says so": has_condition(body, "Complete"),
        "its end is on record": "completionTime" in status,
        "it has a shard": isinstance(status.get("shard"), int),
    }
    return [f"{name}: it is not so that {what}" for what, holds in checks.items() if not holds]


def wrong_number(bodies: list[Body], number: int, what: str) -> list[str]:
    """Return that there are more or fewer objects than there have to be."""
    return [] if len(bodies) == number else [f"{len(bodies)} {what}, and there have to be {number}"]


async def wrong_pods(api: AdminApi, namespace: str, jobs: list[Body]) -> list[str]:
    """Return which Jobs are not complete, and whether they have other than one pod each that succeeded."""
    names = [job["metadata"]["name"] for job in jobs if not has_condition(job, "Complete")]
    wrong = [f"Job {name} is not complete" for name in names]
    pods = await api.all(PODS.format(namespace))
    of_job = Counter(pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods)
    ended = [pod for pod in pods if pod["status"]["phase"] == "Succeeded"]
    if len(ended) < len(pods):
        wrong.append(f"{len(pods) - len(ended)} of {len(pods)} pods have not succeeded")
    if len(of_job) != len(jobs) or any(number != 1 for number in of_job.values()):
        wrong.append(f"{len(jobs)} Jobs have {len(pods)} pods")
    return wrong
