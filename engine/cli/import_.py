"""`flowrun import`: flows of Power Automate and Logic Apps, brought here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.wiring import NO, YES, pairs, read
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.wdl.package import Package, Source
    from engine.wdl.report import Written

SAMPLE = "samples/referral_created.json"
# An event about a referral of the sandbox.
EVENT = {
    "EventName": "referral-created",
    "ResourceUri": "https://api.partner.microsoft.com/v1.0/engagements/referrals/8f3c1a52-6b7d-4e9f-a1b2-c3d4e5f60718",
    "ResourceName": "referral",
    "AuditUri": None,
    "ResourceChangeUtcDate": "2026-11-20T09:14:22.6178337+00:00",
}


@click.command("import")
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "-o", "folder", type=click.Path(path_type=Path, file_okay=False), help="Where flows are written (default: flows)."
)
@click.option("--as", "name", metavar="NAME", help="The new flow's name (default: made from its title).")
@click.option("--update", type=click.Path(path_type=Path), metavar="FLOW", help="The flow that it replaces.")
@click.option("--connect", multiple=True, metavar="KEY=CONNECTION", help="What a connection of the package is here.")
@click.option("--faithful", is_flag=True, help="Keeps all of its behaviour, its defects too.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object a line.")
def import_(
    package: Path,
    folder: Path | None,
    name: str | None,
    update: Path | None,
    connect: tuple[str, ...],
    faithful: bool,
    as_json: bool,
) -> int:
    """Writes the flows in PACKAGE as YAML, and reports what became of each action.

    PACKAGE is an exported zip, a solution, a definition.json, a workflow.json or an ARM template. Exit code 1 if
    something needs a hand.
    """
    from engine.wdl import report
    from engine.wdl.package import open_package

    if name is not None and update is not None:
        raise click.UsageError("either --as or --update")
    found = open_package(package)
    folder = folder or (Path("flows") if Path("flows").is_dir() else Path())
    written = _written(found, folder, name, update, pairs(connect, "--connect"), faithful=faithful)
    if as_json:
        for line in report.lines(found, written):
            click.echo(json.dumps(line, ensure_ascii=False))
    else:
        for text in report.text(found, written):
            click.echo(text)
    return NO if any(flow.by_hand for flow in written) else YES


def _written(
    package: Package, folder: Path, name: str | None, update: Path | None, connect: Mapping[str, str], *, faithful: bool
) -> list[Written]:
    from engine.loader import load
    from engine.wdl.convert import Conversion
    from engine.wdl.report import Written
    from engine.wdl.writer import written

    files = _files(package, folder, name, update)
    names = {source.title: _name(file, update) for source, file in files}
    children = {key.lower(): names[s.title] for s, _ in files for key in (s.id, s.title) if key}
    kept = _connections(update)
    out, texts = [], {}
    for source, file in files:
        conversion = Conversion(
            source,
            names[source.title],
            faithful=faithful,
            connect={**kept, **connect},
            children=children,
            sample=SAMPLE,
        )
        flow = conversion.convert()
        text = conversion.secrets.masked(written(flow, _heading(package, source, faithful=faithful)))
        texts[file] = text
        out.append(Written(conversion, load(text, str(file)), file.exists()))
    unknown = sorted(
        connect.keys() - {k for w in out for b in w.conversion.bound.values() for k in (b.key, b.alias, b.api)}
    )
    if unknown:
        known = ", ".join(b.key for w in out for b in w.conversion.bound.values())
        raise ConfigError(
            f"--connect: the package has no connection '{unknown[0]}'",
            code="UnknownConnection",
            hint=f"it has: {known}",
        )
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if any(w.conversion.recipe.webhook for w in out):
        sample = files[0][1].parent / SAMPLE
        if not sample.exists():
            sample.parent.mkdir(parents=True, exist_ok=True)
            sample.write_text(json.dumps(EVENT, indent=2) + "\n", encoding="utf-8")
    return out


def _files(package: Package, folder: Path, name: str | None, update: Path | None) -> list[tuple[Source, Path]]:
    """Each flow of the package with the file that it is written to. Raises ConfigError."""
    from engine.model import NAME
    from engine.wdl.names import named

    sources = package.sources
    if (name or update) and len(sources) > 1:
        titles = ", ".join(s.title for s in sources)
        raise ConfigError(
            f"the package has {len(sources)} flows: {titles}", code="SeveralFlows", hint="leave --as and --update out"
        )
    if update is not None:
        if not update.is_file():
            raise ConfigError(
                f"there is no flow {update} to update", code="NoFile", hint="leave --update out for a new one"
            )
        return [(sources[0], update)]
    if name is not None and not re.fullmatch(NAME, name):
        raise ConfigError(f"'{name}' is no name of a flow", code="Name", hint="a name such as get_leads: a-z, 0-9, _")
    unique = {f"{s.title}\0{i}": s for i, s in enumerate(sources)}
    names = {f"{s.title}\0{i}": name or "" for i, s in enumerate(sources)} if name else _named(unique, named)
    files = [(source, folder / f"{names[key]}.yaml") for key, source in unique.items()]
    there = [str(file) for _, file in files if file.exists()]
    if there:
        raise ConfigError(
            f"{there[0]} is there already", code="Exists", hint="--update replaces it, --as NAME writes another"
        )
    return files


def _named(sources: Mapping[str, Source], named: Any) -> dict[str, str]:
    by_title = named([s.title for s in sources.values()], "flow")
    used: set[str] = set()
    out = {}
    for key, source in sources.items():
        own = by_title[source.title]
        own = next(n for i in range(1, 1000) if (n := own if i == 1 else f"{own}_{i}") not in used)
        used.add(own)
        out[key] = own
    return out


def _name(file: Path, update: Path | None) -> str:
    """A flow's name: that of its file, or the one that the flow to be updated has."""
    if update is not None:
        data = _document(update)
        if isinstance(data.get("flow"), str):
            return str(data["flow"])
    return file.stem


def _connections(update: Path | None) -> dict[str, str]:
    """Alias → entry of the flow to be updated: what somebody bound stays bound."""
    given = _document(update).get("connections") if update is not None else None
    return {a: str(e) for a, e in given.items()} if isinstance(given, dict) else {}


def _document(file: Path) -> dict[str, Any]:
    from engine.loader import load

    data = load(read(file), str(file)).data
    return data if isinstance(data, dict) else {}


def _heading(package: Package, source: Source, *, faithful: bool) -> str:
    kept = ", with all of its behaviour" if faithful else ""
    first = f"Imported from {Path(package.file).name}: {source.title}{kept}."
    return f"{first}\nWhat it does is this file's to say now; `title` is what a step was called there."
