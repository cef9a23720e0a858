"""`flowrun connectors`, `flowrun connections` and `flowrun login`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from engine.cli.wiring import NO, YES, Workspace
from engine.errors import ConfigError, FlowrunError, did_you_mean
from engine.loader.findings import Finding, Place

connections_option = click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use.")
env_option = click.option("--env", "environment", help="Environment of connections.yaml.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group()
def connectors() -> None:
    """Shows what is installed and what it can do."""


@connectors.command("list")
@connections_option
@json_option
def list_(connections: Path | None, as_json: bool) -> int:
    """The installed connectors; a broken one with its remedy."""
    project = Workspace.open(Path(), connections).project
    for name in project.connectors:
        try:
            kind = project.connector(name)
            line = {"name": name, "operations": list(kind.operations()), "summary": _first_line(kind.__doc__)}
            text = f"{name:<16} {len(kind.operations()):>2} operations  {line['summary']}"
        except ConfigError as error:
            line = {"name": name, "error": error.message, "hint": error.hint}
            text = f"{name:<16} broken: {error.message}\n{'':<16} fix: {error.hint}"
        click.echo(json.dumps(line, ensure_ascii=False) if as_json else text)
    return YES


@connectors.command()
@click.argument("name")
@click.argument("operation", required=False)
@connections_option
@json_option
def show(name: str, operation: str | None, connections: Path | None, as_json: bool) -> int:
    """A connector's settings and operations, or one OPERATION with its inputs and result."""
    from engine.loader.schema import input_schema, output_schema, schema

    kind = Workspace.open(Path(), connections).project.connector(name)
    operations = kind.operations()
    if operation is not None and operation not in operations:
        hint = did_you_mean(operation, set(operations))
        raise ConfigError(f"{name} has no operation '{operation}'", code="UnknownOperation", hint=hint)
    described: dict[str, dict[str, Any]] = {
        n: {"effect": op.effect if isinstance(op.effect, str) else "depends on the inputs", "doc": op.doc,
            "inputs": input_schema(op), "result": output_schema(op)}
        for n, op in operations.items()
        if operation in (None, n)
    }  # fmt: skip
    settings = schema(kind.Settings)
    if as_json:
        click.echo(
            json.dumps({"name": name, "settings": settings, "operations": described}, indent=2, ensure_ascii=False)
        )
        return YES
    if operation is None:
        click.echo(f"{name}: {_first_line(kind.__doc__)}\n\nsettings")
        _members(settings)
    for n, d in described.items():
        click.echo(f"\n{n} ({d['effect']})\n  {d['doc'] if operation else _first_line(d['doc'])}")
        _members(d["inputs"])
        if operation is not None:
            click.echo("  result")
            _members(d["result"], "    ")
    return YES


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().split("\n")[0]


def _members(shape: dict[str, Any], indent: str = "  ") -> None:
    required = set(shape.get("required", ()))
    for key, member in shape.get("properties", {}).items():
        kinds = member.get("type") or [o.get("type", "object") for o in member.get("anyOf", [])] or "any"
        names = kinds if isinstance(kinds, str) else " or ".join(dict.fromkeys(map(str, kinds)))
        values = f" ({', '.join(map(str, member['enum']))})" if "enum" in member else ""
        mark = " *" if key in required else ""
        click.echo(f"{indent}{key}{mark}: {names}{values}  {member.get('description', '')}".rstrip())


@click.group()
def connections() -> None:
    """Looks after the connections of an environment."""


@connections.command()
@click.argument("names", nargs=-1)
@env_option
@connections_option
@json_option
def check(names: tuple[str, ...], environment: str | None, connections: Path | None, as_json: bool) -> int:
    """Credentials, reach, rights and set-up of each connection. Exit code 1 if one isn't fit."""
    workspace = Workspace.open(Path(), connections, environment)
    entries = list(names) or list(workspace.catalog.connections)
    opened = workspace.connections
    failed = False
    for entry in entries:
        if entry not in workspace.catalog.connections:
            hint = did_you_mean(entry, set(workspace.catalog.connections))
            raise ConfigError(
                f"no connection '{entry}' in {workspace.environment.name}", code="UnknownConnection", hint=hint
            )
        try:
            findings = list(opened[entry].check())
        except FlowrunError as error:
            findings = [Finding(Place(), error.code, error.message, hint=error.hint)]
        bad = any(f.severity == "error" for f in findings)
        failed = failed or bad
        if as_json:
            line = {"connection": entry, "fit": not bad, "findings": [_finding(f) for f in findings]}
            click.echo(workspace.project.mask(json.dumps(line, ensure_ascii=False)))
            continue
        click.echo(f"{'✗' if bad else '✓'} {entry}")
        for f in findings:
            click.echo(
                workspace.project.mask(
                    f"    {f.severity} {f.code}: {f.message}" + (f"\n    fix: {f.hint}" if f.hint else "")
                )
            )
    return NO if failed else YES


def _finding(finding: Finding) -> dict[str, Any]:
    return {k: v for k, v in finding.json().items() if k not in ("file", "line", "column")}


@click.command()
@click.argument("connection")
@env_option
@connections_option
def login(connection: str, environment: str | None, connections: Path | None) -> int:
    """Signs a person in for CONNECTION (device code) and keeps the sign-in for later runs."""
    import os

    from engine.connections.tokens import KEY_HELP

    workspace = Workspace.open(Path(), connections, environment)
    if connection not in workspace.catalog.connections:
        hint = did_you_mean(connection, set(workspace.catalog.connections))
        raise ConfigError(
            f"no connection '{connection}' in {workspace.environment.name}", code="UnknownConnection", hint=hint
        )
    if not os.environ.get("FLOWRUN_KEY"):
        raise ConfigError("FLOWRUN_KEY is not set: the sign-in could not be kept", code="NoKey", hint=KEY_HELP)
    account = workspace.connections[connection].login(click.echo)
    click.echo(f"signed in as {workspace.project.mask(account)}")
    return YES
