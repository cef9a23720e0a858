"""`flowrun why`: where a value of a run came from, or why a step ran."""

from __future__ import annotations

import json
from pathlib import Path

import click

from engine.cli.wiring import YES, Workspace


@click.command()
@click.argument("run")
@click.argument("path")
@click.option("--connections", type=click.Path(path_type=Path), help="The connections.yaml whose runs are meant.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: values whole, what they rest on under `from`.")
def why(run: str, path: str, connections: Path | None, as_json: bool) -> int:
    """Where the value at PATH came from in RUN, or why the step at PATH ran, or didn't.

    PATH is a step, a member of one, a pass of a loop, or a part of the flow: upsert_lead, upsert_lead.with.lead.phone,
    each_line[3]/post.body.id, each_line[3], outputs.lead, business_key, variables.count.
    """
    from engine.local.starts import Flow
    from engine.views.origin import tree
    from engine.views.recorded import Recorded
    from engine.views.why import why as origin_of

    workspace = Workspace.open(Path(), connections)
    try:
        found = workspace.journal.run(run)
        there = Workspace.open(Path(), connections, found.environment)
        there.journal = workspace.journal
        flow = Flow.of(there, found)
        about = {"id": found.id, "environment": found.environment}
        records = workspace.journal.records(found.id)
        recorded = Recorded(flow.program, flow.document, flow.inner, records, about, found.trigger, found.parameters)
        origin = origin_of(recorded, path, found.outputs, found.business_key)
    finally:
        workspace.close()
    mask = workspace.project.mask
    if as_json:
        click.echo(mask(json.dumps({"run": found.id, **origin.json()}, ensure_ascii=False)))
    else:
        text = tree(origin, strong=lambda t: click.style(t, bold=True), faint=lambda t: click.style(t, dim=True))
        click.echo(mask(text), nl=False)
    return YES
