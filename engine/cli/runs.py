"""`flowrun runs`: what ran, what waits, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.progress import describe, progress, record_json, took
from engine.cli.run import drive, go_on
from engine.cli.wiring import YES, Workspace, pairs
from engine.effects import SECURED
from engine.errors import ConfigError
from engine.local.starts import Flow

if TYPE_CHECKING:
    from engine.local.journal import Run
    from engine.planning.resumption import Resumption

STATUSES = ("queued", "running", "waiting", "succeeded", "failed", "cancelled", "interrupted")
connections_option = click.option(
    "--connections", type=click.Path(path_type=Path), help="The connections.yaml whose runs are meant."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group()
def runs() -> None:
    """Lists, shows and resumes runs."""


@runs.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only runs with this status.")
@click.option("--flow", help="Only runs of this flow.")
@click.option("--waiting", is_flag=True, help="Only runs that wait, with what for.")
@click.option("--before", type=int, help="Older than the run with this number (paging).")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@connections_option
@json_option
def list_(
    status: str | None,
    flow: str | None,
    waiting: bool,
    before: int | None,
    limit: int,
    connections: Path | None,
    as_json: bool,
) -> int:
    """Runs, newest first."""
    workspace = Workspace.open(Path(), connections)
    status = "waiting" if waiting else status
    for run in workspace.journal.runs(status=status, flow=flow, before=before, limit=limit):
        if as_json:
            click.echo(workspace.project.mask(json.dumps(_run_json(run), ensure_ascii=False)))
        else:
            when = run.started.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            key = " ".join(filter(None, (run.business_key or run.key, waits_for(run))))
            click.echo(
                workspace.project.mask(
                    f"{run.number:>6} {run.id[:8]} {run.status:<11} {when} {run.flow} {key}".rstrip()
                )
            )
    return YES


def waits_for(run: Run) -> str:
    """What a run waits for, in words; empty for one that doesn't."""
    if run.status != "waiting":
        return ""
    if run.wake is not None:
        return f"until {run.wake.astimezone():%Y-%m-%d %H:%M:%S}"
    step = (run.error or {}).get("step")
    return f"for a person: did {step} happen?" if step else "for a person"


def _run_json(run: Run) -> dict[str, Any]:
    shown = ("number", "id", "flow", "environment", "status", "key", "lane", "business_key", "targets", "trigger",
             "error", "outputs", "forked_from")  # fmt: skip
    times = {name: t.isoformat() if (t := getattr(run, name)) else None for name in ("started", "ended")}
    return {"type": "run", **{name: getattr(run, name) for name in shown}, **times}


@runs.command()
@click.argument("run")
@connections_option
@json_option
def show(run: str, connections: Path | None, as_json: bool) -> int:
    """What RUN did, step by step. RUN is the beginning of its id, its number, or `last`."""
    workspace = Workspace.open(Path(), connections)
    found = workspace.journal.run(run)
    mask = workspace.project.mask
    records = workspace.journal.records(found.id)
    if as_json:
        click.echo(mask(json.dumps(_run_json(found), ensure_ascii=False)))
        for record in records:
            inputs = SECURED if "inputs" in record.secure else record.inputs
            output = SECURED if "outputs" in record.secure else record.output
            line = {**record_json(record), "inputs": inputs, "output": output, "effect": record.effect}
            click.echo(mask(json.dumps(line, ensure_ascii=False)))
        return YES
    click.echo(mask(f"{found.flow} · {found.status} · environment {found.environment} · run {found.id}"))
    for record in records:
        click.echo(mask(f"  {record.path:<32} {record.status:<10} {describe(record)}  {took(record)}".rstrip()))
    if waits := waits_for(found):
        click.echo(f"  waits {waits}")
    if found.error:
        click.echo(mask(f"  {found.error.get('kind')} error {found.error.get('code')}: {found.error.get('message')}"))
    return YES


@runs.command()
@click.argument("run")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A secret parameter, which isn't stored.")
@click.option("--flow", "repaired", type=click.Path(path_type=Path), help="Goes on by this repaired flow.")
@click.option(
    "--plan", "only_plan", is_flag=True, help="Only shows what is kept, what is repeated and why that is safe."
)
@click.option("--force", is_flag=True, help="Keeps what is recorded though the repaired flow would do it otherwise.")
@connections_option
@json_option
def resume(
    run: str,
    settings: tuple[str, ...],
    repaired: Path | None,
    only_plan: bool,
    force: bool,
    connections: Path | None,
    as_json: bool,
) -> int:
    """Goes on with RUN: what succeeded stays, the rest is done again."""
    workspace = Workspace.open(Path(), connections)
    show = _resumption_json if as_json else _resumption

    def look(found: Resumption) -> None:
        for line in show(found):
            click.echo(workspace.project.mask(line))

    return _go_on(
        workspace,
        run,
        pairs(settings, "--set"),
        connections,
        as_json=as_json,
        repaired=repaired,
        force=force,
        look=look if only_plan else None,
    )


def _resumption(found: Resumption) -> Iterator[str]:
    for record in found.kept:
        yield f"  kept   {record.path:<32} {record.status}"
    for path, why in found.again.items():
        yield f"  again  {path:<32} {why}"
    for path, how in found.differing.items():
        yield f"  !      {path:<32} {how}"
    needs = "; --force is needed to keep what differs" if found.differing else ""
    yield f"{len(found.kept)} kept, {len(found.again)} again{needs}"


def _resumption_json(found: Resumption) -> Iterator[str]:
    kept = [record.path for record in found.kept]
    yield json.dumps({"type": "resume", "kept": kept, "again": found.again, "differing": found.differing})


@runs.command()
@click.argument("run")
@connections_option
def cancel(run: str, connections: Path | None) -> int:
    """Ends RUN, which waits, is queued, or whose process is gone. One that is under way is its own process's to end."""
    from engine.contract import SystemClock

    journal = Workspace.open(Path(), connections).journal
    found = journal.run(run)
    if found.status not in ("queued", "waiting", "interrupted"):
        hint = "flowrun serve has an API that cancels runs under way" if found.status == "running" else ""
        raise ConfigError(f"run {found.id[:8]} is {found.status}", code="NotCancellable", hint=hint)
    journal.take_over(found.id)
    journal.write(found.id, [], {"status": "cancelled", "ended": SystemClock().now().isoformat()})
    journal.close()
    click.echo(f"run {found.id[:8]} is cancelled")
    return YES


@runs.command()
@click.argument("run")
@connections_option
@json_option
def resubmit(run: str, connections: Path | None, as_json: bool) -> int:
    """Starts a new run from what RUN was started from, by the flow's text as it was."""
    workspace = Workspace.open(Path(), connections)
    found = workspace.journal.run(run)
    there = Workspace.open(Path(), connections, found.environment)
    there.journal = workspace.journal
    try:
        flow = Flow.of(there, found)
        parameters = flow.parameters({}) | {n: v for n, v in found.parameters.items() if v != SECURED}
        row = replace(flow.row(found.trigger, parameters), forked_from=found.id)
        there.journal.create(row, flow.documents, durable=False)
        show = progress(there.project.mask, as_json=as_json)
        return drive(flow, row, flow.start(row.id, found.trigger, parameters), show, named=True)
    finally:
        there.close()


@runs.command()
@click.argument("key")
@connections_option
def forget(key: str, connections: Path | None) -> int:
    """Removes what runs hold of the record with this KEY, lane or business key; their shape stays."""
    number = Workspace.open(Path(), connections).journal.forget(key)
    click.echo(f"{number} run{'s' * (number != 1)} forgotten")
    return YES


@runs.command()
@click.option("--older-than", required=True, metavar="AGE", help="Such as 90d: runs that ended before then.")
@connections_option
def prune(older_than: str, connections: Path | None) -> int:
    """Removes old runs for good."""
    from datetime import timedelta

    from engine.contract import SystemClock
    from engine.model import seconds

    before = SystemClock().now() - timedelta(seconds=seconds(older_than))
    number = Workspace.open(Path(), connections).journal.prune(before)
    click.echo(f"{number} run{'s' * (number != 1)} removed")
    return YES


@runs.command()
@click.argument("run")
@click.argument("step")
@click.argument("what", type=click.Choice(["done", "repeat"]))
@click.option("--body", help="JSON: what the step gave, if later steps read it.")
@connections_option
@json_option
def resolve(run: str, step: str, what: str, body: str | None, connections: Path | None, as_json: bool) -> int:
    """Says what became of a write whose answer was lost: STEP is done, or is to be repeated; then RUN goes on."""
    workspace = Workspace.open(Path(), connections)
    found = workspace.journal.run(run)
    last = next((r for r in reversed(workspace.journal.records(found.id)) if r.path == step), None)
    if last is None or last.status not in ("uncertain", "started"):
        raise ConfigError(f"step {step} of run {found.id[:8]} doesn't wait for an answer", code="NotWaiting")
    if what == "done":
        try:
            output = json.loads(body) if body else None
        except ValueError as error:
            raise click.UsageError(f"--body is no JSON: {error}") from error
        answer = replace(
            last, status="succeeded", output=output, error=None, changed=True, summary="done, says a person"
        )
    else:
        answer = replace(last, status="retrying", summary="to be repeated, says a person")
    workspace.journal.take_over(found.id, [answer])
    return _go_on(workspace, found.id, {}, connections, as_json=as_json, resolved=True)


def _go_on(
    workspace: Workspace,
    id: str,
    settings: Mapping[str, str],
    connections: Path | None,
    *,
    as_json: bool,
    resolved: bool = False,
    **more: Any,
) -> int:
    run = workspace.journal.run(id)
    if run.status in ("succeeded", "running") and not resolved:
        raise ConfigError(f"run {run.id[:8]} is {run.status}: nothing to resume", code="NotResumable")
    there = Workspace.open(Path(), connections, run.environment)
    there.journal = workspace.journal
    try:
        return go_on(there, run, settings, progress(there.project.mask, as_json=as_json), resolved=resolved, **more)
    finally:
        there.close()
