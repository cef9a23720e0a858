"""What the commands share: project, environment, journal and flow, put together from options."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.errors import ConfigError, FlowrunError
from engine.loader.findings import DocumentError, Place

if TYPE_CHECKING:
    from engine.connections.config import Environment, OpenConnections, Project
    from engine.connections.secrets import Mask
    from engine.loader import Catalog, Document
    from engine.local.journal import Journal
    from engine.local.starts import Flow

YES, NO, WRONG, WAITING, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass
class Workspace:
    """A project with one environment chosen. `named` is false when nobody named one and the sandbox was taken."""

    project: Project
    environment: Environment
    named: bool

    @classmethod
    def open(cls, near: Path, connections: Path | None = None, environment: str | None = None) -> Workspace:
        """Raises ConfigError."""
        from engine.connections.config import SANDBOX, Project

        project = Project.find(near, connections, os.environ, click.get_current_context().obj)
        name = environment or os.environ.get("FLOWRUN_ENV")
        return cls(project, project.environment(name or SANDBOX), bool(name))

    @cached_property
    def journal(self) -> Journal:
        from engine.local.journal import Journal

        return Journal(self.project.state, cipher=self._cipher, mask=self.project.mask)

    @cached_property
    def _cipher(self) -> Any:
        from engine.connections.tokens import cipher

        key = os.environ.get("FLOWRUN_KEY")
        if not key:
            return None
        self.project.mask.add(key)
        return cipher(key)

    @cached_property
    def catalog(self) -> Catalog:
        from engine.functions import FUNCTIONS
        from engine.loader import Catalog

        return Catalog(FUNCTIONS, self.project.entries(self.environment))

    @cached_property
    def connections(self) -> OpenConnections:
        """The environment's connections; with a key their sign-ins are kept in the journal's database."""
        from engine.connections.config import OpenConnections
        from engine.connections.tokens import JournalTokens
        from engine.contract import SystemClock

        if self._cipher is None:
            return OpenConnections(self.project, self.environment, SystemClock())
        name = self.environment.name
        return OpenConnections(
            self.project, self.environment, SystemClock(), lambda entry: JournalTokens(self.journal, f"{name}.{entry}")
        )

    def close(self) -> None:
        """Closes what was opened."""
        opened = self.__dict__
        for name in ("connections", "journal"):
            if name in opened:
                opened[name].close()


def read(file: Path | str) -> str:
    """A text file, or standard input for `-`. Raises ConfigError."""
    try:
        return sys.stdin.read() if str(file) == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read {file}: {error.strerror}", code="NoFile") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no UTF-8 text (byte {error.start})", code="Encoding") from error


def load_document(file: Path | str) -> Document:
    from engine.loader import load

    if str(file) == "-":
        return load(read(file), str(file))
    try:
        return load(Path(file).read_bytes(), str(file))
    except OSError as error:
        raise ConfigError(f"can't read {file}: {error.strerror}", code="NoFile") from error


def place_of(flow: Flow, path: str) -> Place | None:
    """Where the step of a run's path stands: in the flow's document, or in that of a flow that it runs."""
    from engine.model import Run, walk
    from engine.state import ancestors, name_of

    program, document = flow.program, flow.document
    for around in map(name_of, ancestors(path)):
        step = program.flow.all_steps.get(around)
        if isinstance(step, Run):
            program, document = program.flows[step.run], flow.inner[step.run]
    for block_path, block in walk(program.flow):
        if name_of(path) in block:
            return document.place((*block_path, name_of(path)), key=True)
    return None


def pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    """`k=v` options as a mapping."""
    out = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{option} takes name=value, not '{text}'")
        out[key] = value
    return out


def show_error(error: FlowrunError, mask: Mask) -> None:
    """An error in words on stderr."""
    if isinstance(error, DocumentError):
        for finding in error.findings:
            click.echo(mask(str(finding)), err=True)
    click.echo(mask(f"{error.kind} error: {error.message}"), err=True)
    if error.hint:
        click.echo(mask(f"  fix: {error.hint}"), err=True)
