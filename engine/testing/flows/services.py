"""The sandbox's services in memory, for one case: set up as it says, failing where it says, every write counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote

import requests
from requests.adapters import BaseAdapter

from engine.connections.config import Environment, OpenConnections, Project
from engine.connections.sandboxed import emulators
from engine.connections.session import READ_METHODS
from engine.contract import Clock
from engine.errors import ConfigError, DataError
from engine.sandbox import FAULTS, WSGI, Emulator, Faults, Reply, Store, WSGIAdapter
from engine.sandbox.emulator import respond
from engine.testing.flows.document import Fault
from engine.types import JSON


@runtime_checkable
class Records(Protocol):
    """Whose records a test sets up and looks at: an emulator, or a connector that keeps its own (in a file, say)."""

    collections: Mapping[str, tuple[str, str]]  # collection → kind, property that is a record's id

    def records(self, collection: str) -> list[JSON]: ...
    def put_record(self, collection: str, record: Mapping[str, JSON]) -> None: ...
    def remove_record(self, collection: str, id: str) -> None: ...


def emulator_of(project: Project, environment: Environment, entry: str) -> type[Emulator] | None:
    """The emulator that answers a connection, None where there is none."""
    connector = project.connector_name(environment, entry)
    return next((e for e in emulators() if connector in e.connections), None)


def collections_of(project: Project, environment: Environment, entry: str) -> dict[str, str]:
    """The collections behind a connection: name → the property that is a record's id."""
    found = emulator_of(project, environment, entry) or project.connector(project.connector_name(environment, entry))
    collections = getattr(found, "collections", {})
    return {name: id for name, (_, id) in collections.items()}


class Services:
    """The emulators of one case, and the connections to them. `writes` counts requests that changed something."""

    def __init__(self, project: Project, environment: Environment, clock: Clock, folder: Path) -> None:
        self.writes = 0
        self.failing: list[tuple[Fault, frozenset[str]]] = []  # what is to strike, and at which hosts
        self._store = Store()
        self._emulators = [kind(self._store, clock) for kind in emulators()]
        mounted = {host: WSGIAdapter(self._wire(e)) for e in self._emulators for host in e.hosts}
        self._project = _CaseProject(project, folder, _Mounted(mounted))
        self._environment = environment
        self.connections = OpenConnections(self._project, environment, clock)

    def close(self) -> None:
        self.connections.close()
        self._store.close()

    def emulator(self, entry: str) -> Emulator | None:
        """The emulator that answers a connection, None where there is none."""
        kind = emulator_of(self._project, self._environment, entry)
        return next((e for e in self._emulators if type(e) is kind), None)

    def holder(self, entry: str) -> Records:
        """Who has the records behind a connection. Raises ConfigError."""
        found = self.emulator(entry) or self.connections[entry]
        if isinstance(found, Records):
            return found
        raise ConfigError(f"what '{entry}' keeps can't be looked at", code="NoRecords")

    def put(self, entry: str, collection: str, records: Iterable[Mapping[str, JSON]]) -> None:
        """Makes a collection hold these records and no others, each laid over the one of its id. Raises DataError."""
        holder = self.holder(entry)
        id = holder.collections[collection][1]
        before = {str(record[id]).lower(): record for record in holder.records(collection)}
        for index, record in enumerate(records):
            try:
                holder.put_record(collection, _laid(before.pop(str(record[id]).lower(), {}), record))
            except ValueError as error:
                raise DataError(f"{collection}[{index}]: {error}", code="Record") from error
        for record in before.values():
            holder.remove_record(collection, str(record[id]))

    def _wire(self, emulator: Emulator) -> WSGI:
        """The emulator behind a wire that counts what it has done and breaks when it is told to."""

        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            def started(status: str, headers: Any, error: Any = None) -> Any:
                # Who answers for no connection of its own (sign-in) keeps no records of anybody's.
                changes = environ["REQUEST_METHOD"] not in READ_METHODS and int(status[:3]) < 400
                self.writes += changes and bool(emulator.connections)
                return start_response(status, headers, error)

            return emulator(environ, started)

        faults = Faults(counted)

        def wire(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            struck = self._strikes(environ)
            if struck is None:
                return counted(environ, start_response)
            if struck in FAULTS:
                faults.once.append((environ["REQUEST_METHOD"], "", struck))
                return faults(environ, start_response)
            error = {"error": {"code": struck, "message": f"fault on demand: {struck}"}}
            return respond(Reply(int(struck), error), start_response)

        return wire

    def _strikes(self, environ: Mapping[str, Any]) -> str | None:
        """The fault that this request meets, which is then done with."""
        method, host, path = environ["REQUEST_METHOD"], environ["HTTP_HOST"].lower(), unquote(environ["RAW_URI"])
        for entry in self.failing:
            fault, hosts = entry
            by_method = method == fault.method.upper() if fault.method else fault.fault != "lost" or method != "GET"
            if by_method and host in hosts and (fault.path or "") in path:
                self.failing.remove(entry)
                return str(fault.fault)
        return None


class _Mounted(dict[str, BaseAdapter]):
    """The emulators by host; any other host is refused, this machine's too."""

    def get(self, host: str, default: Any = None) -> Any:
        return super().get(host) or _Nobody(host)


class _Nobody(BaseAdapter):
    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        hint = "pin what the step gives: `steps: {NAME: {body: …}}`"
        raise ConfigError(f"no emulator answers for {self.host}, and tests reach nothing else", code="NoEmulator",
                          hint=hint)  # fmt: skip

    def close(self) -> None:
        pass


class _CaseProject(Project):
    """A project whose state is a case's own."""

    def __init__(self, project: Project, state: Path, mounted: Mapping[str, BaseAdapter]) -> None:
        self.__dict__.update(project.__dict__)
        self.state = state
        self._mounted = mounted

    def sandbox(self, environment: Environment) -> Mapping[str, BaseAdapter]:
        return self._mounted


def _laid(below: JSON, above: Mapping[str, JSON]) -> dict[str, JSON]:
    """An object laid over another; lists are taken whole."""
    out = dict(below or {})
    for key, value in above.items():
        out[key] = _laid(out[key], value) if isinstance(value, Mapping) and isinstance(out.get(key), Mapping) else value
    return out
