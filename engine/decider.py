"""The decider: the state of one run, and what is to be done next. Pure and deterministic.

It never does I/O, reads a clock or throws a die: time comes with each call, chance is derived from the run's id. A
driver asks `ready()` for effects, carries them out, and tells the outcomes. Told the recorded results again, it stands
where it stood, so resume and a distributed driver need nothing of their own. Semantics: Workflow Definition Language
(order, propagation, leaf rule, scopes, loops).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from engine import model as m
from engine.contract import Effect as OperationEffect
from engine.effects import (
    SECURED,
    Abandon,
    Done,
    Failed,
    Fired,
    Invoke,
    Outcome,
    Program,
    Record,
    Start,
    Timer,
    error_of,
)
from engine.errors import ConfigError, DataError
from engine.expressions import Ambient, bare, to_text
from engine.propagation import Propagation, ancestors, good
from engine.state import CHANGES, Frame, Names, Node, Variables
from engine.types import JSON, type_name

LONGEST_WAIT = 30 * 86400.0  # seconds; who is told to come back later than this gives up
PROBE = "?probe"  # ends the path of a probe: its answer is not to be taken for the write's


class Decider(Propagation):
    """One run.

    `recorded` are the records of an earlier process in the order of the journal. With `retry_failed` (the run had
    ended) what did not succeed is done again, with all that runs after it or reads from it; without (the process had
    died) every decision stands. Attributes for the driver: `status` (None while it goes on), `error`, `outputs`,
    `business_key`, `waiting` (paths that wait for a person), `response`, `now` (the last time it was told).
    """

    def __init__(
        self, program: Program, start: Start, recorded: Iterable[Record] = (), *, retry_failed: bool = False
    ) -> None:
        super().__init__(program, start, recorded, retry_failed=retry_failed)
        self.error: Mapping[str, JSON] | None = None
        self.outputs: dict[str, JSON] = {}
        self.business_key: str | None = None
        self.response: JSON = None
        self._variables = Variables(program.flow)
        kinds = {kind.kind for kind in (*CHANGES, m.Respond)}
        ended = sorted(self._last.values(), key=lambda entry: entry[0])
        self._changes = [
            (n, r) for n, r in ended if r.kind in kinds and r.status == "succeeded" and r.output != SECURED
        ]
        self._responded = -1
        scope = {
            "trigger": start.trigger,
            "parameters": start.parameters,
            "variables": self._variables,
            "run": {"id": start.run, "flow": program.flow.flow, "environment": start.environment},
        }
        self._root = self._open(None, program.flow.steps, "", Names(), scope)

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
            self._records.append(Record(path=path, attempt=outcome.attempt, status="late", output=late, ended=now))
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

    def _reuse(self, node: Node, record: Record) -> bool:
        """Takes a recorded end. False: the step has to be done, or a container's steps have to be gone through."""
        container = any(True for _ in node.step.blocks())
        if record.output == SECURED and (isinstance(node.step, CHANGES) or self._needed(node.name, set())):
            node.attempt = record.attempt + 1
            if record.effect == "write":
                hint = "set FLOWRUN_KEY, so that secure outputs can be kept"
                self._fail(node, error_of(ConfigError("its output was not kept, and it can't be repeated", hint=hint)))
            return record.effect == "write"
        node.attempt = record.attempt
        if isinstance(node.step, m.Terminate):
            return False
        entered = container and not isinstance(node.step, m.LOOPS) and record.status not in ("skipped", "cancelled")
        if entered and node.path in self._within:
            node.ended = record
            return False
        self._replay_changes(node.path)
        for _, block in node.step.blocks():
            self._pass_over_block(node.frame, block)
        code = record.summary if record.status == "skipped" else ""
        body = None if isinstance(node.step, CHANGES) else record.output
        self._settle(
            node, record.status, body=body, outputs=record.outputs, error=record.error, code=code, record=False
        )
        return True

    def _replay_changes(self, path: str) -> None:
        """The recorded changes of variables, and the response, by this step or by those in it."""
        for order, record in self._changes:
            if record.path != path and path not in ancestors(record.path):
                continue
            if record.kind != m.Respond.kind:
                self._variables.replay(order, record.kind, *next(iter(record.output.items())))
            elif order > self._responded:
                self._responded, self.response = order, record.output

    def _needed(self, name: str, seen: set[str]) -> bool:
        """Whether something that has yet to be done reads this secure output, directly or through others like it."""
        seen.add(name)
        for reader, reads in self.program.reads.items():
            if name not in reads or reader in seen:
                continue
            records = [r for _, r in self._last.values() if r.path.rpartition("/")[2] == reader]
            if not records or not all(map(good, records)) or any("]/" in r.path for r in records):
                return True
            if any(r.output == SECURED for r in records) and self._needed(reader, seen):
                return True
        return False

    def _variables_at(self, order: int) -> Variables:
        """The variables as they were when the journal had so many records."""
        variables = Variables(self.program.flow)
        for at, record in self._changes:
            if at < order and record.kind != m.Respond.kind:
                variables.change(record.kind, *next(iter(record.output.items())))
        return variables

    # Steps

    def _begin(self, node: Node) -> None:
        if node.status is not None or node.frame.dead or self.status is not None:
            return
        node.started = self.now
        last = self._last.get(node.path)
        if last is not None and self._kept(node) and not node.fresh:
            if self._reuse(node, last[1]):
                return
        elif last is not None:
            node.attempt = last[1].attempt + 1
        try:
            if last is not None and last[1].status in ("started", "uncertain") and not node.fresh:
                self._revive(node, last[1])
            elif not self._begun(node) and not self._condition(node, node.step.when, default=True):
                self._pass_over(node, "ConditionFalse")
            else:
                self._limit_time(node)
                getattr(self, f"_do_{node.step.kind}")(node, node.step)
        except DataError as error:
            self._fail(node, error_of(error))

    def _limit_time(self, node: Node) -> None:
        if node.step.timeout and node.started:
            node.deadline = node.started + timedelta(seconds=m.seconds(node.step.timeout))
            self._active[node.path] = node
            self._effects.append(Timer(f"{node.path}!timeout", node.deadline))

    def _ambient(self, node: Node) -> Ambient:
        return Ambient(self.now, f"{self.start.run}/{node.path}/{node.attempt}")

    def _render(self, node: Node, value: JSON, scope: Mapping[str, Any] | None = None) -> JSON:
        return self.program.expressions.render(value, scope or node.frame.scope, self._ambient(node))

    def _evaluate(self, node: Node, source: JSON, scope: Mapping[str, Any]) -> JSON:
        if not isinstance(source, str):
            return self._render(node, source, scope)
        return self.program.expressions.evaluate(bare(source), scope, self._ambient(node))

    def _condition(
        self, node: Node, source: str | bool | None, scope: Mapping[str, Any] | None = None, *, default: bool = False
    ) -> bool:
        if source is None:
            return default
        return self.program.expressions.condition(source, scope or node.frame.scope, self._ambient(node))

    def _fail(self, node: Node, error: Mapping[str, JSON], status: str = "failed", outputs: JSON = None) -> None:
        self._settle(node, status, error={"step": node.path, **error}, outputs=outputs)

    def _do_call(self, node: Node, step: m.Call) -> None:
        node.inputs = self._render(node, step.with_)
        node.effect = self.program.operations[step.call].effect_of(node.inputs)
        self._invoke(node)

    def _invoke(self, node: Node) -> None:
        self._await(node, "running")
        if node.effect == "write":
            self._note(node, "started")
        self._ask(node, _call(node).operation, node.effect, node.deadline)

    def _ask(self, node: Node, operation: str, effect: OperationEffect, deadline: datetime | None) -> None:
        alias, key = _call(node).alias, self._key(node)
        path = node.path + (PROBE if node.state == "probing" else "")
        self._effects.append(Invoke(path, node.attempt, alias, operation, node.inputs, effect, deadline, key))

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
        policy = node.step.retry or m.Retry()
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
        policy = node.step.retry or m.Retry()
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
        probe = self.program.operations[_call(node).call].probe
        if probe is None:
            self._ask_person(node, error)
            return
        node.error, node.probes = error, 0
        self._probe(node, probe)

    def _probe(self, node: Node, probe: str) -> None:
        node.probes += 1
        self._await(node, "probing")
        self._ask(node, probe, "read", None)

    def _ask_person(self, node: Node, error: Mapping[str, JSON]) -> None:
        self._await(node, "person")
        self.waiting[node.path] = {**error, "kind": "uncertain"}
        self._note(node, "uncertain", error=self.waiting[node.path])

    def _revive(self, node: Node, record: Record) -> None:
        """A write that an earlier process had sent, or was about to send, without a recorded end."""
        node.inputs, node.effect = record.inputs, "write"
        node.attempt = record.attempt
        if record.inputs == SECURED:
            node.inputs = self._render(node, _call(node).with_)
        lost = {"step": node.path, "kind": "uncertain", "code": "Interrupted",
                "message": "the process ended before the answer was recorded"}  # fmt: skip
        if record.status == "uncertain":
            self._await(node, "person")
            self.waiting[node.path] = record.error or lost
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
            self._probe(node, self.program.operations[_call(node).call].probe or "")
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
        if [frame for frame in node.inner if not self._cancel(frame)]:
            node.expired = error
        else:
            self._settle(node, "timed_out", error=error)

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
            if owner.expired is not None and not doubtful:
                self._settle(owner, "timed_out", error=owner.expired)
                return
            owner = owner.frame.owner

    def _change(self, node: Node, operation: str, given: Mapping[str, JSON]) -> None:
        ((name, value),) = given.items()
        rendered = self._render(node, value)
        self._variables.change(operation, name, rendered)
        node.inputs = {name: rendered}
        self._settle(node, "succeeded")

    def _do_set(self, node: Node, step: m.Set) -> None:
        self._change(node, "set", step.set)

    def _do_append(self, node: Node, step: m.Append) -> None:
        self._change(node, "append", step.append)

    def _do_increment(self, node: Node, step: m.Increment) -> None:
        self._change(node, "increment", step.increment)

    def _do_compose(self, node: Node, step: m.Compose) -> None:
        self._settle(node, "succeeded", body=self._render(node, step.compose))

    def _do_parse(self, node: Node, step: m.Parse) -> None:
        from jsonschema import Draft202012Validator
        from referencing.exceptions import Unresolvable

        value = self._render(node, step.parse)
        try:
            fault = next(iter(Draft202012Validator(step.schema).iter_errors(value)), None)
        except Unresolvable as error:
            raise DataError(f"the schema refers to what isn't there: {error}", code="Schema") from error
        if fault is not None:
            raise DataError(f"{fault.json_path}: {fault.message}", code="SchemaViolation")
        self._settle(node, "succeeded", body=value)

    def _do_select(self, node: Node, step: m.Select) -> None:
        out = []
        for index, item in enumerate(self._list(node, step.select, "select")):
            scope = {**node.frame.scope, "item": item, "index": index}
            if self._condition(node, step.where, scope, default=True):
                out.append(self._render(node, step.map, scope))
        self._settle(node, "succeeded", body=out)

    def _list(self, node: Node, source: JSON, key: str) -> list[JSON]:
        scope = node.frame.scope
        if self._decision(node) is not None:  # the list as it was when the loop began
            scope = {**scope, "variables": self._variables_at(self._decisions[node.path][0])}
        items = self._evaluate(node, source, scope)
        if not isinstance(items, list):
            hint = f"write `{key}: coalesce(…, [])` if it may be null" if items is None else ""
            raise DataError(f"{key} needs a list, found {type_name(items)}", code="NoList", hint=hint)
        return items

    def _do_wait(self, node: Node, step: m.Wait) -> None:
        given = step.wait.until if isinstance(step.wait, m.Moment) else step.wait
        text = to_text(self._render(node, given))
        if isinstance(step.wait, m.Moment):
            try:
                at = datetime.fromisoformat(text)
                at = at if at.tzinfo else at.replace(tzinfo=self.now.tzinfo)
            except ValueError as error:
                raise DataError(f"'{text}' is no time", code="Time", hint="write 2026-11-24T12:00:00Z") from error
        else:
            at = self.now + timedelta(seconds=m.seconds(text))
        decision = self._decision(node)
        if decision is not None:
            at = datetime.fromisoformat(decision["until"])
        else:
            self._note(node, "decided", output={"until": at.isoformat()})
        self._await(node, "wait")
        self._effects.append(Timer(f"{node.path}!wait", at))

    def _do_respond(self, node: Node, step: m.Respond) -> None:
        self.response = self._render(node, step.respond)
        self._settle(node, "succeeded", body=self.response)

    def _do_terminate(self, node: Node, step: m.Terminate) -> None:
        error = None
        if step.terminate == "failed":
            fault = (
                {"code": step.error.code, "message": step.error.message}
                if step.error
                else {"code": "Terminated", "message": ""}
            )
            error = {"step": node.path, "kind": "data", **self._render(node, fault)}
        node.inputs = {"terminate": step.terminate}
        last = self._last.get(node.path)
        recorded = last is not None and last[1].status == "succeeded"
        self._settle(node, "succeeded", summary=f"run {step.terminate}", record=not recorded)
        self._cancel(self._root)
        self._finish(step.terminate, error)

    # Containers

    def _closed(self, frame: Frame, status: str, error: Mapping[str, JSON] | None) -> None:
        owner = frame.owner
        if owner is None:
            self._finish("succeeded" if status == "succeeded" else "failed", error)
        elif isinstance(owner.step, m.Foreach):
            self._end_of_item(owner, frame, status, error)
        elif isinstance(owner.step, m.Until):
            self._end_of_pass(owner, frame, status, error)
        else:
            self._complete(owner, status, error=error)

    def _complete(self, node: Node, status: str, *, body: JSON = None, error: Mapping[str, JSON] | None = None) -> None:
        """Ends a container: as the journal says if it does, else by a new record."""
        if node.ended is not None:
            status, body, error = node.ended.status, node.ended.output, node.ended.error
        self._settle(node, status, body=body, error=error, record=node.ended is None)

    def _decide(self, node: Node, choose: Callable[[], JSON]) -> JSON:
        """A container's decision: read back from the journal, else made and recorded."""
        recorded = self._decision(node)
        if recorded is not None:
            return recorded
        decision = choose()
        self._note(node, "decided", output=decision)
        return decision

    def _enter(self, node: Node, block: Mapping[str, m.Step]) -> None:
        self._active[node.path] = node
        self._open(node, block, f"{node.path}/", node.frame.names, node.frame.scope)

    def _branch(self, node: Node, chosen: tuple[str, ...]) -> None:
        taken: Mapping[str, m.Step] = {}
        for keys, block in node.step.blocks():
            if keys == chosen:
                taken = block
            else:
                self._pass_over_block(node.frame, block)
        self._enter(node, taken)

    def _do_if(self, node: Node, step: m.If) -> None:
        branch = self._decide(node, lambda: {"branch": "then" if self._condition(node, step.if_) else "else"})
        self._branch(node, (branch["branch"],))

    def _do_switch(self, node: Node, step: m.Switch) -> None:
        chosen = self._decide(node, lambda: {"case": to_text(self._evaluate(node, step.switch, node.frame.scope))})[
            "case"
        ]
        self._branch(node, ("cases", chosen) if chosen in step.cases else ("default",))

    def _do_steps(self, node: Node, step: m.Scope) -> None:
        self._enter(node, step.steps)

    def _do_foreach(self, node: Node, step: m.Foreach) -> None:
        node.items = self._list(node, step.foreach, "foreach")
        digest = hashlib.sha256(json.dumps(node.items, sort_keys=True, default=str).encode()).hexdigest()[:16]
        decision = self._decide(node, lambda: {"count": len(node.items), "digest": digest})
        if decision != {"count": len(node.items), "digest": digest}:
            raise DataError("the list is another than the one that the recorded passes ran over", code="ItemsChanged")
        self._active[node.path] = node
        node.results = [None] * len(node.items)
        for _ in range(min(step.concurrency, len(node.items))):
            self._next_item(node, step)
        if not node.items:
            self._complete(node, "succeeded", body=[] if step.result is not None else None)

    def _next_item(self, node: Node, step: m.Foreach) -> None:
        index = node.next
        node.next += 1
        scope = {**node.frame.scope, step.as_: node.items[index], "index": index}
        self._open(node, step.steps, f"{node.path}[{index}]/", Names(node.frame.names), scope, index)

    def _end_of_item(self, node: Node, frame: Frame, status: str, error: Mapping[str, JSON] | None) -> None:
        step = node.step
        assert isinstance(step, m.Foreach)
        node.inner.discard(frame)
        if status == "succeeded" and step.result is not None:
            try:
                node.results[frame.index] = self._render(node, step.result, frame.scope)
            except DataError as fault:
                error = {"step": node.path, **error_of(fault)}
        if error is not None and node.broken is None:
            node.broken = error
        if node.next < len(node.items):
            self._next_item(node, step)
        elif not node.inner:
            body = node.results if step.result is not None else None
            self._complete(node, "failed" if node.broken else "succeeded", body=body, error=node.broken)

    def _do_until(self, node: Node, step: m.Until) -> None:
        self._active[node.path] = node
        self._next_pass(node, step)

    def _next_pass(self, node: Node, step: m.Until) -> None:
        index = node.next
        node.next += 1
        if index > ((self._decision(node) or {}).get("pass") or 0):
            self._note(node, "decided", output={"pass": index})
        scope = {**node.frame.scope, "index": index}
        self._open(node, step.steps, f"{node.path}[{index}]/", Names(node.frame.names), scope, index)

    def _end_of_pass(self, node: Node, frame: Frame, status: str, error: Mapping[str, JSON] | None) -> None:
        step = node.step
        assert isinstance(step, m.Until)
        node.inner.discard(frame)
        if node.next <= ((self._decision(node) or {}).get("pass") or 0):
            self._next_pass(node, step)  # that it went on is on record
            return
        try:
            done = self._condition(node, step.until, frame.scope)
            body = self._render(node, step.result, frame.scope) if step.result is not None else None
        except DataError as fault:
            self._fail(node, error_of(fault))
            return
        began = node.started or self.now
        over = node.next >= step.limit.count or self.now - began > timedelta(seconds=m.seconds(step.limit.timeout))
        if done or (over and step.on_limit == "succeed"):
            self._complete(node, status, body=body, error=error)
        elif over:
            limit = f"not true after {node.next} passes"
            self._fail(node, {"kind": "data", "code": "Limit", "message": f"until: {limit}"})
        else:
            self._next_pass(node, step)

    # The end

    def _finish(self, status: Literal["succeeded", "failed", "cancelled"], error: Mapping[str, JSON] | None) -> None:
        flow, scope = self.program.flow, self._root.scope
        ambient = Ambient(self.now, f"{self.start.run}/outputs")
        if flow.business_key:
            try:
                key = self.program.expressions.evaluate(bare(str(flow.business_key)), scope, ambient)
                self.business_key = to_text(key) or None
            except DataError:
                self.business_key = None  # it is for searching only, and may stand on a step that failed
        if status == "succeeded":
            try:
                self.outputs = self.program.expressions.render(flow.outputs, scope, ambient)
            except DataError as fault:
                status, error = "failed", {"step": "outputs", **error_of(fault)}
        self.status, self.error = status, error


def _call(node: Node) -> m.Call:
    assert isinstance(node.step, m.Call)
    return node.step
