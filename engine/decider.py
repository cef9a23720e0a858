"""The decider: the state of one run, and what is to be done next. Pure and deterministic.

It never does I/O, reads a clock or throws a die: time comes with each call, chance is derived from the run's id. A
driver asks `ready()` for effects, carries them out, and tells the outcomes. Told the recorded results again, it stands
where it stood, so resume and a distributed driver need nothing of their own. Semantics: Workflow Definition Language
(order, propagation, leaf rule, scopes, loops).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from engine import model as m
from engine.calls import ALERT, Calls
from engine.effects import SECURED, Program, Record, Start, Timer, error_of
from engine.errors import ConfigError, DataError
from engine.expressions import Ambient, bare, to_text
from engine.propagation import good
from engine.state import CHANGES, Execution, Frame, Names, Node, Variables, ancestors, name_of
from engine.types import JSON, type_name


class Decider(Calls):
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
        kinds = {kind.kind for kind in (*CHANGES, m.Respond)}
        ended = sorted(self._last.values(), key=lambda entry: entry[0])
        self._changes = [
            (n, r) for n, r in ended if r.kind in kinds and r.status == "succeeded" and r.output != SECURED
        ]
        self._alerts: dict[str, Mapping[str, m.Step]] = {}  # kept: a list of steps is known by its identity
        self._ending: tuple[str, Mapping[str, JSON] | None] | None = None  # while an alert is on its way
        self._root = self._execute(program, None, "", start.trigger, start.parameters)

    @property
    def response(self) -> JSON:
        """What a `respond` step of the run's own flow sent, None without one."""
        return self._root.execution.response

    def cancel(self, now: datetime) -> None:
        """Ends the run: what is under way is abandoned, what has not begun never begins."""
        self.now = now
        if self.status is None and self._ending is None:
            self._cancel(self._root)
            self._finish("cancelled", None)

    def _execute(
        self,
        program: Program,
        owner: Node | None,
        prefix: str,
        trigger: Mapping[str, JSON],
        parameters: Mapping[str, JSON],
    ) -> Frame:
        """Begins a flow: the run's own, or one inside of it."""
        secret = owner is not None and "inputs" in owner.secure
        execution = Execution(program, owner, prefix, Variables(program.flow), secret=secret)
        run = {"id": self.start.run, "flow": program.flow.flow, "environment": self.start.environment}
        scope = {"trigger": trigger, "parameters": parameters, "variables": execution.variables, "run": run}
        return self._open(execution, owner, program.flow.steps, prefix, Names(), scope)

    def _reuse(self, node: Node, record: Record) -> bool:
        """Takes a recorded end. False: the step has to be done, or a container's steps have to be gone through."""
        container = isinstance(node.step, m.Run) or any(True for _ in node.step.blocks())
        if record.output == SECURED and (isinstance(node.step, CHANGES) or self._needed(node, node.name, set())):
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
        self._replay_changes(node)
        for _, block in node.step.blocks():
            self._pass_over_block(node.frame, block)
        code = record.summary if record.status == "skipped" else ""
        body = None if isinstance(node.step, CHANGES) else record.output
        self._settle(
            node, record.status, body=body, outputs=record.outputs, error=record.error, code=code, record=False
        )
        return True

    def _replay_changes(self, node: Node) -> None:
        """The recorded changes of variables, and the response, by this step or by those in it."""
        execution = node.frame.execution
        for order, record in self._changes:
            if (record.path != node.path and node.path not in ancestors(record.path)) or not execution.holds(
                record.path
            ):
                continue
            if record.kind != m.Respond.kind:
                execution.variables.replay(order, record.kind, *next(iter(record.output.items())))
            elif order > execution.responded:
                execution.responded, execution.response = order, record.output

    def _needed(self, node: Node, name: str, seen: set[str]) -> bool:
        """Whether something that has yet to be done reads this secure output, directly or through others like it."""
        seen.add(name)
        for reader, reads in node.program.reads.items():
            if name not in reads or reader in seen:
                continue
            own = (r for _, r in self._last.values() if name_of(r.path) == reader)
            records = [r for r in own if node.frame.execution.holds(r.path)]
            if not records or not all(map(good, records)) or any("]/" in r.path for r in records):
                return True
            if any(r.output == SECURED for r in records) and self._needed(node, reader, seen):
                return True
        return False

    def _variables_at(self, execution: Execution, order: int) -> Variables:
        """The variables as they were when the journal had so many records."""
        variables = Variables(execution.program.flow)
        for at, record in self._changes:
            if at < order and record.kind != m.Respond.kind and execution.holds(record.path):
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
        return node.program.expressions.render(value, scope or node.frame.scope, self._ambient(node))

    def _evaluate(self, node: Node, source: JSON, scope: Mapping[str, Any]) -> JSON:
        if not isinstance(source, str):
            return self._render(node, source, scope)
        return node.program.expressions.evaluate(bare(source), scope, self._ambient(node))

    def _condition(
        self, node: Node, source: str | bool | None, scope: Mapping[str, Any] | None = None, *, default: bool = False
    ) -> bool:
        if source is None:
            return default
        return node.program.expressions.condition(source, scope or node.frame.scope, self._ambient(node))

    def _do_call(self, node: Node, step: m.Call) -> None:
        node.inputs = self._inputs(node)
        node.effect = node.program.operations[step.call].effect_of(node.inputs)
        self._invoke(node)

    def _do_start(self, node: Node, step: m.Start) -> None:
        node.inputs = {"flow": step.start, "with": self._render(node, step.with_)}
        node.effect = "idempotent"  # the new run goes by this step's key
        self._invoke(node)

    def _inputs(self, node: Node) -> Mapping[str, JSON]:
        assert isinstance(node.step, m.Call)
        inputs: Mapping[str, JSON] = self._render(node, node.step.with_)
        return inputs

    def _do_run(self, node: Node, step: m.Run) -> None:
        node.inputs = self._render(node, step.with_)
        program = node.program.flows[step.run]
        self._active[node.path] = node
        trigger = m.trigger_of(program.flow, node.inputs)
        self._execute(program, node, f"{node.path}/", trigger, self.start.inner.get(step.run, {}))

    def _answer(
        self, node: Node, execution: Execution, scope: Mapping[str, Any], status: str, error: Mapping[str, JSON] | None
    ) -> tuple[str, Mapping[str, JSON] | None, JSON]:
        """How a `run` step ends when its flow has: status, error, and what it responded, else its outputs."""
        body = execution.response
        if status == "succeeded" and body is None:
            try:
                body = self._outputs(execution.program, scope, node.path)
            except DataError as fault:
                status, error = "failed", {"step": node.path, **error_of(fault)}
        return status, error, body

    def _change(self, node: Node, operation: str, given: Mapping[str, JSON]) -> None:
        ((name, value),) = given.items()
        rendered = self._render(node, value)
        node.frame.execution.variables.change(operation, name, rendered)
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
            scope = {**scope, "variables": self._variables_at(node.frame.execution, self._decisions[node.path][0])}
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
        node.frame.execution.response = self._render(node, step.respond)
        self._settle(node, "succeeded", body=node.frame.execution.response)

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
        owner = node.frame.execution.owner
        if owner is None:
            self._cancel(self._root)
            self._finish(step.terminate, error)
        else:
            execution, scope = node.frame.execution, node.frame.scope
            self._end_early(owner, *self._answer(owner, execution, scope, step.terminate, error))

    # Containers

    def _closed(self, frame: Frame, status: str, error: Mapping[str, JSON] | None) -> None:
        owner = frame.owner
        if self._ending is not None and frame is not self._root:
            self.status, self.error = self._ending  # the alert is through
        elif owner is None:
            if frame is self._root:
                self._finish("succeeded" if status == "succeeded" else "failed", error)
        elif isinstance(owner.step, m.Run):
            status, error, body = self._answer(owner, frame.execution, frame.scope, status, error)
            self._complete(owner, status, body=body, error=error)
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
        self._open(node.frame.execution, node, block, f"{node.path}/", node.frame.names, node.frame.scope)

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
        self._open(
            node.frame.execution, node, step.steps, f"{node.path}[{index}]/", Names(node.frame.names), scope, index
        )

    def _once(self, node: Node, block: Mapping[str, m.Step], scope: Mapping[str, Any], index: int) -> None:
        """One pass of a loop."""
        names = Names(node.frame.names)
        self._open(node.frame.execution, node, block, f"{node.path}[{index}]/", names, scope, index)

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
        self._open(
            node.frame.execution, node, step.steps, f"{node.path}[{index}]/", Names(node.frame.names), scope, index
        )

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

    def _finish(self, status: str, error: Mapping[str, JSON] | None) -> None:
        flow, scope = self.program.flow, self._root.scope
        if flow.business_key:
            try:
                key = self.program.expressions.evaluate(bare(str(flow.business_key)), scope, self._at_the_end(""))
                self.business_key = to_text(key) or None
            except DataError:
                self.business_key = None  # it is for searching only, and may stand on a step that failed
        if status == "succeeded":
            try:
                self.outputs = self._outputs(self.program, scope, "")
            except DataError as fault:
                status, error = "failed", {"step": "outputs", **error_of(fault)}
        if status == "failed" and self._tell_of("failed", "", error):
            self._ending = (status, error)
        else:
            self.status, self.error = status, error

    def _outputs(self, program: Program, scope: Mapping[str, Any], path: str) -> dict[str, JSON]:
        outputs: dict[str, JSON] = program.expressions.render(program.flow.outputs, scope, self._at_the_end(path))
        return outputs

    def _at_the_end(self, path: str) -> Ambient:
        return Ambient(self.now, f"{self.start.run}/{path}/outputs")

    def _alert(self, node: Node, error: Mapping[str, JSON]) -> None:
        self._tell_of("waiting", node.path, error)

    def _tell_of(self, what: Literal["failed", "waiting"], path: str, error: Mapping[str, JSON] | None) -> bool:
        """Begins the call that tells a person, if the flow asks for it. What comes of it changes nothing."""
        alerts = self.program.flow.alerts
        if alerts is None or what not in alerts.on:
            return False
        block = self._alerts.setdefault(what, {ALERT + what: m.Call(call=alerts.to, with_=alerts.with_)})
        scope = {**self._root.scope, "error": error, "run": {**self._root.scope["run"], "status": what}}
        again = f"~{self._redo_before}" if self._redo_before else ""  # a run that fails anew tells so anew
        self._open(self._root.execution, None, block, path + again, self._root.names, scope)
        return True
