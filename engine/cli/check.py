"""`flowrun check` and `flowrun schema`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from engine.cli.wiring import WRONG, YES, Workspace, load_document, pairs
from engine.errors import ConfigError


@click.command()
@click.argument("flows", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--env", "environment", help="Environment whose connections are used (default: sandbox).")
@click.option("--connect", multiple=True, metavar="ALIAS=CONNECTION", help="Swaps a connection.")
@click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use.")
@click.option("--json", "as_json", is_flag=True, help="One finding a line as JSON.")
def check(
    flows: tuple[Path, ...], environment: str | None, connect: tuple[str, ...], connections: Path | None, as_json: bool
) -> int:
    """Finds every mistake in FLOWS before anything runs. Exit code 2 if there is one."""
    from engine.loader import check as check_document
    from engine.local.starts import Folder

    failed = False
    for flow in flows:
        workspace = Workspace.open(flow.parent, connections, environment)
        catalog = replace(workspace.catalog, flows=Folder(flow.parent))
        program, findings = check_document(load_document(flow), catalog, pairs(connect, "--connect"))
        failed = failed or program is None
        for finding in findings:
            click.echo(json.dumps(finding.json(), ensure_ascii=False) if as_json else str(finding))
        if not as_json:
            steps = len(program.flow.all_steps) if program else 0
            errors = sum(f.severity == "error" for f in findings)
            said = f"{steps} steps, fine" if program else f"{errors} error{'s' * (errors != 1)}"
            click.echo(f"{flow}: {said}", err=program is None)
    return WRONG if failed else YES


@click.command()
@click.argument("flow", required=False, type=click.Path(path_type=Path))
@click.option("--env", "environment", help="Environment whose connections are used (default: sandbox).")
@click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use.")
def schema(flow: Path | None, environment: str | None, connections: Path | None) -> int:
    """Prints the JSON Schema of flow documents, for editors.

    With FLOW its own aliases are known; without, every connection of the environment by its own name, and `crm` for
    what every CRM offers.
    """
    from engine.loader import flow_schema, input_schema

    workspace = Workspace.open(flow.parent if flow else Path(), connections, environment)
    operations = {}
    for entry in workspace.catalog.connections:
        try:
            operations[entry] = workspace.catalog.connections[entry].operations()
        except ConfigError as error:  # a broken plugin: `connectors list` says more
            click.echo(f"left out: {error.message}", err=True)
    if flow is not None:
        data = load_document(flow).data
        given = data.get("connections") if isinstance(data, dict) else None
        aliases = {a: str(e) for a, e in given.items()} if isinstance(given, dict) else {}
    else:
        crm = next((entry for entry, found in operations.items() if "upsert_lead" in found), None)
        aliases = {entry: entry for entry in operations} | ({"crm": crm} if crm else {})
    calls = {
        f"{alias}.{name}": input_schema(operation)
        for alias, entry in aliases.items()
        for name, operation in operations.get(entry, {}).items()
    }
    click.echo(json.dumps(flow_schema(calls), indent=2, ensure_ascii=False))
    return YES
