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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from engine import model as m
from engine.contract import Effect as OperationEffect
from engine.contract import Operation
from engine.errors import DataError, FlowrunError
from engine.expressions import Ambient, Expressions, bare, to_text
from engine.types import JSON, type_name

SEMANTICS = 1  # moves when the same records could lead to other decisions
FINAL = frozenset({"succeeded", "failed", "skipped", "timed_out", "cancelled"})
BAD = frozenset({"failed", "timed_out", "cancelled"})
SECURED = "(secure)"  # stands in a record for what is kept out of the journal


@dataclass(frozen=True)
class Program:
    """A checked flow, ready to run.

    `operations` by alias.operation, `secure` says by step which of inputs and outputs stay out of the journal,
    `reads` which steps a step's expressions refer to.
    """

    flow: m.Flow
    expressions: Expressions
    operations: Mapping[str, Operation]
    secure: Mapping[str, frozenset[str]] = field(default_factory=dict)
    reads: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from."""

    run: str
    trigger: Mapping[str, JSON] = field(default_factory=dict)
    parameters: Mapping[str, JSON] = field(default_factory=dict)
    environment: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the journal. `status` is a step's final status, or one of:

    `decided` (a container's branch, count or pass), `started` (a write is about to be sent), `retrying` (a try that
    failed and will be repeated), `uncertain` (waits for a person), `late` (an answer that came after the decision).
    """

    path: str
    attempt: int
    status: str
    kind: str = ""
    inputs: JSON = None
    output: JSON = None
    outputs: JSON = None
    error: Mapping[str, JSON] | None = None
    effect: str = ""
    changed: bool = False
    summary: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    secure: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Invoke:
    """Call an operation. `deadline` ends all tries together; `key` is the same on every repeat."""

    path: str
    attempt: int
    alias: str
    operation: str
    inputs: Mapping[str, JSON]
    effect: OperationEffect
    deadline: datetime | None
    key: str


@dataclass(frozen=True)
class Timer:
    """Tell `Fired(key)` at this time."""

    key: str
    at: datetime


@dataclass(frozen=True)
class Abandon:
    """The call at this path is no longer wanted."""

    path: str


Effect: TypeAlias = Invoke | Timer | Abandon


@dataclass(frozen=True)
class Done:
    """A call's answer."""

    path: str
    attempt: int
    body: JSON
    changed: bool = False
    summary: str = ""
    outputs: JSON = None


@dataclass(frozen=True)
class Failed:
    """A call's failure; `error` holds kind, code, message and hint."""

    path: str
    attempt: int
    error: Mapping[str, JSON]
    retry_after: float | None = None
    answer_lost: bool = False
    outputs: JSON = None


@dataclass(frozen=True)
class Fired:
    """A timer's time has come."""

    key: str


Outcome: TypeAlias = Done | Failed | Fired


def error_of(error: FlowrunError) -> dict[str, JSON]:
    """The JSON of an error as records and steps.NAME.error hold it."""
    out: dict[str, JSON] = {"kind": error.kind, "code": error.code, "message": error.message}
    return {**out, "hint": error.hint} if error.hint else out


class _Names(Mapping[str, Any]):
    """What `steps` shows: this loop pass's results over those of the passes and lists around it."""

    __slots__ = ("outer", "own")

    def __init__(self, outer: _Names | None = None) -> None:
        self.own: dict[str, Any] = {}
        self.outer = outer

    def __getitem__(self, name: str) -> Any:
        names: _Names | None = self
        while names is not None:
            if name in names.own:
                return names.own[name]
            names = names.outer
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        if self.outer is not None:
            yield from self.outer

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Variables(Mapping[str, Any]):
    """The variables. Recorded changes are folded in the order of the journal before the first look at them."""

    def __init__(self, initial: Mapping[str, JSON]) -> None:
        self._values = dict(initial)
        self._private: dict[str, list[Any]] = {}  # lists that nobody else has seen: appended to in place
        self._recorded: list[tuple[int, str, str, JSON]] = []

    def replay(self, order: int, operation: str, name: str, value: JSON) -> None:
        self._recorded.append((order, operation, name, value))

    def _fold(self) -> None:
        recorded, self._recorded = sorted(self._recorded, key=lambda r: r[0]), []
        for _, operation, name, value in recorded:
            self.change(operation, name, value)

    def __getitem__(self, name: str) -> JSON:
        if self._recorded:
            self._fold()
        if name in self._private:
            self._values[name] = self._private.pop(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def change(self, operation: str, name: str, value: JSON) -> None:
        """Raises DataError where the value doesn't fit the variable."""
        if self._recorded:
            self._fold()
        now = self._values.get(name)
        if operation == "set":
            self._private.pop(name, None)
            self._values[name] = value
        elif operation == "increment":
            if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (now or 0, value)):
                raise DataError(f"variable {name}: {type_name(now)} can't be increased by {type_name(value)}")
            self._values[name] = (now or 0) + value
        elif isinstance(now, str):
            self._values[name] = now + to_text(value)
        elif now is None or isinstance(now, list):
            if name not in self._private:
                self._private[name] = list(now or [])
            self._private[name].append(value)
        else:
            raise DataError(f"variable {name}: can't append to {type_name(now)}")


@dataclass(eq=False, slots=True)
class _Frame:
    """One execution of one list of steps."""

    owner: _Node | None
    prefix: str
    names: _Names
    scope: dict[str, Any]
    plan: _Plan
    nodes: dict[str, _Node] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    open: int = 0
    index: int = 0
    settled: bool = False  # its container's recorded success stands, so every record in it stands
    dead: bool = False


@dataclass(eq=False, slots=True)
class _Node:
    """One execution of one step."""

    name: str
    step: m.Step
    path: str
    frame: _Frame
    attempt: int = 1
    tries: int = 1
    status: str | None = None
    code: str = ""
    error: Mapping[str, JSON] | None = None
    started: datetime | None = None
    deadline: datetime | None = None
    inputs: JSON = None
    effect: OperationEffect = "read"
    state: str = ""  # running, probing, retry, person, wait
    fresh: bool = False  # done anew although an earlier attempt had ended it otherwise
    inner: set[_Frame] = field(default_factory=set)
    items: list[JSON] = field(default_factory=list)
    results: list[JSON] = field(default_factory=list)
    next: int = 0
    broken: Mapping[str, JSON] | None = None  # a loop's first error


class _Plan:
    """The order in one list of steps, computed once."""

    def __init__(self, block: Mapping[str, m.Step]) -> None:
        self.block = block
        self.after = m.predecessors(block)
        self.followers: dict[str, list[str]] = {name: [] for name in block}
        for name, preds in self.after.items():
            for pred in preds:
                self.followers[pred].append(name)
        self.leaves = [name for name, followers in self.followers.items() if not followers]


class Decider:
    """One run.

    `recorded` are the records of an earlier process in the order of the journal. With `retry_failed` (the run had
    ended) what did not succeed is done again, with all that runs after it or reads from it; without (the process had
    died) every decision stands. Attributes for the driver: `status` (None while it goes on), `error`, `outputs`,
    `business_key`, `waiting` (paths that wait for a person), `response`, `now` (the last time it was told).
    """

    def __init__(
        self, program: Program, start: Start, recorded: Iterable[Record] = (), *, retry_failed: bool = False
    ) -> None:
        self.program = program
        self.start = start
        self.status: Literal["succeeded", "failed", "cancelled"] | None = None
        self.error: Mapping[str, JSON] | None = None
        self.outputs: dict[str, JSON] = {}
        self.business_key: str | None = None
        self.response: JSON = None
        self.waiting: dict[str, Mapping[str, JSON]] = {}
        self._retry_failed = retry_failed
        self._last: dict[str, tuple[int, Record]] = {}
        self._decisions: dict[str, Record] = {}
        for order, record in enumerate(recorded):
            if record.status == "decided":
                self._decisions[record.path] = record
            elif record.status != "late":
                self._last[record.path] = (order, record)
        self._recorded_names = {path.rpartition("/")[2].partition("[")[0] for path in self._last}
        self.now = datetime.min
        self._replay: deque[tuple[Callable[..., None], Any]] = deque()
        self._agenda: deque[tuple[Callable[..., None], Any]] = deque()
        self._effects: list[Effect] = []
        self._records: list[Record] = []
        self._active: dict[str, _Node] = {}
        self._plans: dict[int, _Plan] = {}
        self._variables = _Variables(program.flow.initial_variables())
        scope = {
            "trigger": start.trigger,
            "parameters": start.parameters,
            "variables": self._variables,
            "run": {"id": start.run, "flow": program.flow.flow, "environment": start.environment},
        }
        self._root = self._open(None, program.flow.steps, "", _Names(), scope)

    def ready(self, now: datetime) -> list[Effect]:
        """What is to be done now: each effect once, in document order."""
        self.now = now
        while self._replay or self._agenda:
            task, argument = (self._replay or self._agenda).popleft()
            task(argument)
        effects, self._effects = self._effects, []
        return effects if self.status is None else []

    def tell(self, outcome: Outcome, now: datetime) -> None:
        """Takes in what came of an effect. What is no longer waited for is noted as late, and changes nothing."""
        self.now = now
        if isinstance(outcome, Fired):
            self._fired(outcome.key)
            return
        node = self._active.get(outcome.path)
        if node is None or node.attempt != outcome.attempt or node.state not in ("running", "probing"):
            late = outcome.body if isinstance(outcome, Done) else None
            self._records.append(
                Record(path=outcome.path, attempt=outcome.attempt, status="late", output=late, ended=now)
            )
        elif isinstance(outcome, Failed):
            self._failed(node, outcome)
        elif node.state == "probing" and outcome.body is None:
            self._again(node)
        else:
            self._settle(
                node,
                "succeeded",
                body=outcome.body,
                outputs=outcome.outputs,
                changed=outcome.changed,
                summary=outcome.summary,
            )

    def records(self) -> list[Record]:
        """The records since the last call, in order."""
        records, self._records = self._records, []
        return records

    def settled(self, key: str) -> bool:
        """Whether a timer's key means nothing any more: its step has ended or is past that point."""
        path, _, what = key.rpartition("!")
        node = self._active.get(path)
        states = {"retry": ("retry", "probe_retry"), "wait": ("wait",)}.get(what)
        return node is None or (states is not None and node.state not in states)

    # Lists of steps

    def _open(
        self,
        owner: _Node | None,
        block: Mapping[str, m.Step],
        prefix: str,
        names: _Names,
        scope: Mapping[str, Any],
        index: int = 0,
    ) -> _Frame:
        plan = self._plans.get(id(block))
        if plan is None:
            plan = self._plans[id(block)] = _Plan(block)
        frame = _Frame(owner, prefix, names, {**scope, "steps": names}, plan, index=index)
        if owner is not None:
            owner.inner.add(frame)
            frame.settled = owner.frame.settled or self._stands(owner)
        frame.open = len(block)
        for name, step in block.items():
            frame.nodes[name] = _Node(name, step, prefix + name, frame)
            frame.pending[name] = len(plan.after[name])
        for name, waits in frame.pending.items():
            if not waits:
                self._enqueue(frame.nodes[name])
        if not block:
            self._agenda.append((self._close, frame))
        return frame

    def _enqueue(self, node: _Node) -> None:
        queue = self._replay if self._kept(node) else self._agenda
        queue.append((self._begin, node))

    def _settle(
        self,
        node: _Node,
        status: str,
        *,
        body: JSON = None,
        outputs: JSON = None,
        error: Mapping[str, JSON] | None = None,
        code: str = "",
        changed: bool = False,
        summary: str = "",
        record: bool = True,
    ) -> None:
        node.status, node.code, node.error, node.state = status, code, error, ""
        self._active.pop(node.path, None)
        node.frame.names.own[node.name] = {"status": status, "body": body, "error": error, "outputs": outputs}
        if record:
            is_variable = isinstance(node.step, m.Set | m.Append | m.Increment)
            self._note(node, status, output=node.inputs if is_variable else body, outputs=outputs, error=error,
                       changed=changed, summary=summary or code)  # fmt: skip
        node.inner, node.items, node.results = set(), [], []
        frame = node.frame
        frame.open -= 1
        for follower in frame.plan.followers[node.name]:
            frame.pending[follower] -= 1
            if not frame.pending[follower] and frame.nodes[follower].status is None:
                self._follow(frame.nodes[follower])
        if not frame.open:
            self._agenda.append((self._close, frame))

    def _note(self, node: _Node, status: str, **more: Any) -> None:
        inputs = node.inputs if isinstance(node.step, m.Call) else None
        self._records.append(
            Record(
                path=node.path,
                attempt=node.attempt,
                status=status,
                kind=node.step.kind,
                inputs=inputs,
                effect=node.effect if isinstance(node.step, m.Call) else "",
                started=node.started or self.now,
                ended=self.now,
                secure=self.program.secure.get(node.name, frozenset()),
                **more,
            )
        )

    def _follow(self, node: _Node) -> None:
        """All its predecessors are final: it runs or is skipped."""
        states = node.frame.nodes
        wanted = node.frame.plan.after[node.name]
        if all(_seen(states[pred]) in statuses for pred, statuses in wanted.items()):
            self._enqueue(node)
        else:
            self._agenda.append((self._skip, node))

    def _skip(self, node: _Node) -> None:
        if node.status is None and not node.frame.dead:
            self._pass_over(node, "RunAfter")

    def _pass_over(self, node: _Node, code: str) -> None:
        for _, block in node.step.blocks():
            self._pass_over_block(node.frame, node.path, block)
        kept = node.path in self._last and self._last[node.path][1].status == "skipped"
        self._settle(node, "skipped", code=code, record=not kept)

    def _pass_over_block(self, frame: _Frame, path: str, block: Mapping[str, m.Step]) -> None:
        for name, step in block.items():
            frame.names.own[name] = {"status": "skipped", "body": None, "error": None, "outputs": None}
            for _, inner in step.blocks():
                self._pass_over_block(frame, path, inner)

    def _close(self, frame: _Frame) -> None:
        """Every step in the list is final."""
        if frame.dead or self.status is not None:
            return
        status, error = self._outcome(frame)
        owner = frame.owner
        if owner is None:
            self._finish("succeeded" if status == "succeeded" else "failed", error)
        elif isinstance(owner.step, m.Foreach):
            self._end_of_item(owner, frame, status, error)
        elif isinstance(owner.step, m.Until):
            self._end_of_pass(owner, frame, status, error)
        else:
            self._complete(owner, status, error=error)

    def _complete(
        self, node: _Node, status: str, *, body: JSON = None, error: Mapping[str, JSON] | None = None
    ) -> None:
        """Ends a container, by a record unless that stands in the journal already."""
        self._settle(node, status, body=body, error=error, record=not self._stands(node))

    def _outcome(self, frame: _Frame) -> tuple[str, Mapping[str, JSON] | None]:
        """The leaf rule: a leaf counts with its own status, a skipped one with its predecessors', walked back."""
        seen: set[str] = set()
        pending = list(frame.plan.leaves)
        failures = set()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            node = frame.nodes[name]
            if node.status in BAD:
                failures.add(name)
            elif node.status == "skipped" and node.code != "ConditionFalse":
                pending += frame.plan.after[name]
        for name, node in frame.nodes.items():
            if name in failures:
                return "failed", node.error or {"step": node.path, "kind": "remote", "code": node.status, "message": ""}
        return "succeeded", None

    # Resume

    def _stands(self, node: _Node) -> bool:
        """Whether a container's recorded success stands."""
        last = self._last.get(node.path)
        return last is not None and last[1].status == "succeeded" and not node.fresh

    def _kept(self, node: _Node) -> bool:
        """Whether what the journal says of this step is taken as it is."""
        last = self._last.get(node.path)
        if last is None:
            return node.path in self._decisions and not self._after_fresh(node)
        record = last[1]
        if record.status not in FINAL:
            return False
        if node.frame.settled:
            return True
        good = record.status == "succeeded" or (record.status == "skipped" and record.summary == "ConditionFalse")
        if self._after_fresh(node) or (self._retry_failed and not good):
            node.fresh = True
            return node.path in self._decisions and not self._after_fresh(node)
        return True

    def _after_fresh(self, node: _Node) -> bool:
        """Whether it runs after, or reads from, a step that was done anew."""
        frame: _Frame | None = node.frame
        reads = self.program.reads.get(node.name, frozenset())
        preds = node.frame.plan.after[node.name]
        while frame is not None:
            if any(
                n.fresh for name, n in frame.nodes.items() if name in reads or (frame is node.frame and name in preds)
            ):
                return True
            frame = frame.owner.frame if frame.owner else None
        return False

    def _reuse(self, node: _Node) -> bool:
        """Takes a recorded end of a step that isn't a container. False: it has to be done."""
        order, record = self._last[node.path]
        if record.output == SECURED and isinstance(node.step, m.Call):
            readers = {name for name, reads in self.program.reads.items() if node.name in reads}
            if readers - self._recorded_names:
                return False  # volatile, and something that has yet to run needs it
        node.attempt = record.attempt
        body = record.output
        if isinstance(node.step, m.Set | m.Append | m.Increment):
            if record.status == "succeeded":
                self._variables.replay(order, node.step.kind, *next(iter(record.output.items())))
            body = None
        elif isinstance(node.step, m.Respond):
            self.response = body
        code = record.summary if record.status == "skipped" else ""
        self._settle(
            node, record.status, body=body, outputs=record.outputs, error=record.error, code=code, record=False
        )
        return True

    # Steps

    def _begin(self, node: _Node) -> None:
        if node.status is not None or node.frame.dead or self.status is not None:
            return
        node.started = self.now
        last = self._last.get(node.path)
        container = any(True for _ in node.step.blocks())
        if last is not None and self._kept(node) and (not container or last[1].status == "skipped"):
            if not isinstance(node.step, m.Terminate) and self._reuse(node):
                return
        elif last is not None:
            node.attempt = last[1].attempt + 1
        try:
            if last is not None and last[1].status in ("started", "uncertain") and not node.fresh:
                self._revive(node, last[1])
            elif node.path not in self._decisions and not self._condition(node, node.step.when, default=True):
                self._settle(node, "skipped", code="ConditionFalse")
            else:
                self._limit_time(node)
                getattr(self, f"_do_{node.step.kind}")(node, node.step)
        except DataError as error:
            self._fail(node, error_of(error))

    def _limit_time(self, node: _Node) -> None:
        if node.step.timeout and node.started:
            node.deadline = node.started + timedelta(seconds=m.seconds(node.step.timeout))
            self._active[node.path] = node
            self._effects.append(Timer(f"{node.path}!timeout", node.deadline))

    def _ambient(self, node: _Node) -> Ambient:
        return Ambient(self.now, f"{self.start.run}/{node.path}/{node.attempt}")

    def _render(self, node: _Node, value: JSON, scope: Mapping[str, Any] | None = None) -> JSON:
        return self.program.expressions.render(value, scope or node.frame.scope, self._ambient(node))

    def _evaluate(self, node: _Node, source: JSON) -> JSON:
        if not isinstance(source, str):
            return self._render(node, source)
        return self.program.expressions.evaluate(bare(source), node.frame.scope, self._ambient(node))

    def _condition(
        self, node: _Node, source: str | bool | None, scope: Mapping[str, Any] | None = None, *, default: bool = False
    ) -> bool:
        if source is None:
            return default
        return self.program.expressions.condition(source, scope or node.frame.scope, self._ambient(node))

    def _fail(self, node: _Node, error: Mapping[str, JSON], status: str = "failed", outputs: JSON = None) -> None:
        self._settle(node, status, error={"step": node.path, **error}, outputs=outputs)

    def _do_call(self, node: _Node, step: m.Call) -> None:
        node.inputs = self._render(node, step.with_)
        node.effect = self.program.operations[step.call].effect_of(node.inputs)
        self._invoke(node, step)

    def _invoke(self, node: _Node, step: m.Call) -> None:
        node.state = "running"
        self._active[node.path] = node
        if node.effect == "write":
            self._note(node, "started")
        self._effects.append(
            Invoke(
                node.path,
                node.attempt,
                step.alias,
                step.operation,
                node.inputs,
                node.effect,
                node.deadline,
                self._key(node),
            )
        )

    def _key(self, node: _Node) -> str:
        return f"{self.start.run}/{node.path}"

    def _failed(self, node: _Node, outcome: Failed) -> None:
        """Sorts a call's failure: repeat, ask what became of it, or end the step."""
        error = {"step": node.path, **outcome.error}
        probing = node.state == "probing"
        lost = outcome.answer_lost and node.effect == "write" and not probing
        if error["kind"] == "uncertain" or lost:
            self._uncertain(node, error)
        elif error["kind"] == "transient" and self._retry_later(node, error, outcome.retry_after):
            return
        elif probing:
            self._ask_person(node, error)
        else:
            self._fail(node, outcome.error, outputs=outcome.outputs)

    def _retry_later(self, node: _Node, error: Mapping[str, JSON], retry_after: float | None) -> bool:
        """Plans the next try: exponential with full jitter, not before Retry-After, within the step's time."""
        policy = node.step.retry or m.Retry()
        if node.tries > policy.count:
            return False
        cap = m.seconds(policy.interval)
        if policy.kind == "exponential":
            cap = min(cap * 2 ** (node.tries - 1), m.seconds(policy.max_interval))
            cap = random.Random(f"{self._key(node)}/{node.attempt}").uniform(0, cap)  # noqa: S311 - jitter
        at = self.now + timedelta(seconds=max(cap, retry_after or 0))
        if node.deadline is not None and at >= node.deadline:
            return False
        if node.state == "running":
            self._note(node, "retrying", error=error)
        node.state = "retry" if node.state == "running" else "probe_retry"
        node.tries += 1
        self._effects.append(Timer(f"{node.path}!retry", at))
        return True

    def _again(self, node: _Node) -> None:
        node.attempt += 1
        self._invoke(node, _call(node))

    def _uncertain(self, node: _Node, error: Mapping[str, JSON]) -> None:
        """A write whose answer was lost: its probe finds out, else a person."""
        probe = self.program.operations[_call(node).call].probe
        if probe is None:
            self._ask_person(node, error)
            return
        node.state, node.tries = "probing", 1
        self._active[node.path] = node
        self._probe(node)

    def _probe(self, node: _Node) -> None:
        step = _call(node)
        probe = self.program.operations[step.call].probe or ""
        self._effects.append(
            Invoke(node.path, node.attempt, step.alias, probe, node.inputs, "read", None, self._key(node))
        )

    def _ask_person(self, node: _Node, error: Mapping[str, JSON]) -> None:
        node.state = "person"
        self._active[node.path] = node
        self.waiting[node.path] = error
        self._note(node, "uncertain", error={**error, "kind": "uncertain"})

    def _revive(self, node: _Node, record: Record) -> None:
        """A write that an earlier process had sent, or was about to send, without a recorded end."""
        node.inputs, node.effect = record.inputs, "write"
        node.attempt = record.attempt
        if record.inputs == SECURED:
            node.inputs = self._render(node, _call(node).with_)
        lost = {"step": node.path, "kind": "uncertain", "code": "Interrupted",
                "message": "the process ended before the answer was recorded"}  # fmt: skip
        if record.status == "uncertain":
            node.state = "person"
            self._active[node.path] = node
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
            node.state = "probing"
            self._probe(node)
        elif what == "wait" and node.state == "wait":
            self._settle(node, "succeeded", summary="waited")
        elif what == "timeout" and node.state != "person":
            self._time_out(node)

    def _time_out(self, node: _Node) -> None:
        error = {"step": node.path, "kind": "transient", "code": "Timeout",
                 "message": f"not done within {node.step.timeout}"}  # fmt: skip
        if node.state == "running" and node.effect == "write":
            self._effects.append(Abandon(node.path))
            self._uncertain(node, error)
            return
        if node.state == "running":
            self._effects.append(Abandon(node.path))
        for frame in list(node.inner):
            self._cancel(frame)
        self._settle(node, "timed_out", error=error)

    def _cancel(self, frame: _Frame) -> None:
        """Ends everything in a list: what runs is cancelled, what hasn't begun is skipped."""
        frame.dead = True
        for node in frame.nodes.values():
            if node.status is not None:
                continue
            for inner in list(node.inner):
                self._cancel(inner)
            begun = node.started is not None
            if node.state in ("running", "probing"):
                self._effects.append(Abandon(node.path))
            self.waiting.pop(node.path, None)
            self._active.pop(node.path, None)
            node.status = "cancelled" if begun else "skipped"
            frame.names.own[node.name] = {"status": node.status, "body": None, "error": None, "outputs": None}
            self._note(node, node.status)

    def _change(self, node: _Node, operation: str, given: Mapping[str, JSON]) -> None:
        ((name, value),) = given.items()
        rendered = self._render(node, value)
        self._variables.change(operation, name, rendered)
        node.inputs = {name: rendered}
        self._settle(node, "succeeded")

    def _do_set(self, node: _Node, step: m.Set) -> None:
        self._change(node, "set", step.set)

    def _do_append(self, node: _Node, step: m.Append) -> None:
        self._change(node, "append", step.append)

    def _do_increment(self, node: _Node, step: m.Increment) -> None:
        self._change(node, "increment", step.increment)

    def _do_compose(self, node: _Node, step: m.Compose) -> None:
        self._settle(node, "succeeded", body=self._render(node, step.compose))

    def _do_parse(self, node: _Node, step: m.Parse) -> None:
        from jsonschema import Draft202012Validator

        value = self._render(node, step.parse)
        fault = next(iter(Draft202012Validator(step.schema).iter_errors(value)), None)
        if fault is not None:
            raise DataError(f"{fault.json_path}: {fault.message}", code="SchemaViolation")
        self._settle(node, "succeeded", body=value)

    def _do_select(self, node: _Node, step: m.Select) -> None:
        out = []
        for index, item in enumerate(self._list(node, step.select, "select")):
            scope = {**node.frame.scope, "item": item, "index": index}
            if self._condition(node, step.where, scope, default=True):
                out.append(self._render(node, step.map, scope))
        self._settle(node, "succeeded", body=out)

    def _list(self, node: _Node, source: JSON, key: str) -> list[JSON]:
        items = self._evaluate(node, source)
        if not isinstance(items, list):
            hint = f"write `{key}: coalesce(…, [])` if it may be null" if items is None else ""
            raise DataError(f"{key} needs a list, found {type_name(items)}", code="NoList", hint=hint)
        return items

    def _do_wait(self, node: _Node, step: m.Wait) -> None:
        given = self._render(node, step.wait)
        if isinstance(given, dict):
            text = str(given.get("until"))
            try:
                at = datetime.fromisoformat(text)
                at = at if at.tzinfo else at.replace(tzinfo=self.now.tzinfo)
            except ValueError as error:
                raise DataError(f"'{text}' is no time", code="Time", hint="write 2026-11-24T12:00:00Z") from error
        else:
            at = self.now + timedelta(seconds=m.seconds(str(given)))
        decision = self._decisions.get(node.path)
        if decision is not None and isinstance(decision.output, dict):
            at = datetime.fromisoformat(decision.output["until"])
        else:
            self._note(node, "decided", output={"until": at.isoformat()})
        node.state = "wait"
        self._active[node.path] = node
        self._effects.append(Timer(f"{node.path}!wait", at))

    def _do_respond(self, node: _Node, step: m.Respond) -> None:
        self.response = self._render(node, step.respond)
        self._settle(node, "succeeded", body=self.response)

    def _do_terminate(self, node: _Node, step: m.Terminate) -> None:
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

    def _decide(self, node: _Node, choose: Callable[[], JSON]) -> JSON:
        """A container's decision: read back from the journal, else made and recorded."""
        recorded = self._decisions.get(node.path)
        if recorded is not None:
            return recorded.output
        decision = choose()
        self._note(node, "decided", output=decision)
        return decision

    def _enter(self, node: _Node, block: Mapping[str, m.Step]) -> None:
        self._active[node.path] = node
        self._open(node, block, f"{node.path}/", node.frame.names, node.frame.scope)

    def _branch(self, node: _Node, chosen: tuple[str, ...]) -> None:
        taken: Mapping[str, m.Step] = {}
        for keys, block in node.step.blocks():
            if keys == chosen:
                taken = block
            else:
                self._pass_over_block(node.frame, node.path, block)
        self._enter(node, taken)

    def _do_if(self, node: _Node, step: m.If) -> None:
        branch = self._decide(node, lambda: {"branch": "then" if self._condition(node, step.if_) else "else"})
        self._branch(node, (branch["branch"],))

    def _do_switch(self, node: _Node, step: m.Switch) -> None:
        chosen = self._decide(node, lambda: {"case": to_text(self._evaluate(node, step.switch))})["case"]
        self._branch(node, ("cases", chosen) if chosen in step.cases else ("default",))

    def _do_steps(self, node: _Node, step: m.Scope) -> None:
        self._enter(node, step.steps)

    def _do_foreach(self, node: _Node, step: m.Foreach) -> None:
        node.items = self._list(node, step.foreach, "foreach")
        digest = hashlib.sha256(json.dumps(node.items, sort_keys=True, default=str).encode()).hexdigest()[:16]
        decision = self._decide(node, lambda: {"count": len(node.items), "digest": digest})
        if decision != {"count": len(node.items), "digest": digest}:
            raise DataError("the list is another than the one that the recorded passes ran over", code="ItemsChanged")
        last = self._last.get(node.path)
        if self._stands(node) and last is not None:
            self._settle(node, "succeeded", body=last[1].output, record=False)
            return
        self._active[node.path] = node
        node.results = [None] * len(node.items)
        for _ in range(min(step.concurrency, len(node.items))):
            self._next_item(node, step)
        if not node.items:
            self._complete(node, "succeeded", body=[] if step.result is not None else None)

    def _next_item(self, node: _Node, step: m.Foreach) -> None:
        index = node.next
        node.next += 1
        scope = {**node.frame.scope, step.as_: node.items[index], "index": index}
        self._open(node, step.steps, f"{node.path}[{index}]/", _Names(node.frame.names), scope, index)

    def _end_of_item(self, node: _Node, frame: _Frame, status: str, error: Mapping[str, JSON] | None) -> None:
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

    def _do_until(self, node: _Node, step: m.Until) -> None:
        last = self._last.get(node.path)
        if self._stands(node) and last is not None:
            self._settle(node, "succeeded", body=last[1].output, record=False)
            return
        self._active[node.path] = node
        self._next_pass(node, step)

    def _next_pass(self, node: _Node, step: m.Until) -> None:
        index = node.next
        node.next += 1
        scope = {**node.frame.scope, "index": index}
        self._open(node, step.steps, f"{node.path}[{index}]/", _Names(node.frame.names), scope, index)

    def _end_of_pass(self, node: _Node, frame: _Frame, status: str, error: Mapping[str, JSON] | None) -> None:
        step = node.step
        assert isinstance(step, m.Until)
        node.inner.discard(frame)
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


def _seen(node: _Node) -> str:
    """A status as run_after sees it: a false `when` counts as succeeded."""
    return "succeeded" if node.code == "ConditionFalse" else str(node.status)


def _call(node: _Node) -> m.Call:
    assert isinstance(node.step, m.Call)
    return node.step
