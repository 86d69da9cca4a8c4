"""Chooses what happens next, and checks what must never happen."""

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, Phase
from asyncflow.api.meta import is_true
from asyncflow.api.tasktype import TaskType
from asyncflow.core.lifecycle.interventions import confirmation_text
from asyncflow.kube.client import JOBS, LEASES, NODES, PODS, TASKS, TYPES, ApiError, Body
from model.operators import InFlight, SimulatedOperator
from model.world import GRACE, Violation, World, owner_uid
from support.object_store import ENDED

LANDS_WITHIN = timedelta(seconds=500)
"""A request that was held up arrives within so long, or never: less than Jobs of ended tasks are kept."""
LIMIT = 2
BUDGET = {"maxRetries": 2, "maxTimeouts": 1, "maxDisruptions": 2}


def type_body(**spec: Any) -> Body:
    retry = {
        **BUDGET,
        "backoff": {"initialSeconds": 1, "maximumSeconds": 2},
        "snooze": {"delaySeconds": 1, "maxTimes": 2},
        "budget": {"percent": 50, "minimumPerMinute": 30},
    }
    pod = {"terminationGracePeriodSeconds": GRACE, "containers": [{"name": "main", "image": "i"}]}
    return {
        "metadata": {"name": "poll"},
        "spec": {
            "template": {"spec": pod},
            "deadlines": {"attemptSeconds": 60, "pendingSeconds": 60},
            "lease": {"marginSeconds": 10},
            "retry": retry,
            "maxConcurrent": LIMIT,
            **spec,
        },
    }


@dataclass
class Explorer:
    """One history of the cluster, drawn from a seed."""

    seed: int
    spec: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.world = World()
        self.world.create(TYPES, type_body(**self.spec))
        self.operators = [SimulatedOperator(self.world, name) for name in "AB"]
        self.held_up: list[InFlight] = []
        self.deleted: set[str] = set()
        for name, key in (("t1", "k"), ("t2", "k"), ("t3", "")):
            self.create_task(name, key)
        self.made = 3
        # Each history has troubles of its own: all at once would hide each other (swarm testing: Groce and
        # others, ISSTA 2012).
        self.weights = {**WORK, "change_of_leader": 0.3}
        for group in TROUBLE:
            boost = self.random.choice((0, 1, 1, 4))
            for name, weight in group.items():
                share = weight * boost * self.random.choice((0, 1, 1, 2))
                self.weights[name] = max(share, self.weights.get(name, 0))
        self.slow = (self.random.choice((0.0, 0.3, 0.8)), self.random.choice((0.0, 0.0, 0.1)))
        """How often a kubelet pulls an image first, and rejects a pod."""
        self.lag = self.random.choice((0.0, 0.1, 1.0))
        """How much of what happens a standby hears of."""

    def create_task(self, name: str, key: str) -> None:
        spec = {"taskTypeName": "poll", **({"lockKey": key} if key else {})}
        made = self.world.create(TASKS, {"metadata": {"name": name}, "spec": spec})
        self.world.keys[made["metadata"]["uid"]] = key

    # One history

    def run(self, moves: int) -> None:
        """Let so many things happen, then see that all comes to a good end."""
        try:
            for _ in range(moves):
                self.move()
                self.check()
            self.come_to_an_end()
            self.check_the_end()
        except Violation as violation:
            last = "\n".join(self.log[-60:])
            raise Violation(f"seed {self.seed}: {violation}\n{last}") from None

    def move(self) -> None:
        told: Any = False
        while told is False:
            (name,) = self.random.choices(list(self.weights), list(self.weights.values()))
            told = getattr(self, name)()
        self.log.append(f"{self.world.now:%H:%M:%S} {name} {told or ''}")

    def one_of(self, things: Any) -> Any:
        found = sorted(things)
        return self.random.choice(found) if found else None

    # The operators' moves

    @property
    def leader(self) -> SimulatedOperator | None:
        return next((o for o in self.operators if o.leading), None)

    def deliver_some(self) -> Any:
        operator = self.random.choice(self.operators)
        if not operator.leading and self.random.random() > self.lag:
            return False
        for _ in range(self.random.randint(1, 12)):
            operator.deliver()
        return operator.name

    def deliver_to_leader(self) -> Any:
        leader = self.leader
        return leader.name if leader is not None and leader.deliver() else False

    def begin_work(self) -> Any:
        leader = self.leader
        if leader is None or len(leader.running) > 2:
            return False
        leader.ring()
        return leader.name if leader.begin(self.random.randrange(8)) else False

    def answer_request(self) -> Any:
        leader = self.leader
        if leader is None or not leader.running:
            return False
        lost = self.random.random() < 0.05
        requests = [flying.request for flying in leader.running.values()]
        told = [f"{r.verb} {r.resource.plural} {r.name}" for r in requests]
        leader.answer(self.random.randrange(4), lost=lost)
        return f"{leader.name} {told} {'lost' if lost else ''}"

    def governor_looks(self) -> Any:
        leader = self.leader
        return False if leader is None or not leader.govern() else leader.name

    def change_of_leader(self) -> Any:
        leader = self.leader
        if leader is not None:
            self.hold_up(leader.step_down())
            return f"{leader.name} is deposed"
        # The new leader has waited for what was on its way; what a paused machine sends may still come.
        operator = self.random.choice(self.operators)
        operator.take_over()
        return f"{operator.name} leads"

    def operator_dies(self) -> Any:
        number = self.random.randrange(2)
        operator = self.operators[number]
        self.hold_up(operator.die())
        self.operators[number] = SimulatedOperator(self.world, operator.name)
        return operator.name

    def hold_up(self, requests: list[InFlight]) -> None:
        self.held_up += requests

    def held_up_request_arrives(self) -> Any:
        if not self.held_up:
            return False
        flying = self.held_up.pop(self.random.randrange(len(self.held_up)))
        request = flying.request
        if self.world.now > flying.sent + LANDS_WITHIN or self.random.random() < 0.3:
            return f"{request.verb} {request.name} is lost"
        try:
            self.world.api.handle(request)
        except ApiError as error:
            return f"{request.verb} {request.name}: {error.status}"
        return f"{request.verb} {request.name}"

    # Kubernetes' moves

    def job_controller_works(self) -> Any:
        world = self.world
        name = self.one_of([*world.objects[JOBS], *world.objects[PODS]])
        busy = name and (world.job_controller(name) or world.job_controller_without_job(name))
        return name if busy else False

    def scheduler_works(self) -> Any:
        name = self.one_of(self.world.objects[PODS])
        return name if name and self.world.schedule(name, self.random.choice(("n1", "n2"))) else False

    def kubelet_works(self) -> Any:
        name = self.one_of(self.world.objects[PODS])
        code = self.random.choice((None, None, None, None, 0, 1, 1, 75))
        slow, rejects = (self.random.random() < share for share in self.slow)
        busy = name and self.world.kubelet(name, code, slow=slow, rejects=rejects)
        return f"{name} {code}{' slow' if slow else ''}{' rejects' if rejects else ''}" if busy else False

    def kubelet_starts_a_pod_that_is_gone(self) -> Any:
        name = self.one_of(self.world.preparing)
        return name if name and self.world.late_start(name) else False

    def kubelet_cleans_up(self) -> Any:
        return self.world.kubelet_clean_up(self.random.choice(("n1", "n2"))) or False

    def garbage_collector_works(self) -> Any:
        world = self.world
        name = self.one_of([*world.objects[JOBS], *world.objects[PODS]])
        if not name or not (world.garbage_collector(name) or world.garbage_collector_without_job(name)):
            return False
        if name not in world.objects[JOBS]:
            self.forget_creates(name)
        return name

    def forget_creates(self, name: str) -> None:
        """A create that is held up arrives while its Job's name is taken, or never."""
        self.held_up = [
            flying
            for flying in self.held_up
            if (flying.request.verb, flying.request.name) != ("create", name)
        ]

    def pod_garbage_collector_works(self) -> Any:
        name = self.one_of(self.world.objects[PODS])
        return name if name and self.world.pod_garbage_collector(name) else False

    def time_passes(self) -> Any:
        seconds = self.random.choice((1, 1, 2, 5, 5, 20, 70))
        self.world.advance(seconds)
        return f"{seconds} s"

    def much_time_passes(self) -> Any:
        self.world.advance(610)

    # What goes wrong

    def kubelet_dies(self) -> Any:
        name = self.random.choice(("n1", "n2"))
        if name in self.unread_confirmations():
            return False
        self.world.kubelet_is_gone(name)
        return name

    def unread_confirmations(self) -> set[str]:
        """Return the nodes of pods whose early confirmation no operator has rejected yet.

        Were the node lost before, nobody could know that it was early: it has to be true when it is read.
        """
        tasks = {task.metadata.uid: task for task in self.tasks()}
        nodes = set()
        for pod in self.world.objects[PODS].values():
            task = tasks.get(pod["metadata"]["labels"][names.TASK_UID_LABEL])
            text = confirmation_text(task) if task is not None else ""
            if task is not None and text and text != task.status.rejected_confirmation:
                nodes.add(pod["spec"].get("nodeName", ""))
        return nodes

    def node_is_lost(self) -> Any:
        """Cut off a machine that has work to do; to the cluster it is no more, its processes live on."""
        name = self.one_of({process.node for process in self.world.processes.values()})
        if name is None or name in self.unread_confirmations():
            return False
        self.world.kubelet_is_gone(name)
        if name in self.world.objects[NODES]:
            self.world.delete(NODES, name)
        return name

    def kubelet_returns(self) -> Any:
        name = self.random.choice(("n1", "n2"))
        node = self.world.nodes[name]
        if node.kubelet:
            return False
        node.kubelet = True
        self.world.put_node(node)
        return name

    def machine_reboots(self) -> Any:
        name = self.random.choice(("n1", "n2"))
        self.world.reboot(name)
        return name

    def node_object_is_deleted(self) -> Any:
        name = self.random.choice(("n1", "n2"))
        if name not in self.world.objects[NODES] or name in self.unread_confirmations():
            return False
        self.world.delete(NODES, name)
        return name

    # What people do

    def administrator_vouches(self) -> Any:
        """Give a true word: the administrator looks at the machine first."""
        task = self.a_task()
        if task is None or (task.status.lease is None and not task.status.attempts):
            return False
        attempt = task.status.attempts[-1]
        alive = any(
            p.task == task.metadata.uid and p.attempt == attempt.number for p in self.world.processes.values()
        )
        startable = any(
            pod["status"]["phase"] == "Pending" and owner_uid(pod) == attempt.job_uid
            for pod in self.world.objects[PODS].values()
        ) or any(owner_uid(pod) == attempt.job_uid for pod in self.world.preparing.values())
        if alive or startable or attempt.outcome is not None:
            return False
        self.annotate(task, names.CONFIRMED_DEAD_ANNOTATION, f"{attempt.pod_uid or attempt.job_uid} looked")
        return task.metadata.name

    def administrator_confirms_early(self) -> Any:
        """Confirm an attempt of which nothing runs, while its node is ready and may still start it."""
        task = self.a_task()
        pod = self.one_of(self.world.preparing)
        if task is None or pod is None:
            return False
        body = self.world.preparing[pod]
        node = body["spec"]["nodeName"]
        ready = self.world.nodes[node].kubelet and node in self.world.objects[NODES]
        existing = self.world.objects[PODS].get(pod)
        if not ready or existing is None or existing["status"]["phase"] in ENDED:
            return False
        if body["metadata"]["labels"][names.TASK_UID_LABEL] != task.metadata.uid:
            return False
        text = f"{body['metadata']['uid']} nothing ever ran {self.world.api.version}"
        self.annotate(task, names.CONFIRMED_DEAD_ANNOTATION, text)
        return task.metadata.name

    def person_decides(self) -> Any:
        task = self.a_task()
        if task is None or not is_true(task.status.conditions, "DecisionRequired"):
            return False
        verdict = self.random.choice(("retry", "fail", "succeed"))
        self.annotate(task, names.DECISION_ANNOTATION, f"{verdict} {task.status.attempts[-1].job_uid}")
        return f"{task.metadata.name} {verdict}"

    def person_asks_for_a_retry(self) -> Any:
        task = self.a_task()
        if task is None or (task.status.run or 1) > 1:
            return False
        self.annotate(task, names.RETRY_NOW_ANNOTATION, f"{self.world.api.version}")
        return task.metadata.name

    def user_cancels(self) -> Any:
        return self.set_spec("cancel", True)

    def user_suspends(self) -> Any:
        return self.set_spec("suspend", True)

    def user_resumes(self) -> Any:
        return self.set_spec("suspend", False)

    def user_deletes_the_task(self) -> Any:
        task = self.a_task()
        if task is None or self.made > 5:
            return False
        key = task.spec.lock_key or ""
        self.deleted.add(task.metadata.uid)
        self.world.delete(TASKS, task.metadata.name)
        self.create_task(task.metadata.name, key)
        self.made += 1
        return task.metadata.name

    def user_deletes_the_job(self) -> Any:
        """Delete a Job whose attempt is on record; a create of it that is still on its way is no more."""
        recorded = {a.job_uid for task in self.tasks() for a in task.status.attempts}
        jobs = self.world.objects[JOBS]
        name = self.one_of([name for name, job in jobs.items() if job["metadata"]["uid"] in recorded])
        if name is None:
            return False
        policy = self.random.choice(("Background", None))  # as kubectl does, or as the Job itself says
        self.world.delete(JOBS, name, propagation=policy)
        self.forget_creates(name)
        return name

    def user_deletes_the_pod(self) -> Any:
        name = self.one_of(self.world.objects[PODS])
        if name is None:
            return False
        self.world.delete(PODS, name)
        return name

    def a_task(self) -> AsyncTask | None:
        name = self.one_of(self.world.objects[TASKS])
        return AsyncTask.model_validate(self.world.objects[TASKS][name]) if name else None

    def set_spec(self, name: str, value: bool) -> Any:
        task = self.a_task()
        if task is None:
            return False
        self.world.patch(TASKS, task.metadata.name, spec={name: value})
        return task.metadata.name

    def annotate(self, task: AsyncTask, name: str, value: str) -> None:
        self.world.patch(TASKS, task.metadata.name, metadata={"annotations": {name: value}})

    # What must hold

    def check(self) -> None:
        """See that what is written of tasks is true."""
        for body in self.world.objects[TASKS].values():
            task = AsyncTask.model_validate(body)
            for attempt in task.status.attempts:
                dead = attempt.outcome is not None
                for process in self.world.processes.values():
                    if dead and process.task == task.metadata.uid and process.attempt == attempt.number:
                        raise Violation(f"{attempt} is on record as over, and {process} runs")
                if dead and attempt.proof_of_death is None:
                    raise Violation(f"{attempt} is over without a proof of death")

    # The end

    def come_to_an_end(self) -> None:
        """Let everything work again, and people do what they are asked to, until nothing moves."""
        world = self.world
        for operator in self.operators:
            self.hold_up(operator.step_down() if operator.leading else [])
        while self.held_up:
            self.held_up_request_arrives()
        for name, node in world.nodes.items():
            node.kubelet = True
            if name not in world.objects[NODES]:
                world.put_node(node)
        for name in world.objects[TASKS]:
            world.patch(TASKS, name, spec={"suspend": None})
        standby, leader = self.operators
        leader.take_over()
        for _ in range(60):
            self.settle(leader)
            if all(t.status.phase.terminal for t in self.tasks()) and not self.locks_left():
                break
            for task in self.tasks():
                self.help(task)
            self.free_orphaned_locks()
            world.advance(15)
        # Another one takes over that has heard of nothing since, when the Jobs are gone.
        world.advance(700)
        self.settle(leader)
        leader.step_down()
        standby.take_over()
        self.settle(standby)

    def locks_left(self) -> list[str]:
        """Return who holds a lock; a task that was deleted may, for a person to free it, if nobody waits."""
        holders = [lease["spec"]["holderIdentity"] for lease in self.world.objects[LEASES].values()]
        return [holder for holder in holders if holder.split("/")[0] not in self.deleted]

    def tasks(self) -> list[AsyncTask]:
        return [AsyncTask.model_validate(body) for body in self.world.objects[TASKS].values()]

    def settle(self, leader: SimulatedOperator) -> None:
        """Let every actor work until none has anything to do."""
        world = self.world
        leader.govern()
        for _ in range(2000):
            busy = leader.deliver() or leader.answer(self.random.randrange(4))
            leader.ring()
            busy = leader.begin(0) or busy
            for job in list(world.objects[JOBS]):
                busy = world.job_controller(job) or world.garbage_collector(job) or busy
            for pod in list(world.objects[PODS]):
                busy = world.job_controller_without_job(pod) or busy
                busy = world.garbage_collector_without_job(pod) or busy
                busy = world.pod_garbage_collector(pod) or world.schedule(pod, "n1") or busy
                busy = world.kubelet(pod, 0) or busy
            for pod in list(world.preparing):
                busy = world.late_start(pod) or busy
            for node in world.nodes:
                busy = world.kubelet_clean_up(node) or busy
            if not busy:
                return
        raise Violation("the cluster never comes to rest")

    def help(self, task: AsyncTask) -> None:
        """Do what a task asks a person for."""
        if is_true(task.status.conditions, "Stuck") and task.status.attempts:
            last = task.status.attempts[-1]
            text = f"{last.pod_uid or last.job_uid} checked {self.world.api.version}"
            self.annotate(task, names.CONFIRMED_DEAD_ANNOTATION, text)
        if is_true(task.status.conditions, "DecisionRequired"):
            self.annotate(task, names.DECISION_ANNOTATION, f"retry {task.status.attempts[-1].job_uid}")

    def free_orphaned_locks(self) -> None:
        """Delete the Leases of which tasks say that they are orphaned; nothing of theirs may run."""
        if not any(t.status.reason == "LockOrphaned" for t in self.tasks()):
            return
        for name, lease in list(self.world.objects[LEASES].items()):
            if lease["spec"]["holderIdentity"].split("/")[0] in self.deleted:
                self.world.delete(LEASES, name)

    def check_the_end(self) -> None:
        """See that every task has ended, and that its counts are those of its history."""
        retries = TaskType.model_validate(self.world.objects[TYPES]["poll"]).spec.retry.max_retries
        for task in self.tasks():
            status = task.status
            if not status.phase.terminal:
                raise Violation(f"{task.metadata.name} never ended: {status}")
            run = [a for a in status.attempts if a.run == (status.run or 1)]
            for counter, outcomes in {
                "failures": ("Failed",),
                "disruptions": ("Disrupted",),
                "snoozes": ("Snoozed",),
            }.items():
                told = getattr(status, counter) or 0
                counted = sum(1 for a in run if a.outcome in outcomes)
                if counter == "disruptions":  # and pods that their kubelets rejected
                    counted += sum(1 for a in run if a.outcome == "NotStarted" and a.reason != "NotStarted")
                unknown = sum(1 for a in run if a.outcome == "Unknown")
                if not counted <= told <= counted + (unknown if counter == "failures" else 0):
                    raise Violation(f"{task.metadata.name}: {counter} is {told}, not {counted}: {status}")
            numbers = [a.number for a in status.attempts]
            if numbers != sorted(set(numbers)):
                raise Violation(f"{task.metadata.name}: attempts {numbers}")
            if (
                status.phase is Phase.SUCCEEDED
                and run[-1].outcome != "Succeeded"
                and run[-1].decision is None
            ):
                raise Violation(f"{task.metadata.name} succeeded without a success: {status}")
            if any(a.outcome is None for a in status.attempts):
                raise Violation(f"{task.metadata.name} ended with an open attempt: {status}")
            if (status.failures or 0) > retries + 1 + sum(1 for a in run if a.decision):
                raise Violation(f"{task.metadata.name} was retried beyond its budget: {status}")
        if self.locks_left():
            raise Violation(f"locks are left: {self.locks_left()}")


WORK: dict[str, float] = {
    "deliver_some": 4,
    "deliver_to_leader": 30,
    "begin_work": 40,
    "answer_request": 60,
    "governor_looks": 0.5,
    "job_controller_works": 40,
    "scheduler_works": 40,
    "kubelet_works": 12,
    "kubelet_starts_a_pod_that_is_gone": 2,
    "garbage_collector_works": 10,
    "time_passes": 3,
}
"""What happens where nothing goes wrong, and how often: what can always happen, more seldom."""

TROUBLE: tuple[dict[str, float], ...] = (
    {"change_of_leader": 1, "operator_dies": 0.5, "held_up_request_arrives": 5},
    {
        "kubelet_dies": 0.5,
        "node_is_lost": 1,
        "kubelet_returns": 0.5,
        "kubelet_cleans_up": 2,
        "node_object_is_deleted": 0.5,
        "pod_garbage_collector_works": 20,
        "machine_reboots": 0.3,
        "administrator_vouches": 0.5,
    },
    {"much_time_passes": 0.3, "time_passes": 8},
    {
        "administrator_vouches": 0.5,
        "administrator_confirms_early": 1,
        "person_decides": 1,
        "person_asks_for_a_retry": 0.2,
        "user_cancels": 0.1,
        "user_suspends": 0.2,
        "user_resumes": 0.4,
        "user_deletes_the_task": 0.3,
        "user_deletes_the_job": 0.3,
        "user_deletes_the_pod": 0.3,
    },
)
"""What may go wrong, by whom: of operators, of machines, of time, and what people do."""
