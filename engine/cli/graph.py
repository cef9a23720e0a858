"""`flowrun graph`: a flow drawn, or what one run of it did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.wiring import YES, Workspace, load_document, place_of
from engine.errors import ConfigError

if TYPE_CHECKING:
    from engine.local.journal import Run
    from engine.local.starts import Flow
    from engine.views.drawing import Drawing

FORMS = {".svg": "svg", ".html": "html", ".htm": "html"}


@click.command()
@click.argument("flow", type=click.Path(path_type=Path))
@click.option("--run", "run", metavar="RUN", help="Shows what a run did: its id, a beginning of that, or `last`.")
@click.option("--format", "form", type=click.Choice(["mermaid", "svg", "html"]), help="Default: by FILE, or mermaid.")
@click.option("-o", "file", metavar="FILE", type=click.Path(path_type=Path), help="Written instead of shown.")
@click.option("--env", "environment", help="Environment whose connections are used (default: sandbox).")
@click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml to use.")
def graph(
    flow: Path, run: str | None, form: str | None, file: Path | None, environment: str | None, connections: Path | None
) -> int:
    """Draws FLOW: as Mermaid text, as an SVG picture, or as an HTML page that tells about each step."""
    from engine.local.starts import Flow

    workspace = Workspace.open(flow.parent, connections, environment)
    try:
        document = load_document(flow)
        if run is None:
            found, drawn = None, Flow.load(workspace, document, {})
        else:
            found = _run(workspace, _name(document.data), run)
            there = Workspace.open(flow.parent, connections, found.environment)
            there.journal = workspace.journal
            drawn = Flow.of(there, found)
            if found.digest != document.digest:
                click.echo(f"{flow} has been changed since: drawn as it was in run {found.id[:8]}", err=True)
        text = workspace.project.mask(_text(drawn, found, form or FORMS.get(file.suffix if file else "", "mermaid")))
    finally:
        workspace.close()
    if file is None:
        click.echo(text, nl=False)
    else:
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"can't write {file}: {error.strerror}", code="NoFile") from error
    return YES


def _name(data: Any) -> str:
    return str(data.get("flow")) if isinstance(data, dict) else ""


def _run(workspace: Workspace, flow: str, id: str) -> Run:
    """The run meant; `last` is the newest of this flow. Raises ConfigError for a run of another flow."""
    if id == "last":
        newest = workspace.journal.runs(flow=flow, limit=1)
        if not newest:
            raise ConfigError(f"no run of {flow}", code="NoRun", hint="flowrun runs list")
        return newest[0]
    found = workspace.journal.run(id)
    if found.flow != flow:
        raise ConfigError(f"run {found.id[:8]} is one of {found.flow}, not of {flow}", code="OtherFlow",
                          hint=f"flowrun runs list --flow {flow}")  # fmt: skip
    return found


def _text(flow: Flow, run: Run | None, form: str) -> str:
    from engine.views.drawing import draw
    from engine.views.mermaid import mermaid
    from engine.views.outcome import outcomes
    from engine.views.svg import svg

    if run is None:
        drawing = draw(flow.program)
    else:
        told = outcomes(flow.program, flow.workspace.journal.records(run.id), run=run.status)
        drawing = draw(flow.program, told, str(run.trigger.get("name", "")))
    if form == "html":
        return _page(flow, run, drawing)
    return svg(drawing) if form == "svg" else mermaid(drawing)


def _page(flow: Flow, run: Run | None, drawing: Drawing) -> str:
    from engine.views.outcome import moment, span
    from engine.views.page import page

    facts: dict[str, Any] = {"file": flow.document.file, "note": flow.program.flow.note}
    if run is not None:
        took = span((run.ended - run.started).total_seconds()) if run.ended else ""
        facts |= {"run": run.id, "status": run.status, "environment": run.environment, "started": moment(run.started)}
        facts |= {"took": took, "trigger": run.trigger.get("name"), "key": run.key, "lane": run.lane}
        facts |= {"business key": run.business_key, "error": run.error, "outputs": run.outputs}
    places = {box.path: str(place_of(flow, box.path) or "") for box in drawing.boxes()}
    return page(drawing, facts, places)
