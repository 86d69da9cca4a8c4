"""A whole task's life against random fortune: whatever ends its attempts and whenever the operator is asked.

The world here plays Job controller and kubelet; the operator's part is `decide` and nothing else. Between any
two of its actions the operator may forget all it has in memory: that is why it is only ever given what the
API server keeps.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asyncflow.api.asynctask import AsyncTask, Outcome, Phase
from asyncflow.core.actions import DeleteJob, ReadPods, StopJob
from asyncflow.core.decide import decide
from asyncflow.core.observed import JobView, PodView
from asyncflow.core.snapshot import Snapshot
from builders import at, job, kind, pod, task

FATES = ("success", "failure", "final failure", "timeout", "eviction", "vanished")


@dataclass
class World:
    """What the API server keeps, and a log of who ran when."""

    task: AsyncTask
    jobs: dict[str, JobView] = field(default_factory=dict)
    pods: dict[str, PodView] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    looked: dict[str, float] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)
    now: float = 0

    def live(self) -> list[JobView]:
        return [j for j in self.jobs.values() if not j.finished and j.uid not in self.gone]

    def end(self, running: JobView, fate: str) -> None:
        """End an attempt as the kubelet and the Job controller would."""
        over: dict[str, Any] = {"finish_time": at(self.now)}
        dead = pod(replace(running, **over), end_time=at(self.now))
        policy: dict[str, Any] = {"failed": True, "reason": "PodFailurePolicy", **over}
        code = {"failure": 1, "final failure": 9, "timeout": 137, "eviction": 143, "vanished": 143}.get(
            fate, 0
        )
        message = (
            f"Container main for pod shop/p failed with exit code {code} matching FailJob rule at index 1"
        )
        if fate == "success":
            self.jobs[running.uid] = replace(running, complete=True, **over)
            return
        if fate == "eviction":
            message = "Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0"
            dead = replace(dead, disruption="EvictionByEvictionAPI")
        if fate == "timeout":
            dead = replace(dead, reason="DeadlineExceeded")
        self.pods[dead.uid] = replace(dead, exit_code=code)
        if fate == "vanished":
            self.gone.add(running.uid)
        else:
            self.jobs[running.uid] = replace(running, message=message, **policy)

    def step(self, loses_write: bool) -> bool:
        """Let the operator look once and act; tell whether the task still moves."""
        seen = Snapshot(
            task=self.task,
            kind=KIND,
            jobs=tuple(self.jobs.values()),
            pods=tuple(self.pods.values()),
            gone=frozenset(self.gone),
            looked={uid: at(when) for uid, when in self.looked.items()},
        )
        decision = decide(seen, at(self.now))
        if decision.start is not None:
            assert not self.live(), "a second attempt beside a living one"
            assert decision.start.number not in self.started, "an attempt was started twice"
            self.started.append(decision.start.number)
            made = job(decision.start.number, created=self.now, run=decision.start.run)
            self.jobs[made.uid] = made
            return True
        if decision.status is not None:
            if loses_write:
                return True
            self.task = self.task.model_copy(update={"status": decision.status})
        for action in decision.actions:
            match action:
                case StopJob():
                    self.jobs[action.uid] = replace(self.jobs[action.uid], stop_reason=action.reason)
                case DeleteJob():
                    self.jobs.pop(action.uid)
                case ReadPods():
                    self.looked[action.job_uid] = self.now
        if decision.wake is not None:
            self.now = max(self.now, (decision.wake - at(0)).total_seconds())
        return decision.status is not None or bool(decision.actions) or decision.wake is not None


KIND = kind(
    retry={
        "maxRetries": 2,
        "maxTimeouts": 1,
        "maxDisruptions": 2,
        "nonRetriableExitCodes": [9],
        "backoff": {"initialSeconds": 1},
    },
    retention={"historyLimit": 3},
)


@given(
    fates=st.lists(st.tuples(st.sampled_from(FATES), st.floats(0.1, 100)), min_size=12, max_size=12),
    lost=st.lists(st.booleans(), min_size=8, max_size=8),
    cancel_at=st.none() | st.integers(0, 8),
)
def test_a_task_ends_once_within_its_budgets(
    fates: list[tuple[str, float]], lost: list[bool], cancel_at: int | None
) -> None:
    world = World(task())
    fortune = iter(fates)
    tally = dict.fromkeys(FATES, 0)
    losses = iter(lost)
    for round_number in range(400):
        if cancel_at == round_number:
            world.task = world.task.model_copy(
                update={"spec": world.task.spec.model_copy(update={"cancel": True})}
            )
        moved = world.step(next(losses, False))
        assert len(world.live()) <= 1
        living = world.live()
        if living and (not moved or round_number % 3 == 2):
            fate, lasts = next(fortune)
            world.now += lasts
            tally[fate] += 1
            world.end(living[0], fate)
        elif not moved and world.task.status.phase.terminal:
            break
    status = world.task.status
    assert status.phase.terminal, "the task never ended"
    assert world.started == list(range(1, len(world.started) + 1)), "attempts are numbered without a gap"
    assert tally["failure"] + tally["vanished"] <= 3
    assert tally["timeout"] <= 2
    assert tally["eviction"] <= 3
    assert tally["final failure"] <= 1
    if tally["success"]:
        assert status.phase is Phase.SUCCEEDED
    if cancel_at is None and status.phase is Phase.FAILED:
        used = {
            "MaxRetriesExceeded": tally["failure"] + tally["vanished"] == 3,
            "MaxTimeoutsExceeded": tally["timeout"] == 2,
            "MaxDisruptionsExceeded": tally["eviction"] == 3,
            "NonRetriableExitCode": tally["final failure"] == 1,
        }
        assert used[status.reason], f"{status.reason} does not fit {tally}"
    assert (status.failures or 0) == sum(
        tally[f] for f in ("failure", "vanished", "final failure")
    ) or cancel_at is not None
    assert all(a.proof_of_death for a in status.attempts if a.outcome), (
        "an ended attempt has a proof of death"
    )
    assert all(a.outcome is not Outcome.SUCCEEDED for a in status.attempts[:-1])


@given(
    fates=st.lists(st.sampled_from([*FATES, "lost"]), min_size=12, max_size=12),
    restarts=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_an_operator_that_forgets_never_starts_a_second_attempt_on_a_guess(
    fates: list[str], restarts: list[bool]
) -> None:
    """At a restart what the API server no longer has is gone: the Jobs and pods that were deleted."""
    world = World(task())
    fortune = iter(fates)
    for restart in restarts:
        if restart:
            for uid in world.gone:
                world.jobs.pop(uid, None)
                world.pods.pop(f"pod-{uid}", None)
            world.gone.clear()
            world.looked.clear()
        moved = world.step(loses_write=False)
        living = world.live()
        if living and not moved:
            world.now += 10
            world.step(loses_write=False)
            fate = next(fortune)
            if fate == "lost":  # the Job and its pod are deleted, and the process may live on
                world.gone.add(living[0].uid)
            else:
                world.end(living[0], fate)
    lost = [a for a in world.task.status.attempts if a.outcome is not None and a.proof_of_death is None]
    assert lost == []
    assert len(world.started) == len(set(world.started))
