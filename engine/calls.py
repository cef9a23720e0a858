"""What becomes of a call: asked for, tried again, its time up, its answer lost. Knows nothing of other kinds of steps.

A `write` whose answer was lost is never repeated blindly: its probe finds out what became of it, else a person.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta

from engine import model as m
from engine.contract import Effect as OperationEffect
from engine.contract import Operation
from engine.effects import SECURED, Abandon, Done, Failed, Fired, Invoke, Outcome, Record, Timer
from engine.propagation import Propagation
from engine.state import Frame, Node
from engine.types import JSON

LONGEST_WAIT = 30 * 86400.0  # seconds; who is told to come back later than this gives up
PROBE = "?probe"  # ends the path of a probe: its answer is not to be taken for the write's
ALERT = "!"  # begins the name of the call that tells a person


class Calls(Propagation):
    """The calls of one run. A subclass renders their inputs and tells whom they concern."""

    @abstractmethod
    def _inputs(self, node: Node) -> Mapping[str, JSON]:
        """A call's rendered inputs. Raises DataError."""

    @abstractmethod
    def _alert(self, node: Node, error: Mapping[str, JSON]) -> None:
        """Tells that a step waits for a person."""

    def tell(self, outcome: Outcome, now: datetime) -> None:
        """Takes in what came of an effect. What is no longer waited for is noted as late, and changes nothing."""
        self.now = now
        if isinstance(outcome, Fired):
            self._fired(outcome.key)
            return
        path, probe = outcome.path.removesuffix(PROBE), outcome.path.endswith(PROBE)
        node = self._active.get(path)
        if node is None or node.attempt != outcome.attempt or node.state != ("probing" if probe else "running"):
            late = outcome.body if isinstance(outcome, Done) else None
            self._records.append(Record(path=path, attempt=outcome.attempt, status="late", output=late, ended=self.now))
        elif isinstance(outcome, Failed):
            self._failed(node, outcome)
        elif node.state == "probing" and outcome.body is None:
            self._not_done(node)
        else:
            o, summary = outcome, outcome.summary
            if node.lost and not o.changed and not probe:
                summary += " (by an earlier try, whose answer was lost)"
            changed = o.changed or node.lost
            self._settle(node, "succeeded", body=o.body, outputs=o.outputs, changed=changed, summary=summary)

    def settled(self, key: str) -> bool:
        """Whether a timer's key means nothing any more: its step has ended or is past that point."""
        path, _, what = key.rpartition("!")
        node = self._active.get(path)
        states = {"retry": ("retry", "probe_retry"), "wait": ("wait",)}.get(what)
        return node is None or (states is not None and node.state not in states)

    def _invoke(self, node: Node) -> None:
        self._await(node, "running")
        if node.effect == "write":
            self._note(node, "started")
        self._ask(node, _target(node)[1], node.effect, node.deadline)

    def _ask(self, node: Node, operation: str, effect: OperationEffect, deadline: datetime | None) -> None:
        path = node.path + (PROBE if node.state == "probing" else "")
        connection, _ = _target(node)
        self._effects.append(
            Invoke(path, node.attempt, connection, operation, node.inputs, effect, deadline, self._key(node))
        )

    def _await(self, node: Node, state: str) -> None:
        """The step now waits for an answer, a timer or a person."""
        node.state = state
        self._active[node.path] = node

    def _key(self, node: Node) -> str:
        return f"{self.start.run}/{node.path}"

    def _failed(self, node: Node, outcome: Failed) -> None:
        """Sorts a call's failure: repeat, ask what became of it, or end the step."""
        error = {"step": node.path, **outcome.error}
        probing = node.state == "probing"
        node.lost = node.lost or (outcome.answer_lost and node.effect != "read" and not probing)
        lost = outcome.answer_lost and node.effect == "write" and not probing
        if error["kind"] == "uncertain" or lost:
            self._uncertain(node, error)
        elif error["kind"] == "transient" and self._retry_later(node, error, outcome.retry_after):
            return
        elif probing:
            self._ask_person(node, error)
        else:
            self._fail(node, outcome.error, outputs=outcome.outputs)

    def _retry_later(self, node: Node, error: Mapping[str, JSON], retry_after: float | None) -> bool:
        """Plans the next try: exponential with full jitter, not before Retry-After, within the step's time."""
        policy = _policy(node)
        tries = node.tries if node.state == "running" else node.probes
        if tries > policy.count:
            return False
        cap = m.seconds(policy.interval)
        if policy.kind == "exponential":
            cap = min(cap * 2 ** (tries - 1), m.seconds(policy.max_interval))
            cap = random.Random(f"{self._key(node)}/{node.attempt}/{tries}").uniform(0, cap)  # noqa: S311 - jitter
        wait = max(cap, retry_after or 0)
        if wait > LONGEST_WAIT:
            return False
        at = self.now + timedelta(seconds=wait)
        if node.state == "running":
            if node.deadline is not None and at >= node.deadline:
                return False
            self._note(node, "retrying", error=error)
        node.state = "retry" if node.state == "running" else "probe_retry"
        self._effects.append(Timer(f"{node.path}!retry", at))
        return True

    def _not_done(self, node: Node) -> None:
        """The probe says that the write didn't happen."""
        policy = _policy(node)
        if node.deadline is not None and self.now >= node.deadline:
            self._settle(node, "timed_out", error=node.error)
        elif node.frame.dead or node.tries > policy.count:
            self._settle(node, "failed", error=node.error)
        else:
            self._again(node)

    def _again(self, node: Node) -> None:
        node.attempt += 1
        node.tries += 1
        self._invoke(node)

    def _uncertain(self, node: Node, error: Mapping[str, JSON]) -> None:
        """A write whose answer was lost: its probe finds out, else a person."""
        probe = _operation(node).probe
        if probe is None:
            self._ask_person(node, error)
            return
        node.error, node.probes = error, 0
        self._probe(node, probe)

    def _probe(self, node: Node, probe: str) -> None:
        node.probes += 1
        self._await(node, "probing")
        self._ask(node, probe, "read", None)

    def _ask_person(self, node: Node, error: Mapping[str, JSON], *, known: bool = False) -> None:
        if node.name.startswith(ALERT):  # nobody is told about a message that may have got lost
            self._settle(node, "failed", error=error)
            return
        self._await(node, "person")
        self.waiting[node.path] = error = {**error, "kind": "uncertain"}
        if not known:
            self._note(node, "uncertain", error=error)
        self._alert(node, error)

    def _revive(self, node: Node, record: Record) -> None:
        """A write that an earlier process had sent, or was about to send, without a recorded end."""
        node.inputs, node.effect = record.inputs, "write"
        node.attempt = record.attempt
        if record.inputs == SECURED:
            node.inputs = self._inputs(node)
        lost = {"step": node.path, "kind": "uncertain", "code": "Interrupted",
                "message": "the process ended before the answer was recorded"}  # fmt: skip
        if record.status == "uncertain":
            self._ask_person(node, record.error or lost, known=True)
        else:
            self._uncertain(node, lost)

    def _fired(self, key: str) -> None:
        path, _, what = key.rpartition("!")
        node = self._active.get(path)
        if node is None:
            return
        if what == "retry" and node.state == "retry":
            self._again(node)
        elif what == "retry" and node.state == "probe_retry":
            self._probe(node, _operation(node).probe or "")
        elif what == "wait" and node.state == "wait":
            self._settle(node, "succeeded", summary="waited")
        elif what == "timeout":
            self._time_out(node)

    def _time_out(self, node: Node) -> None:
        error = {"step": node.path, "kind": "transient", "code": "Timeout",
                 "message": f"not done within {node.step.timeout}"}  # fmt: skip
        node.error = error
        if self._uncertain_now(node):
            return
        if node.state == "running":
            self._effects.append(Abandon(node.path))
        self._end_early(node, "timed_out", error)

    def _end_early(self, node: Node, status: str, error: Mapping[str, JSON] | None, body: JSON = None) -> None:
        """Ends a step with all that is in it, at the latest when every write in it is certain."""
        if [frame for frame in node.inner if not self._cancel(frame)]:
            node.verdict = (status, error, body)
        else:
            self._settle(node, status, body=body, error=error, record=node.ended is None)

    def _uncertain_now(self, node: Node) -> bool:
        if node.state == "running" and node.effect == "write":
            self._effects.append(Abandon(node.path))
            lost = {"step": node.path, "kind": "uncertain", "code": "Abandoned",
                    "message": "no answer was awaited any longer"}  # fmt: skip
            self._uncertain(node, node.error or lost)
        return node.state in ("probing", "probe_retry", "person")

    def _resolved(self, frame: Frame) -> None:
        owner = frame.owner
        while owner is not None:
            doubtful = any(n.path.startswith((f"{owner.path}/", f"{owner.path}[")) for n in self._active.values())
            if owner.verdict is not None and not doubtful:
                status, error, body = owner.verdict
                self._settle(owner, status, body=body, error=error)
                return
            owner = owner.frame.owner

    def _fail(self, node: Node, error: Mapping[str, JSON], status: str = "failed", outputs: JSON = None) -> None:
        self._settle(node, status, error={"step": node.path, **error}, outputs=outputs)


def _target(node: Node) -> tuple[str, str]:
    """Connection and operation of a call."""
    step = node.step
    if isinstance(step, m.Start):
        return "", step.kind
    assert isinstance(step, m.Call)
    return node.program.connections[step.alias], step.operation


def _operation(node: Node) -> Operation:
    assert isinstance(node.step, m.Call)
    return node.program.operations[node.step.call]


def _policy(node: Node) -> m.Retry:
    """The step's own retry, else that of the nearest container around it that has one."""
    around: Node | None = node
    while around is not None:
        if around.step.retry is not None:
            return around.step.retry
        around = around.frame.owner
    return m.Retry()
