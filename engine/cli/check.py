"""`flowrun check` and `flowrun schema`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.wiring import WRONG, YES, Workspace, load_document, pairs
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.contract import Connector
    from engine.loader import Document


@click.command()
@click.argument("flows", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--env", "environment", help="Environment whose connections are used (default: sandbox).")
@click.option("--connect", multiple=True, metavar="ALIAS=CONNECTION", help="Swaps a connection.")
@click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    help="text for people, json: one finding a line, sarif: SARIF 2.1.0 for code hosts and editors.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def check(
    flows: tuple[Path, ...],
    environment: str | None,
    connect: tuple[str, ...],
    connections: Path | None,
    form: str,
    as_json: bool,
) -> int:
    """Finds every mistake in FLOWS before anything runs. Exit code 2 if there is one, not for warnings."""
    from engine.loader import check as check_document
    from engine.local.starts import Folder

    form = "json" if as_json else form
    failed, every = False, []
    for flow in flows:
        workspace = Workspace.open(flow.parent, connections, environment)
        catalog = replace(workspace.catalog, flows=Folder(flow.parent), files=Beside(flow.parent))
        program, findings = check_document(_document(flow), catalog, pairs(connect, "--connect"))
        failed = failed or program is None
        every += findings
        for finding in findings if form != "sarif" else ():
            click.echo(json.dumps(finding.json(), ensure_ascii=False) if form == "json" else str(finding))
        if form == "text":
            steps = len(program.flow.all_steps) if program else 0
            errors = sum(f.severity == "error" for f in findings)
            said = f"{steps} steps, fine" if program else f"{errors} error{'s' * (errors != 1)}"
            click.echo(f"{flow}: {said}", err=program is None)
    if form == "sarif":
        from importlib.metadata import version

        from engine.loader.sarif import sarif

        click.echo(json.dumps(sarif(every, version("flowrun-engine")), indent=2, ensure_ascii=False))
    return WRONG if failed else YES


class Beside(Collection[str]):
    """The files that can be named from a folder: by paths relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (self.folder / name).is_file()

    def __iter__(self) -> Iterator[str]:
        files = (p for p in self.folder.rglob("*.json") if not any(part.startswith(".") for part in p.parts))
        return iter(sorted(p.relative_to(self.folder).as_posix() for p in files))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _document(flow: Path) -> Document:
    """A document as it is on disk: one that is no UTF-8 has a finding. Raises ConfigError."""
    from engine.loader import load

    if str(flow) == "-":
        return load_document(flow)
    try:
        return load(flow.read_bytes(), str(flow))
    except OSError as error:
        raise ConfigError(f"can't read {flow}: {error.strerror}", code="NoFile") from error


@click.command()
@click.argument("flows", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--for",
    "what",
    type=click.Choice(["flows", "connections", "tests"]),
    default="flows",
    help="Which documents it is for.",
)
@click.option("--env", "environment", help="Environment whose connections are used (default: sandbox).")
@click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use.")
def schema(flows: tuple[Path, ...], what: str, environment: str | None, connections: Path | None) -> int:
    """Prints the JSON Schema of flows, of connections.yaml, or of tests of flows, for editors.

    With FLOWS their own aliases are known; without, every connection of the environment by its own name, and `crm` for
    what the CRMs offer.
    """
    from engine.connections.editor import connections_schema
    from engine.loader.editor import editor_schema, explained, shared
    from engine.local.starts import Folder

    if what == "tests":
        from engine.testing.flows.document import schema_of_tests

        click.echo(json.dumps(shared(explained(schema_of_tests())), indent=1, ensure_ascii=False))
        return YES
    workspace = Workspace.open(flows[0].parent if flows else Path(), connections, environment)
    project, entries = workspace.project, workspace.catalog.connections
    kinds, names = (project.connector, project.connectors) if what == "connections" else (entries.__getitem__, entries)
    found: dict[str, type[Connector]] = {}
    for name in names:
        try:
            found[name] = kinds(name)
        except ConfigError as error:  # a broken plugin: `connectors list` says more
            click.echo(f"left out: {error.message}", err=True)
    if what == "connections":
        printed = connections_schema(found)
    else:
        operations = {
            f"{alias}.{name}": operation
            for alias, entry in reversed([*_aliases(flows, found)])  # of one alias in several flows the first counts
            for name, operation in found[entry].operations().items()
        }
        words = {entry: (kind.__doc__ or "").strip().split("\n")[0] for entry, kind in found.items()}
        folder = Folder(flows[0].parent if flows else project.folder)
        printed = editor_schema(dict(sorted(operations.items())), words, folder)
    click.echo(json.dumps(printed, indent=1, ensure_ascii=False))
    return YES


def _aliases(flows: tuple[Path, ...], entries: Mapping[str, type[Connector]]) -> Iterator[tuple[str, str]]:
    """Alias and entry: those of the flows, else the entries by their own names and the CRMs as `crm`."""
    for flow in flows:
        data = load_document(flow).data
        given = data.get("connections") if isinstance(data, dict) else None
        yield from ((a, str(e)) for a, e in (given.items() if isinstance(given, dict) else ()) if str(e) in entries)
    if not flows:
        yield from ((entry, entry) for entry in entries)
        yield from (("crm", entry) for entry, kind in entries.items() if "upsert_lead" in kind.operations())
