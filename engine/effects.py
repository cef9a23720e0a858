"""What goes into a decider and comes out of it: program, start, effects, outcomes, records. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from engine import model as m
from engine.contract import Effect as OperationEffect
from engine.contract import Operation
from engine.errors import FlowrunError
from engine.expressions import Expressions
from engine.types import JSON

SEMANTICS = 1  # moves when the same records could lead to other decisions
FINAL = frozenset({"succeeded", "failed", "skipped", "timed_out", "cancelled"})
BAD = frozenset({"failed", "timed_out", "cancelled"})
SECURED = "(secure)"  # stands in a record for what is kept out of the journal


@dataclass(frozen=True)
class Program:
    """A checked flow, ready to run.

    `operations` by alias.operation, `connections` the entry behind each alias; `secure` says by step which of inputs
    and outputs stay out of the journal, `reads` which steps a step's expressions refer to (those of the flow itself
    under the empty name); `flows` are those that it runs or starts, by name.
    """

    flow: m.Flow
    expressions: Expressions
    operations: Mapping[str, Operation]
    secure: Mapping[str, frozenset[str]] = field(default_factory=dict)
    reads: Mapping[str, frozenset[str]] = field(default_factory=dict)
    connections: Mapping[str, str] = field(default_factory=dict)
    flows: Mapping[str, Program] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run starts from. `parameters` are its own flow's, `inner` by flow those of the flows that it runs."""

    run: str
    trigger: Mapping[str, JSON] = field(default_factory=dict)
    parameters: Mapping[str, JSON] = field(default_factory=dict)
    inner: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)
    environment: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the journal. `status` is a step's final status, or one of:

    `decided` (a container's branch, count or pass), `started` (a write is about to be sent), `retrying` (a try that
    failed and will be repeated), `uncertain` (waits for a person), `late` (an answer that came after the decision),
    `resumed` (without a path: a failed run goes on; what did not succeed before this is done again), `conflict`
    (without a path: an event with the run's key came again, and was another).
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
    """Call an operation of a connection (an entry of connections.yaml; none for what flowrun does itself).

    `deadline` ends all tries together; `key` is the same on every repeat.
    """

    path: str
    attempt: int
    connection: str
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
