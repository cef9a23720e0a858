"""`flowrun serve FLOW…`: webhooks, the API for runs, and the threads that run them."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from engine.cli.wiring import YES, Workspace, load_document, pairs
from engine.errors import ConfigError, did_you_mean

LOG = logging.getLogger("flowrun.serve")
connections_option = click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use.")


class _Serve(click.Group):
    """A group whose name may be followed by flows: then they are served."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["flows", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Serve)
def serve() -> None:
    """Serves flows: `flowrun serve FLOW…`; `flowrun serve token` looks after the API's callers."""


@serve.command("flows")
@click.argument("flows", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--env", "environment", help="Environment of connections.yaml (or FLOWRUN_ENV; default: sandbox).")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8930, show_default=True, help="0 takes a free one.")
@click.option("--public-url", help="How callers reach it, such as https://flows.example.com.")
@click.option("--threads", type=click.IntRange(1, 64), default=8, show_default=True, help="Runs at once.")
@click.option("--connect", multiple=True, metavar="ALIAS=CONNECTION", help="Swaps a connection.")
@connections_option
def flows_(
    flows: tuple[Path, ...],
    environment: str | None,
    host: str,
    port: int,
    public_url: str | None,
    threads: int,
    connect: tuple[str, ...],
    connections: Path | None,
) -> int:
    """Answers the webhooks of FLOWS and runs what they start, until it is stopped."""
    workspace = Workspace.open(flows[0].parent, connections, environment)
    try:
        served = Served(workspace, flows, pairs(connect, "--connect"), threads)
        return served.run(host, port, public_url)
    finally:
        workspace.close()


@serve.group()
def token() -> None:
    """Tokens for callers of the API. Only their digests are kept."""


@token.command("add")
@click.argument("name")
@connections_option
def add(name: str, connections: Path | None) -> int:
    """A new token for the caller NAME; it is shown once."""
    from engine.contract import SystemClock
    from engine.local.access import Access

    workspace = Workspace.open(Path(), connections)
    click.echo(Access(workspace.journal).allow(name, SystemClock().now()))
    return YES


@token.command("list")
@connections_option
def list_(connections: Path | None) -> int:
    """Who has a token."""
    from engine.local.access import Access

    for name, made in Access(Workspace.open(Path(), connections).journal).callers().items():
        click.echo(f"{name}  {made[:19]}")
    return YES


@token.command("remove")
@click.argument("name")
@connections_option
def remove(name: str, connections: Path | None) -> int:
    """Takes the token of NAME away."""
    from engine.local.access import Access

    if not Access(Workspace.open(Path(), connections).journal).refuse(name):
        raise ConfigError(f"there is no token '{name}'", code="Token", hint="flowrun serve token list")
    return YES


class Served:
    """Flows with their hooks, a dispatcher and a server."""

    def __init__(self, workspace: Workspace, files: tuple[Path, ...], connect: Mapping[str, str], threads: int) -> None:
        from engine.contract import SystemClock
        from engine.local.access import Access
        from engine.local.dispatcher import Dispatcher
        from engine.local.journal import Queued
        from engine.local.performer import Performer
        from engine.local.starts import Flow
        from engine.local.timetable import Timetable
        from engine.server.hooks import hooks_of

        self.workspace, self.clock = workspace, SystemClock()
        journal = workspace.journal
        self.performer = Performer(workspace, self.clock, lambda id: self.dispatcher.submit(_queued(journal.run(id))))
        self.dispatcher = Dispatcher(
            journal, self.clock, self.performer, environment=workspace.environment.name, threads=threads
        )
        self.flows: dict[str, Flow] = {}
        for file in files:
            document = load_document(file)
            aliases = document.data.get("connections") if isinstance(document.data, dict) else None
            own = {a: e for a, e in connect.items() if isinstance(aliases, dict) and a in aliases}
            flow = Flow.load(workspace, document, own)
            for warning in flow.warnings:
                click.echo(str(warning), err=True)
            self.flows[flow.program.flow.flow] = flow
            self.performer.keep(flow)

        def submit(queued: Queued, told: Any) -> None:
            self.dispatcher.submit(queued, told)

        self.timetable = Timetable(self.flows, self.dispatcher.submit, self.clock)
        name = workspace.environment.name
        self.hooks = {
            (flow, hook.name): (Access(journal).hook(name, flow, hook.name), hook)
            for flow, loaded in self.flows.items()
            for hook in hooks_of(loaded, submit, self.clock)
        }

    def start_run(self, flow: str, trigger: str, given: Any) -> tuple[str, bool]:
        """A run by the API. Raises ConfigError, DataError."""
        from engine.local.starts import checked_value
        from engine.model import Manual

        loaded = self.flows.get(flow)
        if loaded is None:
            raise ConfigError(f"no flow '{flow}' is served", code="NoFlow", hint=did_you_mean(flow, set(self.flows)))
        triggers = loaded.program.flow.triggers
        name = trigger or next((n for n, t in triggers.items() if isinstance(t, Manual)), "")
        if name and not isinstance(triggers.get(name), Manual):
            raise ConfigError(f"no trigger '{name}' for people", code="NoTrigger")
        manual = triggers.get(name)
        schema = (manual.manual or {}).get("inputs") if isinstance(manual, Manual) else None
        inputs, parameters = checked_value(given, "input", schema), loaded.parameters({})
        row = loaded.row({"name": name, "inputs": inputs}, parameters)
        id, created = self.workspace.journal.enqueue(row, loaded.documents)
        if created:
            self.dispatcher.submit(_queued(self.workspace.journal.run(id)))
        return id, created

    def app(self, hosts: set[str]) -> Any:
        """The WSGI application, for callers under these names."""
        from engine.server.app import App

        return App(
            journal=self.workspace.journal,
            dispatcher=self.dispatcher,
            clock=self.clock,
            hooks=self.hooks,
            hosts=hosts,
            start=self.start_run,
            stop_run=self.performer.driver.cancel,
        )

    def run(self, host: str, port: int, public_url: str | None) -> int:
        """Serves until SIGTERM or Ctrl-C; what is under way then has half a minute."""
        from urllib.parse import urlsplit

        from waitress.server import create_server

        from engine.connections.session import is_loopback

        if not is_loopback(host) and not self.workspace.named:
            hint = "name one: --env production"
            raise ConfigError("serving beyond this machine needs an environment", code="NoEnvironment", hint=hint)
        names: set[str] = set()
        app = self.app(names)
        try:
            server: Any = create_server(
                app, host=host, port=port, threads=8, ident="flowrun",
                clear_untrusted_proxy_headers=True, max_request_body_size=2**20,
            )  # fmt: skip
        except OSError as error:
            raise ConfigError(
                f"port {port}: {error.strerror}", code="Port", hint="--port 0 takes a free one"
            ) from error
        port = server.effective_port
        names |= {f"{host}:{port}", f"localhost:{port}", f"127.0.0.1:{port}"}
        if public_url:
            names.add(urlsplit(public_url).netloc.lower())
        self.dispatcher.start()
        self.timetable.start()
        base = (public_url or f"http://{host}:{port}").rstrip("/")
        click.echo(f"flowrun on {base} · environment {self.workspace.environment.name}")
        for (flow, trigger), (token, _) in self.hooks.items():
            click.echo(f"  hook {base}/hooks/{flow}/{trigger}/{token}")
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, lambda *_: _interrupt())
        try:
            server.run()
        except KeyboardInterrupt:
            pass
        finally:
            server.close()
            self.timetable.stop()
            self.performer.driver.park()
            if not self.dispatcher.stop():
                click.echo("some runs went on for too long: they are resumed at the next start", err=True)
        return YES


def _interrupt() -> None:
    raise KeyboardInterrupt


def _queued(run: Any) -> Any:
    from engine.local.journal import Queued

    return Queued(run.id, run.number, run.lane, run.collapse, run.status == "queued", run.wake)
