"""`flowrun sandbox`: the emulators as a loopback server, for other programs and for `route:`."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.wiring import YES, Workspace, pairs
from engine.errors import ConfigError


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8931, show_default=True, help="0 takes a free one.")
@click.option("--latency", help="Wait before each answer, such as 20ms.")
@click.option("--fault", multiple=True, metavar="NAME=RATE", help="429, 500, 503, reset or lost, with a probability.")
@click.option("--seed", type=int, help="Makes the faults repeatable.")
@click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml whose state is used.")
def sandbox(port: int, latency: str | None, fault: tuple[str, ...], seed: int | None, connections: Path | None) -> int:
    """Serves every emulator on 127.0.0.1; a request's Host header says which service it is for."""
    from engine.connections.sandboxed import apps
    from engine.sandbox import serve

    workspace = Workspace.open(Path(), connections, "sandbox")
    try:
        rates = {name: float(rate) for name, rate in pairs(fault, "--fault").items()}
    except ValueError as error:
        raise click.UsageError("--fault takes a rate such as 429=0.1") from error
    mounted = apps(workspace.project.state, {"latency": latency, "faults": rates, "seed": seed})
    try:
        server = serve(mounted, port)
    except OSError as error:
        raise ConfigError(f"port {port}: {error.strerror}", code="Port", hint="--port 0 takes a free one") from error
    click.echo(f"sandbox on http://127.0.0.1:{server.server_port}\nroute:")
    for host in mounted:
        click.echo(f'  {host}: "http://127.0.0.1:{server.server_port}"')
    try:
        server.serve_forever()
    finally:
        server.server_close()
    return YES
