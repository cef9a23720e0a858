"""How a run is shown: a live tree on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from engine.effects import FINAL, SECURED
from engine.local.driver import Listener

if TYPE_CHECKING:
    from engine.decider import Decider
    from engine.effects import Invoke, Program, Record
    from engine.loader.findings import Place
    from engine.local.journal import Run

MARKS = {"succeeded": "✓", "failed": "✗", "skipped": "–", "timed_out": "⏱", "cancelled": "■", "retrying": "↻",
         "uncertain": "?"}  # fmt: skip
COLOURS = {"succeeded": "green", "failed": "red", "timed_out": "red", "skipped": "bright_black", "retrying": "yellow",
           "uncertain": "yellow", "cancelled": "yellow"}  # fmt: skip
WORDS = {"ConditionFalse": "not needed (when is false)", "RunAfter": "not reached",
         "Cancelled": "ended with what is around it"}  # fmt: skip


class Progress(Listener):
    """Plain lines, one for each step as it ends."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__(self.on_call, self.on_record)
        self.mask = mask
        self.width = 0
        self.changed = 0
        self.started: datetime | None = None
        self.run: Run | None = None

    def begin(self, run: Run, program: Program, *, named: bool) -> None:
        """The first line: which flow, where, and whether anybody chose that."""
        self.run, self.started = run, run.started
        self.width = max((len(name) for name in program.flow.all_steps), default=0)
        why = "" if named else " (none was named)"
        self.line(f"{run.flow} · environment {run.environment}{why} · run {run.id[:8]}")

    def again(self) -> Progress:
        """The same for another run."""
        return type(self)(self.mask)

    def line(self, text: str) -> None:
        click.echo(self.mask(text))

    def on_call(self, call: Invoke) -> None:
        """A call begins."""

    def on_record(self, record: Record) -> None:
        """A step ended, or will be tried again."""
        self.changed += record.changed and record.status == "succeeded"
        if record.kind == "wait" and record.status == "decided":
            until = datetime.fromisoformat(record.output["until"]).astimezone()
            self.line(f"  … {record.path:<{self.width}}  waits until {until:%Y-%m-%d %H:%M:%S}")
        if record.status in MARKS:
            self.line(self.sentence(record))

    def sentence(self, record: Record) -> str:
        depth = record.path.count("/")
        name = " alert: ".join(record.path.rpartition("/")[2].split("!")).strip()
        prefix = record.path.rpartition("/")[0].rpartition("/")[2]
        number = f"[{prefix.rpartition('[')[2]}" if prefix.endswith("]") else ""
        mark = click.style(MARKS[record.status], fg=COLOURS[record.status])
        return (
            f"{'  ' * (depth + 1)}{mark} {name + number:<{self.width}}  {describe(record):<52}  {took(record)}".rstrip()
        )

    def end(self, status: str, decider: Decider, error: Mapping[str, Any] | None, place: Place | None) -> None:
        """The last lines: the outcome, and for one that isn't good what to do."""
        steps = (
            f"{self.changed} step{'s' * (self.changed != 1)} changed something" if self.changed else "nothing changed"
        )
        self.line(f"{click.style(status, fg=COLOURS.get(status, 'yellow'))} in {self.elapsed(decider)}, {steps}")
        if error:
            if place is not None:
                self.line(f"  at {place} (step {error['step']})")
            self.line(f"  {error['kind']} error {error['code']}: {error['message']}")
            if error.get("hint"):
                self.line(f"  fix: {error['hint']}")
        if self.run is not None and status in ("failed", "cancelled"):
            self.line(f"  then: flowrun runs resume {self.run.id[:8]}")
        for path in decider.waiting:
            short = self.run.id[:8] if self.run else ""
            self.line(f"  look whether it happened, then: flowrun runs resolve {short} {path} done|repeat")

    def elapsed(self, decider: Decider) -> str:
        return span((decider.now - self.started).total_seconds()) if self.started else ""


def describe(record: Record) -> str:
    """A record in words."""
    if record.error and record.status != "succeeded":
        return f"{record.error['code']}: {str(record.error['message'])[:200]}"
    return WORDS.get(record.summary, record.summary)


def took(record: Record) -> str:
    if record.started is None or record.ended is None or record.status == "skipped":
        return ""
    return span((record.ended - record.started).total_seconds())


def span(seconds: float) -> str:
    """12 ms, 3.4 s, 2 min 5 s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


class JsonProgress(Progress):
    """One JSON object a line: the run, each step's end, the end."""

    def line(self, text: str) -> None:
        click.echo(self.mask(text), err=True)

    def object(self, **fields: Any) -> None:
        click.echo(self.mask(json.dumps(fields, ensure_ascii=False, default=str)))

    def begin(self, run: Run, program: Program, *, named: bool) -> None:
        self.run, self.started = run, run.started
        self.object(type="run", run=run.id, flow=run.flow, environment=run.environment, named=named, key=run.key)

    def on_record(self, record: Record) -> None:
        if record.status in FINAL or record.status in MARKS:
            self.object(**record_json(record))

    def end(self, status: str, decider: Decider, error: Mapping[str, Any] | None, place: Place | None) -> None:
        id = self.run.id if self.run else ""
        where = str(place) if place else None
        waiting = list(decider.waiting)
        self.object(
            type="end",
            run=id,
            status=status,
            outputs=SECURED if decider.program.secure.get("") else decider.outputs,
            error=error,
            place=where,
            waiting=waiting,
        )


def record_json(record: Record) -> dict[str, Any]:
    """A record as `--json` shows it: `name` is the step's, `path` has the loop passes."""
    milliseconds = None
    if record.started and record.ended:
        milliseconds = round((record.ended - record.started).total_seconds() * 1000, 1)
    return {
        "type": "step",
        "name": record.path.rpartition("/")[2],
        "path": record.path,
        "kind": record.kind,
        "status": record.status,
        "changed": record.changed,
        "summary": describe(record),
        "attempt": record.attempt,
        "milliseconds": milliseconds,
        "error": record.error,
    }


class LiveProgress(Progress):
    """A tree that is redrawn while steps run; what has scrolled past the screen stays as plain lines."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__(mask)
        from rich.live import Live

        self.running: dict[str, str] = {}
        self.live = Live(refresh_per_second=12, transient=True)

    def begin(self, run: Run, program: Program, *, named: bool) -> None:
        super().begin(run, program, named=named)
        self.live.start()

    def line(self, text: str) -> None:
        from rich.text import Text

        if self.live.is_started:
            self.live.console.print(Text.from_ansi(self.mask(text)), soft_wrap=True)
        else:
            super().line(text)

    def on_call(self, call: Invoke) -> None:
        self.running[call.path] = f"{call.connection}.{call.operation}"
        self.draw()

    def on_record(self, record: Record) -> None:
        self.running.pop(record.path, None)
        super().on_record(record)
        self.draw()

    def draw(self) -> None:
        from rich.console import Group
        from rich.spinner import Spinner

        rows = [
            Spinner("dots", f"{path.rpartition('/')[2]:<{self.width}}  {self.mask(what)} …", style="cyan")
            for path, what in list(self.running.items())[:20]
        ]
        self.live.update(Group(*rows))

    def end(self, status: str, decider: Decider, error: Mapping[str, Any] | None, place: Place | None) -> None:
        self.live.stop()
        super().end(status, decider, error, place)


def progress(mask: Callable[[str], str], *, as_json: bool = False) -> Progress:
    """The form that fits: JSON if asked for, live on a terminal, else plain lines."""
    if as_json:
        return JsonProgress(mask)
    return LiveProgress(mask) if sys.stdout.isatty() else Progress(mask)
