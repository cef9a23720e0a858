"""connections.yaml: environments and their connections; from there to open connectors.

Only this file and the command line may name code; flows are data. Connectors come from the entry-point group
`flowrun.connectors`, from `plugins:` (a folder beside the file), or from `connector: module:Class`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from engine.connections.entra import MemoryTokens
from engine.connections.limits import Limits
from engine.connections.secrets import Mask, resolver, secrets_in
from engine.contract import Clock, Connector, Context, Result, TokenStore
from engine.errors import ConfigError, DataError, did_you_mean
from engine.loader import Document, load
from engine.loader.document import Path as Path_
from engine.loader.findings import DocumentError
from engine.loader.fit import compare
from engine.loader.schema import schema
from engine.model import Duration, seconds
from engine.types import JSON, Doc, convert, fields

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter

    from engine.connections.session import Transport

FILE = "connections.yaml"
SANDBOX = "sandbox"


@dataclass(frozen=True, kw_only=True)
class Emulate:
    """The sandbox's faults on demand."""

    latency: Annotated[Duration | None, Doc("Wait before each answer")] = None
    faults: Annotated[dict[str, float] | None, Doc("Fault: how often, from 0 to 1")] = None
    seed: Annotated[int | None, Doc("Makes the faults repeatable")] = None


@dataclass(frozen=True, kw_only=True)
class EnvironmentEntry:
    """An environment as connections.yaml has it."""

    emulate: bool | Emulate | None = None
    production: bool | None = None
    route: Annotated[dict[str, str] | None, Doc("Host: loopback URL that answers for it")] = None
    connections: Annotated[dict[str, dict[str, Any]] | None, Doc("Name: connector's settings")] = None


@dataclass(frozen=True, kw_only=True)
class ConnectionsFile:
    """connections.yaml."""

    environments: dict[str, EnvironmentEntry | None] | None = None
    plugins: Annotated[str | list[str] | None, Doc("Folders of connectors, beside this file")] = None


@dataclass(frozen=True, kw_only=True)
class TransportEntry:
    """What any connection may say of the way to its hosts, beside its connector's own settings."""

    hosts: Annotated[list[str], Doc("More hosts that it may reach")] = field(default_factory=list)
    private: Annotated[list[str], Doc("Hosts that may have a private address")] = field(default_factory=list)
    proxy: str | None = None
    ca: Annotated[str | None, Doc("File with the certificates to trust")] = None
    timeout: Annotated[Duration, Doc("For one request")] = "2m"
    limits: Annotated[Limits, Doc("What it may ask of the service, in this process")] = field(default_factory=Limits)


@dataclass(frozen=True)
class Environment:
    """One environment of connections.yaml. `emulate` holds latency, faults and seed of the sandbox."""

    name: str
    production: bool = False
    emulate: Mapping[str, JSON] | None = None
    route: Mapping[str, str] = field(default_factory=dict)
    connections: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)


class Project:
    """A connections.yaml and the state beside it. Without a file there is the sandbox alone.

    `environment` are the variables that `${env:}` sees (os.environ, at the edge).
    """

    def __init__(self, file: Path | None, folder: Path, variables: Mapping[str, str], mask: Mask) -> None:
        self.file = file
        self.folder = file.parent if file else folder
        self.state = self.folder / ".flowrun"
        self.mask = mask
        self.resolve = resolver(variables, self.folder)
        self._sandboxes: dict[str, Mapping[str, BaseAdapter]] = {}
        self.document = self._load()

    @classmethod
    def find(cls, near: Path, given: Path | None, variables: Mapping[str, str], mask: Mask) -> Project:
        """The project of a flow: `given`, else the next connections.yaml from its folder upward, or in flows/."""
        if given is not None:
            return cls(given, given.parent, variables, mask)
        near = near.resolve()
        upward = [f / FILE for f in (near, *near.parents)]
        found = next((f for f in [*upward, near / "flows" / FILE] if f.is_file()), None)
        return cls(found, near, variables, mask)

    def _load(self) -> Document:
        if self.file is None:
            return Document("", "", {})
        try:
            document = load(self.file.read_text(encoding="utf-8"), str(self.file))
        except OSError as error:
            raise ConfigError(f"can't read {self.file}: {error.strerror}", code="NoFile") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.file} is no UTF-8 text (byte {error.start})", code="Encoding") from error
        if not document.findings:

            def report(path: Path_, code: str, message: str, *, key: bool = False, **more: Any) -> None:
                document.report(document.place(path, key=key), code, message, **more)

            compare(report, schema(ConnectionsFile), document.data)
        if document.findings:
            raise DocumentError(document.findings)
        return document

    def environment(self, name: str) -> Environment:
        """Raises ConfigError for an unknown one, or one that isn't safe."""
        known = (self.document.data or {}).get("environments") or {}
        if name not in known:
            if name == SANDBOX:
                return Environment(SANDBOX, emulate={})
            hint = did_you_mean(name, {*known, SANDBOX})
            raise ConfigError(f"no environment '{name}' in {self.file or FILE}", code="NoEnvironment", hint=hint)
        given = known[name] or {}
        emulate = given.get("emulate")
        route = {h.lower(): str(url) for h, url in (given.get("route") or {}).items()}
        production = bool(given.get("production"))
        if route:
            from engine.connections.session import is_loopback
        for host, url in route.items():
            if production:
                raise ConfigError(f"{name}: `route` is refused where `production: true`", code="Route")
            if not re.fullmatch(r"https?://[^/?#@]+/?", url) or not is_loopback(urlsplit(url).netloc):
                raise ConfigError(f"{name}: {host} can be routed to a loopback address only, not {url}", code="Route")
        if production and emulate:
            raise ConfigError(f"{name}: `emulate` is refused where `production: true`", code="Emulate")
        return Environment(
            name,
            production,
            ({} if emulate is True else emulate) if emulate else None,
            route,
            given.get("connections") or {},
        )

    def sandbox(self, environment: Environment) -> Mapping[str, BaseAdapter]:
        """The emulators of an environment as adapters: one set for all its connections, so they share their state."""
        if environment.name not in self._sandboxes:
            from engine.connections.sandboxed import mounted

            self._sandboxes[environment.name] = mounted(self.state, environment.emulate or {})
        return self._sandboxes[environment.name]

    @cached_property
    def _installed(self) -> Mapping[str, EntryPoint | Path]:
        found: dict[str, EntryPoint | Path] = {ep.name: ep for ep in entry_points(group="flowrun.connectors")}
        plugins = (self.document.data or {}).get("plugins")
        for given in [plugins] if isinstance(plugins, str) else plugins or []:
            folder = self.folder / given
            if not folder.is_dir():
                raise ConfigError(f"plugins: {folder} is no folder", code="Plugins")
            found |= {f.parent.name: f for f in sorted(folder.glob("*/connector.py"))}
            found |= {f.stem: f for f in sorted(folder.glob("*.py")) if f.stem != "__init__"}
        return found

    @property
    def connectors(self) -> list[str]:
        """Names of the installed connectors."""
        return sorted(self._installed)

    def connector(self, name: str) -> type[Connector]:
        """An installed connector, or `module:Class`. Raises ConfigError naming the remedy."""
        source = self._installed.get(name)
        try:
            if isinstance(source, EntryPoint):
                loaded = source.load()
            elif isinstance(source, Path):
                loaded = _from_file(source)
            elif ":" in name:
                module, _, attribute = name.partition(":")
                loaded = getattr(importlib.import_module(module), attribute)
            else:
                hint = did_you_mean(name, set(self._installed))
                raise ConfigError(f"no connector '{name}' is installed", code="NoConnector", hint=hint)
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:  # whatever a plugin does while it is imported
            where = source if isinstance(source, Path) else getattr(source, "value", name)
            hint = "install what it needs, or mend it; other connectors are not concerned"
            message = f"connector '{name}' ({where}) can't be loaded: {type(error).__name__}: {error}"
            raise ConfigError(message, code="BrokenConnector", hint=hint) from error
        if not (inspect.isclass(loaded) and issubclass(loaded, Connector)):
            raise ConfigError(f"connector '{name}' is no Connector class", code="BrokenConnector")
        return loaded

    def entries(self, environment: Environment) -> Mapping[str, type[Connector]]:
        """The connectors of an environment by connection entry, loaded when looked up."""
        return _Entries(self, environment)

    def connector_name(self, environment: Environment, entry: str) -> str:
        """Which connector an entry uses: its `connector`, else its own name."""
        return str(environment.connections.get(entry, {}).get("connector", entry))

    def settings(self, environment: Environment, entry: str) -> dict[str, JSON]:
        """An entry's settings with secrets resolved. Raises ConfigError."""
        given = {k: v for k, v in environment.connections.get(entry, {}).items() if k != "connector"}
        if environment.emulate is not None:
            from engine.connections.sandboxed import sandbox_settings

            given = {**sandbox_settings(self.connector_name(environment, entry)), **given}
        resolved: dict[str, JSON] = self.resolve(given, f"{environment.name}.{entry}")
        return resolved


class _Entries(Mapping[str, type[Connector]]):
    def __init__(self, project: Project, environment: Environment) -> None:
        self.project = project
        self.environment = environment

    def __iter__(self) -> Iterator[str]:
        if self.environment.emulate is not None:
            yield from self.project.connectors
        yield from (
            e
            for e in self.environment.connections
            if self.environment.emulate is None or e not in self.project.connectors
        )

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, entry: object) -> bool:
        return entry in list(iter(self))

    def __getitem__(self, entry: str) -> type[Connector]:
        if entry not in list(iter(self)):
            raise KeyError(entry)
        return self.project.connector(self.project.connector_name(self.environment, entry))


def _from_file(path: Path) -> Any:
    """The Connector class defined in a plugin file."""
    name = f"flowrun_plugin_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    classes = [
        c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Connector) and c.__module__ == name
    ]
    if len(classes) != 1:
        hint = "a plugin is one file, or folder with connector.py, that defines one Connector"
        raise ConfigError(f"{path} defines {len(classes)} connectors, not one", code="BrokenConnector", hint=hint)
    return classes[0]


class OpenConnections:
    """Connections of an environment by entry, each opened once, when it is first needed. Safe for several threads."""

    def __init__(
        self,
        project: Project,
        environment: Environment,
        clock: Clock,
        tokens: Callable[[str], TokenStore] = lambda _: MemoryTokens(),
    ) -> None:
        self.project = project
        self.environment = environment
        self.clock = clock
        self._tokens = tokens
        self._open: dict[str, Connector] = {}
        self._lock = threading.RLock()

    def __getitem__(self, entry: str) -> Connector:
        """The open connector of an entry. Raises ConfigError."""
        with self._lock:
            if entry not in self._open:
                self._open[entry] = self._connect(entry)
            return self._open[entry]

    def invoke(self, connection: str, operation: str, inputs: Mapping[str, JSON]) -> Result[Any]:
        return self[connection].invoke(operation, inputs)

    def targets(self, entries: Iterable[str]) -> dict[str, str]:
        """What each entry reaches: connector and hosts, without secrets. A resume must reach the same."""
        out = {}
        for entry in sorted(set(entries)):
            connector = self[entry]
            hosts = sorted(connector.hosts(connector.settings))
            out[entry] = " ".join([self.project.connector_name(self.environment, entry), *hosts])
        return out

    def close(self) -> None:
        for connector in self._open.values():
            connector.ctx.session.close()

    def _connect(self, entry: str) -> Connector:
        where = f"{self.environment.name}.{entry}"
        kind = self.project.connector(self.project.connector_name(self.environment, entry))
        given = self.project.settings(self.environment, entry)
        common = fields(TransportEntry).keys() - fields(kind.Settings).keys()
        try:
            transport = convert(TransportEntry, {k: given.pop(k) for k in common if k in given}, where)
            settings = convert(kind.Settings, given, where)
        except DataError as error:
            document, path = self.project.document, ("environments", self.environment.name, "connections", entry)
            place = f"{document.place(path, key=True)}: " if path in document.values else ""
            raise ConfigError(f"{place}{error.message}", code=error.code, hint=error.hint) from error
        from engine.connections.session import Session, is_loopback

        for secret in secrets_in(settings):
            self.project.mask.add(secret)
        hosts = kind.hosts(settings) | {h.lower() for h in transport.hosts}
        if self.environment.production and (near := sorted(h for h in hosts if is_loopback(h))):
            message = f"{where}: {near[0]} is refused where `production: true`"
            raise ConfigError(message, code="Loopback", hint="use another environment for a service on this machine")
        log = logging.getLogger(f"flowrun.{entry}")
        session = Session(hosts, self._transport(transport), self.clock, log)
        tokens = self._tokens(entry)
        folder = self.project.folder if self.environment.emulate is None else self.project.state
        return kind(settings, Context(session, self.clock, log, tokens, str(folder)))

    def _transport(self, given: TransportEntry) -> Transport:
        from engine.connections.session import Transport

        transport = Transport(
            route=self.environment.route,
            proxy=given.proxy,
            ca=str(self.project.folder / given.ca) if given.ca else None,
            private=frozenset(h.lower() for h in given.private),
            timeout=seconds(given.timeout),
            limits=given.limits,
            mask=self.project.mask,
        )
        if self.environment.emulate is None:
            return transport
        return replace(transport, mounted=self.project.sandbox(self.environment))
