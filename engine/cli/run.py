"""`flowrun FLOW`: runs a flow by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.progress import Progress, progress
from engine.cli.wiring import NO, WAITING, YES, Workspace, load_document, pairs, place_of, program_of, read
from engine.errors import ConfigError, DataError

if TYPE_CHECKING:
    from engine.connections.config import OpenConnections
    from engine.effects import Program
    from engine.loader import Document
    from engine.model import Trigger

EXIT = {"succeeded": YES, "waiting": WAITING}


@click.command()
@click.argument("flow", type=click.Path(path_type=Path))
@click.option("--env", "environment", help="Environment of connections.yaml (or FLOWRUN_ENV; default: sandbox).")
@click.option("--input", "input_", help="JSON file with the event or the inputs; - reads standard input.")
@click.option("--trigger", "trigger_name", help="Which trigger to start by (default: the first).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Gives a parameter its value.")
@click.option("--connect", multiple=True, metavar="ALIAS=CONNECTION", help="Swaps a connection, such as crm=sqlite.")
@click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use.")
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
    document = load_document(flow)
    program, warnings = program_of(document, workspace, pairs(connect, "--connect"))
    for warning in warnings:
        click.echo(str(warning), err=True)
    parameters = parameters_of(program, pairs(settings, "--set"), workspace)
    aliases = {**program.flow.connections, **pairs(connect, "--connect")}
    opened = workspace.connections(aliases)
    code = YES
    try:
        for trigger in _starts(
            flow, program, opened, trigger_name, input_, sandbox=workspace.environment.emulate is not None
        ):
            show = progress(workspace.project.mask, as_json=as_json)
            code = max(code, _start(workspace, document, program, opened, trigger, parameters, once, show))
    finally:
        opened.close()
        workspace.journal.close()
    return code


def _start(
    workspace: Workspace,
    document: Document,
    program: Program,
    opened: OpenConnections,
    trigger: Mapping[str, Any],
    parameters: Mapping[str, Any],
    once: bool,
    show: Progress,
) -> int:
    from engine.contract import SystemClock
    from engine.effects import SECURED, Start
    from engine.journal import Run

    flow, clock, journal = program.flow, SystemClock(), workspace.journal
    chosen = flow.triggers.get(str(trigger.get("name")))
    if chosen is not None and chosen.when is not None and not _holds(program, chosen.when, trigger, parameters):
        click.echo(f"no run: the `when` of trigger '{trigger['name']}' does not hold", err=True)
        return YES
    key, lane = (_text(program, getattr(chosen, which, None), trigger, parameters) for which in ("key", "lane"))
    if once and key and (earlier := journal.with_key(flow.flow, workspace.environment.name, key)):
        click.echo(f"key {key} has run already: {earlier.id} {earlier.status}", err=True)
        return EXIT.get(earlier.status, NO)
    secret = {name for name, p in flow.parameters.items() if p.hidden}
    stored = {name: SECURED if name in secret else value for name, value in parameters.items()}
    row = Run(
        id=uuid.uuid4().hex,
        flow=flow.flow,
        digest=document.digest,
        environment=workspace.environment.name,
        connect={a: e for a, e in opened.aliases.items() if flow.connections.get(a) != e},
        targets=opened.targets(),
        trigger=trigger,
        parameters=stored,
        key=key,
        lane=lane,
        started=clock.now(),
    )
    # Nothing is lost before the first commit: only reads can have been done.
    journal.create(row, document.file, document.text, durable=False)
    start = Start(run=row.id, trigger=trigger, parameters=parameters, environment=row.environment)
    show.begin(row, program, named=workspace.named)
    return drive(workspace, document, program, opened, start, show)


def drive(
    workspace: Workspace,
    document: Document,
    program: Program,
    opened: OpenConnections,
    start: Any,
    show: Progress,
    recorded: Any = (),
) -> int:
    """Drives a run to its end and shows it. Gives the exit code."""
    from engine.contract import SystemClock
    from engine.decider import Decider
    from engine.local import Driver

    decider = Decider(program, start, recorded)
    driver = Driver(workspace.journal, SystemClock(), listener=show)
    status = driver.run(start.run, decider, opened)
    error = decider.error or next(iter(decider.waiting.values()), None)
    place = place_of(document, program, str(error["step"])) if error and "step" in error else None
    show.end(status, decider, error, place)
    return EXIT.get(status, NO)


def _text(program: Program, source: Any, trigger: Mapping[str, Any], parameters: Mapping[str, Any]) -> str | None:
    """A key or lane; null or empty counts as none."""
    from engine.expressions import bare, to_text

    if not isinstance(source, str):
        return None
    return to_text(program.expressions.evaluate(bare(source), *_at_start(trigger, parameters))) or None


def _holds(program: Program, source: Any, trigger: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    return program.expressions.condition(source, *_at_start(trigger, parameters))


def _at_start(trigger: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """The names that a trigger's expressions see, and the time."""
    from engine.contract import SystemClock
    from engine.expressions import Ambient

    return {"trigger": trigger, "parameters": parameters}, Ambient(SystemClock().now(), "")


def parameters_of(program: Program, given: Mapping[str, str], workspace: Workspace) -> dict[str, Any]:
    """Parameter values: given, else the default with its references resolved. Raises ConfigError."""
    from engine.errors import did_you_mean
    from engine.types import type_name

    declared = program.flow.parameters
    for name in given.keys() - declared.keys():
        hint = did_you_mean(name, set(declared))
        raise ConfigError(f"the flow has no parameter '{name}'", code="UnknownParameter", hint=hint)
    out: dict[str, Any] = {}
    for name, parameter in declared.items():
        value = workspace.project.resolve(parameter.default, f"parameter {name}")
        if name in given:
            value = given[name]
            if parameter.type != "string":
                try:
                    value = json.loads(value)
                except ValueError as error:
                    raise ConfigError(
                        f"parameter {name}: '{value}' is no JSON {parameter.type}", code="Parameter"
                    ) from error
        if parameter.hidden and isinstance(value, str):
            workspace.project.mask.add(value)
        if not _fits(parameter.type, value) and not (value is None and name not in given):
            message = f"parameter {name}: expected {parameter.type}, found {type_name(value)}"
            raise ConfigError(message, code="Parameter")
        out[name] = value
    return out


def _fits(kind: str, value: Any) -> bool:
    from jsonschema import Draft202012Validator

    return Draft202012Validator({"type": kind}).is_valid(value)


def _starts(
    file: Path, program: Program, opened: OpenConnections, name: str | None, input_: str | None, *, sandbox: bool
) -> Iterator[dict[str, Any]]:
    """What each run starts from: one for each event in the input. Raises ConfigError, DataError."""
    from engine.errors import did_you_mean

    triggers = program.flow.triggers
    name = name or next(iter(triggers), None)
    if name is None:
        yield {"name": "", "inputs": _json(read(input_), input_) if input_ else {}}
        return
    if name not in triggers:
        raise ConfigError(f"no trigger '{name}'", code="NoTrigger", hint=did_you_mean(name, set(triggers)))
    trigger = triggers[name]
    if input_ is None and trigger.sample and sandbox:
        input_ = str(file.parent / trigger.sample)
        click.echo(f"event: the trigger's sample {input_}", err=True)
    text = read(input_) if input_ else None
    yield from _events(name, trigger, opened, text, input_ or "")


def _events(
    name: str, trigger: Trigger, opened: OpenConnections, text: str | None, source: str
) -> Iterator[dict[str, Any]]:
    from jsonschema import Draft202012Validator

    from engine.contract import Request
    from engine.model import Manual, Webhook
    from engine.types import plain

    if isinstance(trigger, Webhook):
        if text is None:
            raise ConfigError(f"trigger '{name}' needs an event", code="NoInput", hint="--input FILE")
        body = text.encode()
        request = Request("POST", "/", {"content-type": "application/json"}, body)
        events = opened[trigger.webhook].receive(request)
        wanted = [e for e in events if trigger.events is None or e.type in trigger.events]
        if not wanted:
            kinds = ", ".join(sorted({e.type for e in events}))
            click.echo(f"no run: the flow does not ask for {kinds or 'these events'}", err=True)
        yield from ({"name": name, "event": plain(e)} for e in wanted)
        return
    inputs = _json(text, source) if text else {}
    if isinstance(trigger, Manual) and (schema := (trigger.manual or {}).get("inputs")):
        fault = next(iter(Draft202012Validator(schema).iter_errors(inputs)), None)
        if fault is not None:
            raise DataError(f"{source or 'input'}: {fault.json_path}: {fault.message}", code="SchemaViolation")
    yield {"name": name, "inputs": inputs}


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: no JSON: {error}", code="NotJson") from error
