"""`flowrun webhook`: where a service posts its events. For connectors that can register a hook."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.wiring import NO, YES, Workspace
from engine.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from engine.contract import Connector

FIRST_LOOK, LONGEST_PAUSE = 0.05, 5.0  # seconds between two looks at a test event


def _options(command: Callable[..., int]) -> Callable[..., int]:
    """What every command here takes."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="JSON instead of text."),
        click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use."),
        click.option(
            "--env", "environment", help="Environment of connections.yaml (or FLOWRUN_ENV; default: sandbox)."
        ),
        click.argument("connection"),
    ):
        command = option(command)
    return command


def _what(command: Callable[..., int]) -> Callable[..., int]:
    """What a registration holds."""
    for option in (
        click.option(
            "--signature-header",
            type=click.Choice(["authorization", "x-ms-signature"]),
            help="Which header holds the signature.",
        ),
        click.option("--event", "events", multiple=True, metavar="NAME", help="An event; can be given several times."),
    ):
        command = option(command)
    return command


@click.group()
def webhook() -> None:
    """Registers the hook that a service posts its events to."""


@webhook.command()
@_options
@click.option("--url", required=True, help="Where events are to be posted, as `flowrun serve` shows it.")
@_what
def register(url: str, events: tuple[str, ...], signature_header: str | None, **options: Any) -> int:
    """Registers a hook for CONNECTION; what is registered already gets this URL and these events beside its own."""
    inputs = {"url": url, "events": list(events) or None, "signature_in": signature_header}
    return _change("register_webhook", inputs, **options)


@webhook.command()
@_options
@click.option("--url", help="Where events are to be posted from now on.")
@_what
def update(url: str | None, events: tuple[str, ...], signature_header: str | None, **options: Any) -> int:
    """Changes the hook of CONNECTION. With --event no others are posted any more."""
    inputs = {"url": url, "events": list(events) or None, "signature_in": signature_header}
    return _change("update_webhook", inputs, **options)


@webhook.command()
@_options
def show(**options: Any) -> int:
    """What is registered for CONNECTION. Exit code 1 if nothing is."""
    return _change("show_webhook", {}, **options)


@webhook.command()
@_options
def delete(**options: Any) -> int:
    """Ends the events of CONNECTION."""
    return _change("delete_webhook", {}, **options)


@webhook.command()
@_options
def events(connection: str, environment: str | None, connections: Path | None, as_json: bool) -> int:
    """The events that a hook of CONNECTION can be registered for."""
    workspace, connector = _opened(connection, environment, connections)
    try:
        names = connector.invoke("webhook_events", {}).body
        click.echo(json.dumps(names) if as_json else "\n".join(names))
        return YES
    finally:
        workspace.close()


@webhook.command()
@_options
@click.option("--wait", default="1m", show_default=True, help="How long to look at what becomes of it.")
def test(connection: str, environment: str | None, connections: Path | None, as_json: bool, wait: str) -> int:
    """Has the service post a test event to the hook of CONNECTION. Exit code 1 if it didn't arrive."""
    from engine.model import seconds

    workspace, connector = _opened(connection, environment, connections)
    try:
        until, clock = seconds(wait), connector.ctx.clock
        asked = connector.invoke("test_webhook", {})
        if not as_json:
            click.echo(asked.summary, err=True)
        end, pause, shown = clock.monotonic() + until, FIRST_LOOK, 0
        while True:
            found = connector.invoke("webhook_test", asked.body).body
            for number, attempt in enumerate(found["attempts"][shown:], shown + 1):
                if not as_json:
                    click.echo(f"attempt {number}: {' '.join(filter(None, (attempt['code'], attempt['message'])))}")
            shown = len(found["attempts"])
            if found["delivered"] or found["status"] == "completed" or clock.monotonic() >= end:
                break
            clock.sleep(min(pause, max(0.0, end - clock.monotonic())))
            pause = min(2 * pause, LONGEST_PAUSE)
        if as_json:
            click.echo(json.dumps({**asked.body, **found}, ensure_ascii=False))
        else:
            click.echo("delivered" if found["delivered"] else f"not delivered ({found['status']})")
        return YES if found["delivered"] else NO
    finally:
        workspace.close()


def _change(
    operation: str,
    inputs: dict[str, Any],
    *,
    connection: str,
    environment: str | None,
    connections: Path | None,
    as_json: bool,
) -> int:
    """Calls an operation and shows the registration that it gives."""
    workspace, connector = _opened(connection, environment, connections)
    try:
        result = connector.invoke(operation, {name: value for name, value in inputs.items() if value is not None})
        found = result.body
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False))
        else:
            click.echo(workspace.project.mask(result.summary))
            if found:
                click.echo(f"  url        {found['url']}")
                click.echo(f"  events     {', '.join(found['events'])}")
                click.echo(f"  signature  in {found['signature_in']}")
        return YES if found or operation != "show_webhook" else NO
    finally:
        workspace.close()


def _opened(connection: str, environment: str | None, connections: Path | None) -> tuple[Workspace, Connector]:
    workspace = Workspace.open(Path(), connections, environment)
    known = workspace.catalog.connections
    if connection not in known:
        raise ConfigError(
            f"no connection '{connection}' in {workspace.environment.name}",
            code="UnknownConnection",
            hint=did_you_mean(connection, set(known)),
        )
    if "register_webhook" not in known[connection].operations():
        raise ConfigError(f"the service of '{connection}' has no hooks to register", code="NoWebhooks")
    return workspace, workspace.connections[connection]
