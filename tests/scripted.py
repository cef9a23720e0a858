"""A decider driven in memory: scripted answers, virtual time, no threads. What several test modules share.

An outcome of a call is a body (`ok` stands for null), `never`, a kind of error, or an object that says more:
`{body, changed, summary, outputs, after}` or `{fail, code, message, retry_after, lost, after}`. Outcomes stand by the
path of their step, one for each attempt; those of its probe by `probe of path`.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args

from engine import Connector, Kind, Result, operation
from engine.calls import PROBE
from engine.decider import Decider
from engine.effects import SECURED, Abandon, Done, Failed, Fired, Invoke, Program, Record, Start, Timer
from engine.expressions import Function, to_text
from engine.loader import Catalog, load, load_flow
from engine.model import seconds
from engine.types import JSON, Range

FLOWS = Path(__file__).parent / "flows"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FINAL = frozenset({"succeeded", "failed", "skipped", "timed_out", "cancelled"})
KINDS = frozenset(get_args(Kind))
MOST_EFFECTS = 3000  # more than any of these flows needs: a run that goes on is one that never ends


@dataclass(frozen=True)
class Row:
    """What `lookup` finds: a closed type."""

    id: str
    name: str | None = None
    tags: list[str] = field(default_factory=list)


class OpenRow(TypedDict, total=False):
    """What `find` finds: there may be more in it."""

    id: str
    name: str


class Desk(Connector):
    """Operations of every effect. Their answers are scripted, so none has a body."""

    functions = {"twice": lambda text: text * 2}  # noqa: RUF012 - the base class's own form

    @operation(effect="read")
    def read(self, value: Any = None) -> Result[Any]: ...

    @operation(effect="idempotent")
    def keep(self, value: Any = None) -> Result[Any]: ...

    @operation(effect="write", probe="sent")
    def send(self, value: Any = None) -> Result[Any]: ...

    @operation(effect="read")
    def changes(self, cursor: str | None = None) -> Result[Any]: ...

    @operation(effect="read")
    def sent(self, value: Any = None) -> Result[Any]: ...

    @operation(effect="write")
    def mail(self, value: Any = None) -> Result[Any]: ...

    @operation(effect=lambda inputs: "write" if inputs.get("method") == "POST" else "read")
    def request(self, method: str = "GET", value: Any = None) -> Result[Any]: ...

    @operation(effect="read")
    def lookup(
        self, id: str, limit: Annotated[int, Range(1, 10)] = 5, mode: Literal["fast", "slow"] = "fast"
    ) -> Result[Row]: ...

    @operation(effect="read")
    def find(self, id: str) -> Result[OpenRow]: ...


CATALOG = Catalog(
    {
        f.name: f
        for f in (
            Function("concat", lambda *parts: "".join(map(to_text, parts)), 1),
            Function("length", len, 1, 1, signature="length(list)"),
            Function("utcNow", lambda ambient: ambient.now.isoformat(), 0, 0, impure=True),
            Function("guid", lambda ambient: str(ambient.guid()), 0, 0, impure=True),
        )
    },
    {"desk": Desk},
    {file.stem: load(file.read_text("utf-8"), str(file)) for file in sorted((FLOWS / "inner").glob("*.yaml"))},
)


def program(text: str, file: str = "flow.yaml") -> Program:
    """A checked flow; one without a name or connections gets both."""
    if not text.lstrip().startswith(("flow:", "#")):
        text = f"flow: test\nconnections: {{desk: desk}}\n{text}"
    return load_flow(text, file, CATALOG)


@dataclass
class Played:
    """What came of a run. `calls` names each invocation in order: `path`, `path#2` for a repeat, `probe of path`."""

    decider: Decider
    before: list[Record]
    now: datetime = NOON
    calls: list[str] = field(default_factory=list)
    invoked: list[Invoke] = field(default_factory=list)
    timers: list[tuple[str, float]] = field(default_factory=list)  # key and seconds from when it was set
    abandoned: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.decider.status or ("waiting" if self.decider.waiting else "stuck")

    @property
    def last(self) -> dict[str, Record]:
        """The last final record of each step."""
        return {r.path: r for r in [*self.before, *self.records] if r.status in FINAL}

    @property
    def statuses(self) -> dict[str, str]:
        return {path: record.status for path, record in self.last.items()}

    @property
    def bodies(self) -> dict[str, JSON]:
        return {path: record.output for path, record in self.last.items()}

    @property
    def inputs(self) -> dict[str, JSON]:
        """What each step was last called with."""
        return {call.path.removesuffix(PROBE): call.inputs for call in self.invoked}

    @property
    def all_records(self) -> list[Record]:
        return [*self.before, *self.records]

    @property
    def seconds(self) -> float:
        return (self.now - NOON).total_seconds()


def play(
    program: Program,
    calls: Mapping[str, Sequence[JSON]] | None = None,
    *,
    start: Start | None = None,
    recorded: Iterable[Record] = (),
    retry_failed: bool = False,
    arrival: random.Random | None = None,
    now: datetime = NOON,
) -> Played:
    """Runs a flow to its end, or until nothing more can happen.

    Calls without a script succeed with null; the last outcome of a script stands for every further attempt.
    `arrival` lets answers come in another order.
    """
    before = list(recorded)
    decider = Decider(program, start or Start(run="run"), before, retry_failed=retry_failed)
    played = Played(decider, before, now)
    coming: list[tuple[datetime, int, Done | Failed | Fired]] = []
    script = calls or {}
    effects = 0
    while True:
        for effect in decider.ready(played.now):
            effects += 1
            assert effects < MOST_EFFECTS, f"the run never ends: … {played.calls[-6:]}"
            match effect:
                case Invoke():
                    _invoke(effect, program, script, played, coming, effects, arrival)
                case Timer(key, at):
                    played.timers.append((key, (at - played.now).total_seconds()))
                    heapq.heappush(coming, (at, effects, Fired(key)))
                case Abandon(path):
                    played.abandoned.append(path)
        played.records += decider.records()
        if decider.busy:
            continue
        while coming and isinstance(coming[0][2], Fired) and decider.settled(coming[0][2].key):
            heapq.heappop(coming)
        if decider.status is not None or not coming:
            return played
        at, _, outcome = heapq.heappop(coming)
        played.now = max(at, played.now)
        decider.tell(outcome, played.now)
        played.records += decider.records()


def _invoke(
    call: Invoke,
    program: Program,
    script: Mapping[str, Sequence[JSON]],
    played: Played,
    coming: list[Any],
    number: int,
    arrival: random.Random | None,
) -> None:
    path, probe = call.path.removesuffix(PROBE), call.path.endswith(PROBE)
    key = f"probe of {path}" if probe else path
    asked = sum(c.partition("#")[0] == key for c in played.calls)
    played.calls.append(key if probe or call.attempt == 1 else f"{key}#{call.attempt}")
    played.invoked.append(call)
    outcomes = script.get(key, ["ok"])
    outcome = outcomes[min(asked if probe else call.attempt - 1, len(outcomes) - 1)]
    answer = answer_of(outcome, call)
    if answer is None:
        return
    after = seconds(str(outcome["after"])) if isinstance(outcome, dict) and "after" in outcome else 0
    after += arrival.uniform(0, 5) if arrival else 0
    heapq.heappush(coming, (played.now + timedelta(seconds=after), number, answer))


def answer_of(outcome: JSON, call: Invoke) -> Done | Failed | None:
    """The answer that an outcome stands for; None: it never comes."""
    if isinstance(outcome, str) and outcome in KINDS:
        outcome = {"fail": outcome}
    match outcome:
        case "never":
            return None
        case "ok":
            return Done(call.path, call.attempt, None)
        case {"fail": kind, **more}:
            error = {"kind": kind, "code": more.get("code", "Scripted"), "message": more.get("message", "as scripted")}
            return Failed(call.path, call.attempt, error, more.get("retry_after"), bool(more.get("lost")))
        case {"body": body, **more}:
            changed, summary = bool(more.get("changed")), str(more.get("summary", ""))
            return Done(call.path, call.attempt, body, changed, summary, more.get("outputs"))
    return Done(call.path, call.attempt, outcome)


def stored(records: Iterable[Record]) -> list[Record]:
    """Records as a journal without a key gives them back: secure parts are markers."""
    out = []
    for r in records:
        hidden = {name: SECURED for name in ("inputs",) if name in r.secure and r.inputs is not None}
        if "outputs" in r.secure and r.status != "decided":
            hidden |= {name: SECURED for name in ("output", "outputs") if getattr(r, name) is not None}
        out.append(replace(r, **hidden, secure=frozenset()))
    return out
