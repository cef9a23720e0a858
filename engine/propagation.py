"""The order of steps: what runs when its predecessors have ended, what is skipped, how a list of steps ends, and what
stands of an earlier process's records. Knows nothing of what a step does.

Semantics: Workflow Definition Language, its runAfter, its leaf rule, its scopes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from engine import model as m
from engine.effects import BAD, FINAL, SECURED, Abandon, Effect, Program, Record, Start
from engine.expressions import Scope
from engine.state import CHANGES, Execution, Frame, Names, Node, Plan, ancestors
from engine.types import JSON

Block: TypeAlias = Mapping[str, m.Step]
MANY = 1000  # records that may wait to be taken: a long loop without calls takes no memory
CANCELLED = "Cancelled"  # the summary of steps that ended because something around them did


class Propagation(ABC):
    """One run's lists of steps. A subclass begins steps (`_begin`) and ends containers (`_closed`)."""

    def __init__(
        self, program: Program, start: Start, recorded: Iterable[Record] = (), *, retry_failed: bool = False
    ) -> None:
        self.program = program
        self.start = start
        self.status: str | None = None
        self.waiting: dict[str, Mapping[str, JSON]] = {}
        recorded = list(recorded)
        # What did not succeed, and is recorded before this, is done again.
        self._redo_before = len(recorded) if retry_failed else 0
        self._last: dict[str, tuple[int, Record]] = {}
        self._decisions: dict[str, tuple[int, Record]] = {}
        self._within: set[str] = set()  # containers that have records of steps in them
        for order, record in enumerate(recorded):
            if record.status == "decided":
                self._decisions[record.path] = (order, record)
            elif record.status == "resumed":
                self._redo_before = order
            elif record.status not in ("late", "conflict"):
                self._last[record.path] = (order, record)
                self._within.update(ancestors(record.path))
        self.now = datetime.min
        self._replay: deque[tuple[Callable[..., None], Any]] = deque()
        self._agenda: deque[tuple[Callable[..., None], Any]] = deque()
        self._effects: list[Effect] = []
        self._records: list[Record] = []
        self._active: dict[str, Node] = {}
        self._plans: dict[int, Plan] = {}

    @abstractmethod
    def _begin(self, node: Node) -> None:
        """Starts a step whose turn it is."""

    @abstractmethod
    def _closed(self, frame: Frame, status: str, error: Mapping[str, JSON] | None) -> None:
        """Every step of a list is final; this is its outcome."""

    def ready(self, now: datetime) -> list[Effect]:
        """What is to be done now: each effect once, in document order.

        Stops where many records have come together; then `busy` is true and there is more at once.
        """
        self.now = now
        while self.busy and len(self._records) < MANY:
            task, argument = (self._replay or self._agenda).popleft()
            task(argument)
        effects, self._effects = self._effects, []
        return effects if self.status is None else [e for e in effects if isinstance(e, Abandon)]

    @property
    def busy(self) -> bool:
        return bool(self._replay or self._agenda)

    def records(self) -> list[Record]:
        """The records since the last call, in order."""
        records, self._records = self._records, []
        return records

    def _open(
        self,
        execution: Execution,
        owner: Node | None,
        block: Block,
        prefix: str,
        names: Names,
        scope: Scope,
        index: int = 0,
    ) -> Frame:
        plan = self._plans.get(id(block))
        if plan is None:
            plan = self._plans[id(block)] = Plan(block)
        frame = Frame(owner, prefix, names, {**scope, "steps": names}, plan, execution, index=index)
        if owner is not None:
            owner.inner.add(frame)
            frame.settled = owner.frame.settled or owner.ended is not None
            frame.dropped = owner.frame.dropped or owner.dropped
        frame.open = len(block)
        for name, step in block.items():
            frame.nodes[name] = Node(name, step, prefix + name, frame)
            frame.pending[name] = len(plan.after[name])
        for name, waits in frame.pending.items():
            if not waits:
                self._enqueue(frame.nodes[name])
        if not block:
            self._agenda.append((self._close, frame))
        return frame

    def _enqueue(self, node: Node) -> None:
        queue = self._replay if self._kept(node) else self._agenda
        queue.append((self._begin, node))

    def _settle(
        self,
        node: Node,
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
        if error is not None and error.get("step") == node.path and node.secure:
            error = {**error, "message": SECURED}  # it may quote what is secure
        node.status, node.code, node.error, node.state = status, code, error, ""
        self._active.pop(node.path, None)
        node.frame.names.own[node.name] = {"status": status, "body": body, "error": error, "outputs": outputs}
        if record:
            is_variable = isinstance(node.step, CHANGES)
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
        if frame.dead:
            self._resolved(frame)

    @abstractmethod
    def _resolved(self, frame: Frame) -> None:
        """A write in a list that was to end has become certain."""

    def _note(self, node: Node, status: str, **more: Any) -> None:
        inputs = None if isinstance(node.step, CHANGES) else node.inputs
        self._records.append(
            Record(
                path=node.path,
                attempt=node.attempt,
                status=status,
                kind=node.step.kind,
                inputs=inputs,
                effect=node.effect if isinstance(node.step, m.Call | m.Start) else "",
                started=node.started or self.now,
                ended=self.now,
                secure=node.secure,
                **more,
            )
        )

    def _follow(self, node: Node) -> None:
        """All its predecessors are final: it runs or is skipped."""
        states = node.frame.nodes
        wanted = node.frame.plan.after[node.name]
        if all(_seen(states[pred]) in statuses for pred, statuses in wanted.items()):
            self._enqueue(node)
        else:
            self._agenda.append((self._skip, node))

    def _skip(self, node: Node) -> None:
        if node.status is None and not node.frame.dead:
            self._pass_over(node, "RunAfter")

    def _pass_over(self, node: Node, code: str) -> None:
        """Skips a step with all that is in it."""
        for _, block in node.step.blocks():
            self._pass_over_block(node.frame, block)
        kept = node.path in self._last and self._last[node.path][1].status == "skipped"
        self._settle(node, "skipped", code=code, record=not kept)

    def _pass_over_block(self, frame: Frame, block: Block) -> None:
        for name, step in block.items():
            frame.names.own[name] = {"status": "skipped", "body": None, "error": None, "outputs": None}
            for _, inner in step.blocks():
                self._pass_over_block(frame, inner)

    def _close(self, frame: Frame) -> None:
        """Every step in the list is final."""
        if frame.dead or self.status is not None:
            return
        self._closed(frame, *self._outcome(frame))

    def _outcome(self, frame: Frame) -> tuple[str, Mapping[str, JSON] | None]:
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

    # What stands of the records of an earlier process

    def _kept(self, node: Node) -> bool:
        """Whether what the journal says of this step is taken as it is, or gone on with (containers)."""
        last = self._last.get(node.path)
        if node.frame.dropped or self._after_fresh(node):
            node.dropped = True
            node.fresh = last is not None and last[1].status in FINAL
            return False
        if last is None:
            return self._begun(node)
        order, record = last
        if record.status not in FINAL:
            return False
        if node.frame.settled:
            return True
        if record.summary == CANCELLED:
            return False  # the process died before the end of what cancelled it was recorded
        if order < self._redo_before and not good(record):
            node.fresh = True
            return self._begun(node)
        return True

    def _begun(self, node: Node) -> bool:
        """Whether a container was begun, and what it had decided stands."""
        return not node.dropped and (node.path in self._decisions or node.path in self._within)

    def _decision(self, node: Node) -> JSON:
        """A container's recorded decision that stands, None without one."""
        decision = self._decisions[node.path][1].output if self._begun(node) and node.path in self._decisions else None
        return None if decision == SECURED else decision

    def _after_fresh(self, node: Node) -> bool:
        """Whether it runs after, or reads from, a step that was done anew."""
        frame: Frame | None = node.frame
        reads = node.program.reads.get(node.name, frozenset())
        preds = node.frame.plan.after[node.name]
        while frame is not None:
            if any(
                n.fresh for name, n in frame.nodes.items() if name in reads or (frame is node.frame and name in preds)
            ):
                return True
            owner = frame.owner
            frame = owner.frame if owner is not None and owner.frame.execution is frame.execution else None
        return False

    def _cancel(self, frame: Frame) -> bool:
        """Ends everything in a list: what runs is cancelled, what hasn't begun is skipped.

        False if there is a write in it that may or may not have been done: that goes on until it is known.
        """
        frame.dead = True
        whole = True
        for node in frame.nodes.values():
            if node.status is not None:
                continue
            doubtful = [inner for inner in node.inner if not self._cancel(inner)]
            if doubtful or self._uncertain_now(node):
                whole = False
                continue
            if node.state == "running":
                self._effects.append(Abandon(node.path))
            self._active.pop(node.path, None)
            node.status = "skipped" if node.started is None else "cancelled"
            frame.names.own[node.name] = {"status": node.status, "body": None, "error": None, "outputs": None}
            for _, block in node.step.blocks() if node.started is None else ():
                self._pass_over_block(frame, block)
            self._note(node, node.status, summary=CANCELLED)
        return whole

    @abstractmethod
    def _uncertain_now(self, node: Node) -> bool:
        """Whether a step is a write that may or may not have been done; sees to it that it is found out."""


def good(record: Record) -> bool:
    """Whether a record is one that a resume of a failed run keeps."""
    return record.status == "succeeded" or (record.status == "skipped" and record.summary == "ConditionFalse")


def _seen(node: Node) -> str:
    """A status as run_after sees it: a false `when` counts as succeeded."""
    return "succeeded" if node.code == "ConditionFalse" else str(node.status)
