"""`flowrun plan FLOW`: what a run would change, without changing it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.progress import WORDS
from engine.cli.run import start_options, starts
from engine.cli.wiring import NO, YES, Workspace, load_document, pairs
from engine.local.starts import Flow

if TYPE_CHECKING:
    from engine.contract import Difference
    from engine.planning import Plan

LONGEST = 60  # characters of a value
SIGNS = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red"), "leave": ("=", "bright_black")}


@click.command()
@start_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--markdown", "as_markdown", is_flag=True, help="A table for a pull request or a ticket.")
def plan(
    flow: Path,
    environment: str | None,
    input_: str | None,
    trigger_name: str | None,
    settings: tuple[str, ...],
    connect: tuple[str, ...],
    connections: Path | None,
    as_json: bool,
    as_markdown: bool,
) -> int:
    """Shows what a run of FLOW would change. Reads are performed, nothing is written.

    Exit code: 0 the run would succeed, 1 it would fail.
    """
    from engine.contract import SystemClock
    from engine.local.starts import Connections
    from engine.planning import plan as foresee

    workspace = Workspace.open(flow.parent, connections, environment)
    show = _json if as_json else _markdown if as_markdown else _text
    code = YES
    try:
        loaded = Flow.load(workspace, load_document(flow), pairs(connect, "--connect"))
        parameters = loaded.parameters(pairs(settings, "--set"))
        for trigger in starts(loaded, parameters, trigger_name, input_):
            if not loaded.wanted(trigger, parameters):
                click.echo(f"no run: the `when` of trigger '{trigger['name']}' does not hold", err=True)
                continue
            start = loaded.start("plan", trigger, parameters)
            found = foresee(loaded.program, start, Connections(loaded, lambda _: None), SystemClock())
            for line in show(found, loaded):
                click.echo(workspace.project.mask(line))
            code = max(code, NO if found.status == "failed" else YES)
        return code
    finally:
        workspace.close()


def _text(plan: Plan, flow: Flow) -> Iterator[str]:
    width = max((len(step.path) for step in plan.steps), default=0)
    yield f"plan of {flow.program.flow.flow} · environment {flow.workspace.environment.name} · nothing is written"
    for step in plan.steps:
        said = WORDS.get(step.summary, step.summary)
        yield f"  {step.path:<{width}}  {step.action:<9} {said}".rstrip()
        for difference in step.differences:
            sign, colour = SIGNS[difference.action]
            same = f", {difference.unchanged} unchanged" if difference.unchanged else ""
            yield click.style(f"    {sign} {difference.record}: {difference.action}{same}", fg=colour)
            for field, (now, then) in difference.changes.items():
                was = "" if difference.action == "create" else f"{click.style(_short(now), fg='red')} → "
                yield f"        {field}: {was}{click.style(_short(then), fg='green')}"
        if step.later:
            yield f"      known after the run: {', '.join(step.later)}"
    if plan.error:
        where = f" at {plan.error['step']}" if plan.error.get("step") else ""
        yield click.style(f"the run would fail{where}: {plan.error['message']}", fg="red")
    yield _sum(plan)


def _sum(plan: Plan) -> str:
    counts = {action: sum(d.action == action for d in plan.changes) for action in SIGNS}
    words = [f"{count} to {action}" for action, count in counts.items() if count]
    calls = sum(step.action == "call" for step in plan.steps)
    words += [f"{calls} call{'s' * (calls != 1)} whose effect only the call shows"] if calls else []
    return f"records: {', '.join(words)}" if words else "nothing would change"


def _short(value: Any) -> str:
    from engine.types import UNKNOWN

    if value is None or value is UNKNOWN:
        return "−" if value is None else str(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _json(plan: Plan, flow: Flow) -> Iterator[str]:
    steps = [
        {
            "path": step.path,
            "action": step.action,
            "summary": step.summary,
            "differences": [_difference(d) for d in step.differences],
            "later": list(step.later),
        }
        for step in plan.steps
    ]
    hidden = bool(flow.program.secure.get(""))
    found = {
        "type": "plan",
        "flow": flow.program.flow.flow,
        "environment": flow.workspace.environment.name,
        "status": plan.status,
        "steps": steps,
        "error": plan.error,
        "outputs": None if hidden else plan.outputs,
    }
    yield json.dumps(found, ensure_ascii=False, default=str)


def _difference(difference: Difference) -> dict[str, Any]:
    changes = {field: {"now": now, "then": then} for field, (now, then) in difference.changes.items()}
    return {"record": difference.record, "action": difference.action, "changes": changes,
            "unchanged": difference.unchanged}  # fmt: skip


def _markdown(plan: Plan, flow: Flow) -> Iterator[str]:
    yield f"### Plan of `{flow.program.flow.flow}` ({flow.workspace.environment.name})\n"
    yield "| Step | | Record | Field | Now | Then |\n|---|---|---|---|---|---|"
    for step in plan.steps:
        changes = ((d.record, *change) for d in step.differences for change in d.changes.items())
        rows = [(record, field, _short(now), _short(then)) for record, field, (now, then) in changes]
        rows += [("", field, "", "known after the run") for field in step.later]
        for record, field, now, then in rows or [(step.summary, "", "", "")]:
            cells = (f"`{step.path}`", step.action, record, field, now, then)
            yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    yield f"\n{_sum(plan)}"
