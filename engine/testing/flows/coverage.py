"""Which ways through a flow its tests have taken: steps, branches, conditions, handlers, passes of loops.

Read from what runs recorded, so that it can't differ from what they did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import model as m
from engine.calls import ALERT
from engine.effects import FINAL, Program, Record
from engine.loader import Document
from engine.loader.findings import Place
from engine.state import ancestors, name_of

if TYPE_CHECKING:
    from engine.testing.flows.cases import Outcome

RAN = "ran"
WAS_SKIPPED = "was passed over"


@dataclass(frozen=True)
class Way:
    """One way to take. `step` is empty for the flow's own; `what` is in words: `else`, `when is false`."""

    step: str
    what: str

    def __str__(self) -> str:
        return f"{self.step}: {self.what}" if self.step else self.what


@dataclass
class Coverage:
    """One flow: its ways, in the order of the document, and how often each was taken."""

    document: Document
    program: Program
    taken: dict[Way, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.taken = dict.fromkeys(_ways(self.program.flow), 0)

    @property
    def missed(self) -> list[Way]:
        """In the order of the text."""
        return sorted((way for way, times in self.taken.items() if not times), key=self.place)

    @property
    def percent(self) -> float:
        return 100.0 * (len(self.taken) - len(self.missed)) / len(self.taken)

    def place(self, way: Way) -> Place:
        """Where the step, or the trigger, stands."""
        paths = {name: (*path, name) for path, block in m.walk(self.program.flow) for name in block}
        if way.step in self.program.flow.triggers and way.step not in paths:
            return self.document.place(("triggers", way.step), key=True)
        return self.document.place(paths.get(way.step, ("alerts",)), key=True)

    def add(self, records: list[Record], prefix: str = "") -> None:
        """What a run recorded of this flow; `prefix` begins the paths of its steps where another flow runs it."""
        mine = [(r.path[len(prefix) :], r) for r in records if self._is_mine(r.path, prefix)]
        last = {path: record for path, record in mine if record.status in FINAL}
        decided: dict[str, Any] = {path: record.output for path, record in mine if record.status == "decided"}
        self._take(self._seen(last, decided))

    def _take(self, ways: Iterable[Way]) -> None:
        for way in ways:
            if way in self.taken:
                self.taken[way] += 1

    def add_start(self, trigger: str, *, started: bool) -> None:
        """Whether a trigger with a `when` let a run start."""
        self._take([Way(trigger, f"when is {str(started).lower()}")])

    def _is_mine(self, path: str, prefix: str) -> bool:
        """Whether a step is one of this flow, and not of one that it runs."""
        steps, inner = self.program.flow.all_steps, path[len(prefix) :]
        return path.startswith(prefix) and not any(
            isinstance(steps.get(name), m.Run) for name in map(name_of, ancestors(inner))
        )

    def _seen(self, last: Mapping[str, Record], decided: Mapping[str, Any]) -> Iterator[Way]:
        steps = self.program.flow.all_steps
        for path, record in last.items():
            around, slash, name = path.rpartition("/")
            if ALERT in name:
                yield Way("", f"alert: {name.rpartition(ALERT)[2]}")
                continue
            name = name_of(path)
            step = steps[name]
            if record.status == "skipped" and record.summary == "ConditionFalse":
                yield Way(name, "when is false")
            elif record.status == "skipped" and record.summary == "RunAfter":
                yield Way(name, WAS_SKIPPED)
            elif record.status != "skipped":
                yield Way(name, RAN)
                if step.when is not None:
                    yield Way(name, "when is true")
                yield from _after(step, name, {p: last.get(f"{around}{slash}{p}") for p in _handles(step)})
                yield from _inside(step, name, record, decided.get(path))


def _after(step: m.Step, name: str, before: Mapping[str, Record | None]) -> Iterator[Way]:
    """The ends of others after which a step ran."""
    for predecessor, record in before.items():
        if record is not None:
            status = "succeeded" if record.summary == "ConditionFalse" else record.status
            if status in _handles(step)[predecessor]:
                yield Way(name, f"after {predecessor} {status}")


def _inside(step: m.Step, name: str, record: Record, decided: Any) -> Iterator[Way]:
    """The ways that a container took."""
    match step:
        case m.If() if decided:
            yield Way(name, decided["branch"])
        case m.Switch() if decided:
            yield Way(name, f"case {decided['case']}" if decided["case"] in step.cases else "default")
        case m.Foreach() if decided and isinstance(step.foreach, str):
            yield Way(name, {0: "no item", 1: "one item"}.get(decided["count"], "several items"))
        case m.Until():
            count = (decided or {"pass": 0})["pass"] + 1
            yield Way(name, "one pass" if count == 1 else "several passes")
            gave_up = record.error is not None and record.error.get("code") == "Limit"
            if gave_up or (step.on_limit == "succeed" and count >= step.limit.count):
                yield Way(name, "limit reached")


def _ways(flow: m.Flow) -> Iterator[Way]:
    """Every way through a flow."""
    for name, trigger in flow.triggers.items():
        if trigger.when is not None:
            yield from (Way(name, "when is true"), Way(name, "when is false"))
    for _, block in m.walk(flow):
        for name, step in block.items():
            yield Way(name, RAN)
            if step.when is not None:
                yield from (Way(name, "when is true"), Way(name, "when is false"))
            handled = _handles(step)
            yield from (Way(name, f"after {one} {status}") for one, of in handled.items() for status in of)
            if handled:
                yield Way(name, WAS_SKIPPED)
            match step:
                case m.If():
                    yield from (Way(name, "then"), Way(name, "else"))
                case m.Switch():
                    yield from (Way(name, f"case {text}") for text in step.cases)
                    yield Way(name, "default")
                case m.Foreach() if isinstance(step.foreach, str):
                    yield from (Way(name, what) for what in ("no item", "one item", "several items"))
                case m.Until():
                    yield from (Way(name, what) for what in ("one pass", "several passes", "limit reached"))
    for what in flow.alerts.on if flow.alerts else ():
        yield Way("", f"alert: {what}")


def _handles(step: m.Step) -> dict[str, list[str]]:
    """The ends of other steps that a step is there for: those in run_after, but for success alone and for any end."""
    given = step.run_after
    if not isinstance(given, Mapping):
        return {}
    statuses: dict[str, list[str]] = {name: [of] if isinstance(of, str) else list(of) for name, of in given.items()}
    return {name: of for name, of in statuses.items() if of != ["succeeded"] and "any" not in of}


def coverage_of(outcomes: Iterable[Outcome]) -> list[Coverage]:
    """What cases have taken of the flows that they are of, flow by flow."""
    found: dict[Path, Coverage] = {}
    ran = [(outcome, outcome.program) for outcome in outcomes if outcome.program is not None]
    for outcome, program in ran:
        file = outcome.suite.flow_file
        if file.resolve() not in found:
            found[file.resolve()] = Coverage(outcome.suite.flow_document(), program)
    for outcome, program in ran:
        file = outcome.suite.flow_file.resolve()
        name = outcome.suite.cases[outcome.name].trigger or next(iter(program.flow.triggers), "")
        found[file].add_start(name, started=outcome.started)
        for played in outcome.played:
            add_run(found, file, program, played.records)
    return list(found.values())


def add_run(
    coverages: Mapping[Path, Coverage], file: Path, program: Program, records: list[Record], prefix: str = ""
) -> None:
    """Adds a run to the coverage of its flow, and to those of the flows that it ran."""
    found = coverages.get(file)
    if found is not None:
        found.add(records, prefix)
    steps = program.flow.all_steps
    for path in dict.fromkeys(r.path for r in records if r.status in FINAL and r.path.startswith(prefix)):
        step = steps.get(name_of(path))
        around = (steps.get(name_of(one)) for one in ancestors(path[len(prefix) :]))
        if isinstance(step, m.Run) and not any(isinstance(one, m.Run) for one in around):
            add_run(coverages, file.with_name(f"{step.run}.yaml"), program.flows[step.run], records, f"{path}/")
