"""`flowrun init`: a folder to begin in, with a flow that runs at once."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.wiring import YES
from engine.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from engine.connections.config import Project
    from engine.connections.secrets import Mask
    from engine.contract import Connector

STARTER = Path(__file__).parent / "starter"
FLOW = "flows/referral_to_crm.yaml"
# What the editor is told, and the command that says it.
SCHEMAS: Mapping[str, tuple[str, ...]] = {
    ".vscode/flow.schema.json": ("schema", FLOW),
    ".vscode/connections.schema.json": ("schema", "--for", "connections"),
    ".vscode/tests.schema.json": ("schema", "--for", "tests"),
}
TARGETS = {"gitignore": ".gitignore", "vscode": ".vscode"}  # a template's first part, where it is another one's


@click.command()
@click.argument("folder", default=Path(), type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--crm", default="dynamics365", show_default=True, metavar="CONNECTOR", help="The CRM that gets the leads."
)
@click.option("--force", is_flag=True, help="Writes over files that are there already.")
@click.pass_obj
def init(mask: Mask, folder: Path, crm: str, force: bool) -> int:
    """Makes FOLDER (default: this one) a project: flow, connections, tests, sample event, editor settings.

    Where one of its files is there already nothing is written, unless --force says to write over it.
    """
    from engine.connections.config import Project

    project = Project(None, folder, {}, mask)
    _check_crm(project, crm)
    files = dict(_files(project, crm))
    there = [name for name in (*files, *SCHEMAS) if (folder / name).exists()]
    if there and not force:
        message = f"in {folder} there is already: {', '.join(there)}; nothing was written"
        raise ConfigError(message, code="Exists", hint="choose another folder, or --force to write over them")
    for name, text in files.items():
        _write(folder / name, text)
    for name, command in SCHEMAS.items():
        _write(folder / name, _printed(folder, command, mask))
    click.echo(f"made in {folder}:")
    for name in (*files, *SCHEMAS):
        click.echo(f"  {name}{' (written over)' if name in there else ''}")
    click.echo("next:")
    for line in (*([f"cd {folder}"] if folder != Path() else []), f"flowrun {FLOW}", "flowrun test --coverage"):
        click.echo(f"  {line}")
    return YES


def _check_crm(project: Project, crm: str) -> None:
    """Raises ConfigError for a connector that isn't there, or is no CRM."""
    if "upsert_lead" not in project.connector(crm).operations():
        known = {name for name in project.connectors if _is_crm(project, name)}
        raise ConfigError(f"'{crm}' is no CRM: it has no upsert_lead", code="NoCrm", hint=did_you_mean(crm, known))


def _is_crm(project: Project, name: str) -> bool:
    with contextlib.suppress(ConfigError):  # a broken plugin
        return "upsert_lead" in project.connector(name).operations()
    return False


def _files(project: Project, crm: str) -> Iterator[tuple[str, str]]:
    """Each file of the project, from its folder, with its text."""
    production = "".join(_settings(project, entry) for entry in ("partner_center", crm))
    schemas = "".join(f"    flowrun {' '.join(command)} > {name}\n" for name, command in SCHEMAS.items())
    filled = {"<<crm>>": crm, "<<production>>\n": production, "<<schemas>>\n": schemas}
    for template in sorted(path for path in STARTER.rglob("*") if path.is_file()):
        first, *rest = template.relative_to(STARTER).with_suffix("").parts  # without .in
        text = template.read_text(encoding="utf-8")
        for mark, by in filled.items():
            text = text.replace(mark, by)
        yield "/".join((TARGETS.get(first, first), *rest)), text


def _settings(project: Project, entry: str) -> str:
    """A connection of connections.yaml: what the sandbox sets has to be set here too, from the environment."""
    from engine.connections.sandboxed import sandbox_settings
    from engine.types import fields

    kind: type[Connector] = project.connector(entry)
    sandboxed = sandbox_settings(entry)
    wanted = [
        key
        for key, (_, needed) in fields(kind.Settings).items()
        if needed or isinstance(sandboxed.get(key), str)  # what has members is for those who need it
    ]
    if not wanted:
        return f"      {entry}: {{}}\n"
    variables = {key: f"{entry}_{key}".upper() for key in wanted}
    lines = [f'        {key}: "${{env:{name}}}"' for key, name in variables.items()]
    return "\n".join([f"      {entry}:", *lines]) + "\n"


def _printed(folder: Path, command: tuple[str, ...], mask: Mask) -> str:
    """What a flowrun command prints in the new folder."""
    from engine.cli import cli
    from engine.connections.config import SANDBOX

    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        cli.main(args=[*command, "--env", SANDBOX], prog_name="flowrun", standalone_mode=False, obj=mask)
    return out.getvalue()


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't write {file}: {error.strerror}", code="NoWrite") from error
