"""What an error in answer to an attempt's create means."""

from datetime import timedelta

import pytest

from asyncflow.core.lifecycle.starting import Refused, Scope, pause_before_retry, read_refusal


@pytest.mark.parametrize(
    ("status", "message", "reason", "scope"),
    [
        (403, 'jobs.batch "a" is forbidden: exceeded quota: q', "QuotaExceeded", Scope.NAMESPACE),
        (403, "denied by policy", "Forbidden", Scope.NAMESPACE),
        (422, "spec.template: Invalid value", "JobRejected", Scope.TYPE),
        (500, "failed calling webhook", "ApiServerError", Scope.TASK),
        (504, "request did not complete within the allotted timeout", None, None),
        (500, "etcdserver: request timed out", None, None),
    ],
)
def test_a_refusal_has_its_reason_and_an_unknown_result_has_none(
    status: int, message: str, reason: str | None, scope: Scope | None
) -> None:
    result = read_refusal(status, message)
    assert isinstance(result, Refused) == (reason is not None)
    if isinstance(result, Refused):
        assert (result.reason, result.scope, message in result.message) == (reason, scope, True)


def test_the_pause_grows_up_to_a_minute() -> None:
    pauses = [pause_before_retry(number).total_seconds() for number in range(40)]
    assert pauses[:5] == [5, 10, 20, 40, 60]
    assert max(pauses) == timedelta(minutes=1).total_seconds()
