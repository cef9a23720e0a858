"""A flow as something to draw: its lists of steps as boxes and arrows, what each says, what became of it in a run."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from engine import model as m
from engine.effects import SECURED, Program
from engine.expressions import ExpressionError, bare, to_text
from engine.views.outcome import Outcome, blocks_of

STATUSES = ("succeeded", "failed", "timed_out", "skipped", "cancelled")
LONGEST = 60  # characters of an expression or text that are shown of it


@dataclass(frozen=True)
class Box:
    """A step. `path` is its place without passes (`each_line/post`), `what` says in one line what it does."""

    path: str
    name: str
    kind: str
    what: str
    title: str = ""
    note: str = ""
    when: str = ""
    blocks: tuple[Block, ...] = ()
    outcome: Outcome | None = None

    @property
    def label(self) -> str:
        return self.title or self.name


@dataclass(frozen=True)
class Arrow:
    """The second step runs after the first; `label` says after which of its statuses, if not plainly succeeded."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class Block:
    """A list of steps. `label` tells the lists of one container apart (`then`, `case New`), empty for an only one."""

    label: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]

    @property
    def first(self) -> tuple[Box, ...]:
        """The steps that wait for none."""
        targets = {arrow.target for arrow in self.arrows}
        return tuple(box for box in self.boxes if box.name not in targets)


@dataclass(frozen=True)
class Source:
    """A trigger. `began` is true for the one that the run was started by, None without a run."""

    name: str
    what: str
    when: str = ""
    began: bool | None = None


@dataclass(frozen=True)
class Drawing:
    """A flow, or one run of it: then a step without an outcome is one that it never came to."""

    name: str
    title: str
    sources: tuple[Source, ...]
    block: Block
    ran: bool = False

    def boxes(self) -> Iterator[Box]:
        """Every step, in the order of the document."""
        pending = list(reversed(self.block.boxes))
        while pending:
            box = pending.pop()
            yield box
            pending += [inner for block in reversed(box.blocks) for inner in reversed(block.boxes)]


def draw(program: Program, outcomes: Mapping[str, Outcome] | None = None, trigger: str | None = None) -> Drawing:
    """What to draw of a flow; with `outcomes` also what became of its steps in a run that `trigger` began."""
    flow = program.flow
    block = _block("", "", flow.steps, program)
    if outcomes is not None:
        block = _told(block, outcomes)
    sources = tuple(
        Source(name, _trigger(given), _short(given.when), None if trigger is None else name == trigger)
        for name, given in flow.triggers.items()
    )
    return Drawing(flow.flow, flow.title or "", sources, block, outcomes is not None)


def _block(label: str, prefix: str, steps: Mapping[str, m.Step], program: Program) -> Block:
    arrows = [
        Arrow(before, name, _statuses(statuses))
        for name, after in m.predecessors(steps).items()
        for before, statuses in after.items()
    ]
    return Block(label, tuple(_box(prefix + name, name, step, program) for name, step in steps.items()), tuple(arrows))


def _box(path: str, name: str, step: m.Step, program: Program) -> Box:
    blocks = tuple(_block(_label(keys), f"{path}/", steps, of) for keys, steps, of in blocks_of(step, program) if steps)
    return Box(
        path,
        name,
        step.kind,
        said(step, secure=name in program.secure),
        step.title or "",
        step.note or "",
        _short(step.when),
        blocks,
    )


def _told(block: Block, outcomes: Mapping[str, Outcome]) -> Block:
    return replace(
        block,
        boxes=tuple(
            replace(box, outcome=outcomes.get(box.path), blocks=tuple(_told(inner, outcomes) for inner in box.blocks))
            for box in block.boxes
        ),
    )


def _label(keys: tuple[str, ...]) -> str:
    """`then`, `else`, `default`; of a switch `case New`; nothing for the only list of a container."""
    if len(keys) > 1:
        return f"case {_short(keys[-1])}"
    return "" if keys in (("steps",), (m.Run.kind,)) else keys[0]


def _statuses(statuses: frozenset[str]) -> str:
    if statuses == {"succeeded"}:
        return ""
    return "any" if statuses >= set(STATUSES) else ", ".join(s for s in STATUSES if s in statuses)


def said(step: m.Step, *, secure: bool = False) -> str:
    """What a step does, in one line: its key and what stands under it, unless that is secure."""
    kind = step.kind
    value = getattr(step, kind, None) if hasattr(step, kind) else getattr(step, f"{kind}_", None)
    match value:
        case _ if isinstance(step, m.Scope):
            return "scope"
        case _ if secure and isinstance(step, m.Compose | m.Parse):
            text = SECURED
        case m.Moment(until=until):
            text = f"until {_short(until)}"
        case dict():
            text = ", ".join(map(str, value))
        case list():
            text = f"a list of {len(value)}"
        case _:
            text = _short(value)
    if isinstance(step, m.Foreach) and step.as_ != "item":
        text += f" as {step.as_}"
    return f"{kind} {_cut(text)}".rstrip()


def _trigger(trigger: m.Trigger) -> str:
    match trigger:
        case m.Webhook(webhook=connection, events=events):
            return _cut(f"webhook {connection}" + (f": {', '.join(events)}" if events else ""))
        case m.Schedule(schedule=table, zone=zone):
            return f"schedule {table} ({zone})"
        case m.Poll(poll=operation, every=every):
            return f"poll {operation} every {every}"
    return "by hand"


def _short(value: object) -> str:
    """An expression without its braces, or a text, cut to what fits in a line."""
    if value is None:
        return ""
    text = to_text(value)
    with suppress(ExpressionError):
        text = bare(text)
    return _cut(" ".join(text.split()))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def printable(text: str) -> str:
    """A text without what no text format can hold: control characters, halves of pairs, what is no character."""
    unfit = ("Cc", "Cs")
    return "".join(c for c in text if c in "\n\t" or (unicodedata.category(c) not in unfit and c not in "\ufffe\uffff"))
