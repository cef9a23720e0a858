"""`flowrun FLOW`: runs a flow by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.progress import Progress, progress
from engine.cli.wiring import NO, WAITING, WRONG, YES, Workspace, load_document, pairs, place_of, read
from engine.errors import ConfigError
from engine.local.starts import Connections, Flow, checked

if TYPE_CHECKING:
    from engine.effects import Record, Start
    from engine.local.journal import Run
    from engine.model import Trigger
    from engine.planning.resumption import Resumption

EXIT = {"succeeded": YES, "waiting": WAITING}


_OPTIONS = (
    click.argument("flow", type=click.Path(path_type=Path)),
    click.option("--env", "environment", help="Environment of connections.yaml (or FLOWRUN_ENV; default: sandbox)."),
    click.option("--input", "input_", help="JSON file with the event or the inputs; - reads standard input."),
    click.option("--trigger", "trigger_name", help="Which trigger to start by (default: the first)."),
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Gives a parameter its value."),
    click.option("--connect", multiple=True, metavar="ALIAS=CONNECTION", help="Swaps a connection (crm=sqlite)."),
    click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use."),
)


def start_options(command: Callable[..., int]) -> Callable[..., int]:
    """What says which flow is started, where and by what."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@start_options
@click.option("--once", is_flag=True, help="A run with the same key is not repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def run(
    flow: Path,
    environment: str | None,
    input_: str | None,
    trigger_name: str | None,
    settings: tuple[str, ...],
    connect: tuple[str, ...],
    connections: Path | None,
    once: bool,
    as_json: bool,
) -> int:
    """Runs FLOW and shows each step.

    Exit code: 0 succeeded, 1 failed, 2 the document or the configuration is wrong, 3 waiting for a person.
    """
    workspace = Workspace.open(flow.parent, connections, environment)
    try:
        loaded = Flow.load(workspace, load_document(flow), pairs(connect, "--connect"))
        for warning in loaded.warnings:
            click.echo(str(warning), err=True)
        parameters = loaded.parameters(pairs(settings, "--set"))
        code = YES
        for trigger in starts(loaded, parameters, trigger_name, input_):
            code = max(code, _start(loaded, trigger, parameters, once=once, as_json=as_json))
        return code
    finally:
        workspace.close()


def _start(flow: Flow, trigger: Mapping[str, Any], parameters: Mapping[str, Any], *, once: bool, as_json: bool) -> int:
    workspace, journal = flow.workspace, flow.workspace.journal
    if not flow.wanted(trigger, parameters):
        click.echo(f"no run: the `when` of trigger '{trigger['name']}' does not hold", err=True)
        return YES
    row = flow.row(trigger, parameters)
    if once and row.key and (earlier := journal.with_key(row.flow, row.environment, row.key)):
        click.echo(f"key {row.key} has run already: {earlier.id} {earlier.status}", err=True)
        return EXIT.get(earlier.status, NO)
    # Nothing is lost before the first commit: only reads can have been done.
    journal.create(row, flow.documents, durable=False)
    show = progress(workspace.project.mask, as_json=as_json)
    return drive(flow, row, flow.start(row.id, trigger, parameters), show, named=workspace.named)


def drive(flow: Flow, run: Run, start: Start, show: Progress, recorded: Iterable[Record] = (), *, named: bool) -> int:
    """Drives a run to its end and shows it, then the runs that it has started. Gives the exit code."""
    from engine.contract import SystemClock
    from engine.decider import Decider
    from engine.local.driver import Driver

    show.begin(run, flow.program, named=named)
    started: list[str] = []
    decider, connections = Decider(flow.program, start, recorded), Connections(flow, started.append)
    status = Driver(flow.workspace.journal, SystemClock(), listener=show).run(start.run, decider, connections)
    error = decider.error or next(iter(decider.waiting.values()), None)
    place = place_of(flow, str(error["step"])) if error and "step" in error else None
    show.end(status, decider, error, place)
    code = EXIT.get(status, NO)
    for id in started:
        code = max(code, go_on(flow.workspace, flow.workspace.journal.run(id), {}, show.again()))
    return code


def go_on(
    workspace: Workspace,
    run: Run,
    settings: Mapping[str, str],
    show: Progress,
    *,
    resolved: bool = False,
    repaired: Path | None = None,
    force: bool = False,
    look: Callable[[Resumption], None] | None = None,
) -> int:
    """Goes on with a recorded run, or begins a queued one, by the documents that it was made by. Raises ConfigError.

    `repaired` is the flow to go on by instead: what it keeps of the run has to fit it, unless `force`. With `look`
    nothing is done: it is told what would be.
    """
    from engine.contract import SystemClock
    from engine.effects import SECURED, Record
    from engine.planning.resumption import resumption

    flow = before = Flow.of(workspace, run)
    if repaired is not None:
        flow = Flow.load(workspace, load_document(repaired), run.connect)
        if flow.program.flow.flow != run.flow:
            raise ConfigError(f"{repaired} is flow '{flow.program.flow.flow}', the run is of '{run.flow}'", code="Flow")
    targets = workspace.connections.targets(flow.entries)
    if changed := sorted(entry for entry in targets if targets[entry] != run.targets.get(entry)):
        was, now = (", ".join(str(t.get(entry)) for entry in changed) for t in (run.targets, targets))
        hint = "resume where the run began, or start a new run"
        raise ConfigError(f"{', '.join(changed)} reached {was} and now reaches {now}", code="OtherTarget", hint=hint)
    parameters = flow.parameters(settings)
    parameters |= {n: v for n, v in run.parameters.items() if v != SECURED and n not in settings}
    again = run.status in ("failed", "cancelled") and not resolved
    journal = workspace.journal
    start = flow.start(run.id, run.trigger, parameters)
    marker = [Record(path="", attempt=0, status="resumed")] if again else []
    if look is not None or repaired is not None:
        known = [*journal.records(run.id), *marker]
        earlier = before.program.flow if repaired is not None else None
        found = resumption(flow.program, start, known, SystemClock().now(), earlier)
        if look is not None:
            look(found)
            return WRONG if found.differing and not force else YES
        if found.differing and not force:
            listed = "; ".join(f"{path} {how}" for path, how in found.differing.items())
            hint = "--plan shows all of it; --force keeps what is recorded as it is"
            raise ConfigError(f"what the run has done doesn't fit this flow: {listed}", code="Differs", hint=hint)
    anew = (flow.row(run.trigger, parameters), flow.documents) if repaired is not None else None
    journal.take_over(run.id, marker, anew)
    return drive(flow, run, start, show, journal.records(run.id), named=True)


def starts(flow: Flow, parameters: Mapping[str, Any], name: str | None, input_: str | None) -> Iterator[dict[str, Any]]:
    """What each run starts from: one for each event in the input, and item of `each`. Raises ConfigError, DataError."""
    for given in _given(flow, name, input_):
        yield from flow.split(given, parameters)


def _given(flow: Flow, name: str | None, input_: str | None) -> Iterator[dict[str, Any]]:
    from engine.errors import did_you_mean

    triggers = flow.program.flow.triggers
    name = name or next(iter(triggers), None)
    if name is None:
        yield {"name": "", "inputs": checked(read(input_), input_, None) if input_ else {}}
        return
    if name not in triggers:
        raise ConfigError(f"no trigger '{name}'", code="NoTrigger", hint=did_you_mean(name, set(triggers)))
    trigger = triggers[name]
    if input_ is None and trigger.sample and flow.workspace.environment.emulate is not None:
        input_ = str(Path(flow.document.file).parent / trigger.sample)
        click.echo(f"event: the trigger's sample {input_}", err=True)
    text = read(input_) if input_ else None
    yield from _events(flow, name, trigger, text, input_ or "input")


def _events(flow: Flow, name: str, trigger: Trigger, text: str | None, source: str) -> Iterator[dict[str, Any]]:
    from engine.contract import Request
    from engine.model import Manual, Poll, Webhook
    from engine.types import plain

    if isinstance(trigger, Webhook):
        if text is None:
            raise ConfigError(f"trigger '{name}' needs an event", code="NoInput", hint="--input FILE")
        request = Request("POST", "/", {"content-type": "application/json"}, text.encode())
        connection = flow.workspace.connections[flow.program.connections[trigger.webhook]]
        events = connection.parse(request)
        wanted = [e for e in events if trigger.events is None or e.type in trigger.events]
        if not wanted:
            kinds = ", ".join(sorted({e.type for e in events}))
            click.echo(f"no run: the flow does not ask for {kinds or 'these events'}", err=True)
        yield from ({"name": name, "event": plain(e)} for e in wanted)
        return
    if isinstance(trigger, Poll):
        if text is None:
            raise ConfigError(f"trigger '{name}' needs an item", code="NoInput", hint="--input FILE")
        yield {"name": name, "event": checked(text, source, None)}
        return
    schema = (trigger.manual or {}).get("inputs") if isinstance(trigger, Manual) else None
    yield {"name": name, "inputs": checked(text or "{}", source, schema)}
