"""What an error in answer to an attempt's create means."""

from datetime import timedelta

import pytest

from asyncflow.core.lifecycle.starting import pause_before_retry, refused_start


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (403, 'jobs.batch "a" is forbidden: exceeded quota: q', "QuotaExceeded"),
        (403, "denied by policy", "Forbidden"),
        (422, "spec.template: Invalid value", "JobRejected"),
        (500, "failed calling webhook", "ApiServerError"),
        (504, "request did not complete within the allotted timeout", None),
        (500, "etcdserver: request timed out", None),
    ],
)
def test_a_refusal_has_its_reason_and_an_unknown_result_has_none(
    status: int, message: str, reason: str | None
) -> None:
    blocker = refused_start(status, message)
    assert (blocker.reason if blocker is not None else None) == reason


def test_the_pause_grows_up_to_a_minute() -> None:
    pauses = [pause_before_retry(number).total_seconds() for number in range(40)]
    assert pauses[:5] == [5, 10, 20, 40, 60]
    assert max(pauses) == timedelta(minutes=1).total_seconds()
