"""What `flowrun import` reads: exported packages, solutions, definitions, Logic Apps workflows, ARM templates.

Shapes: Power Automate's legacy package (zip with Microsoft.Flow/flows/…/definition.json) and solution (zip with
Workflows/….json); a definition alone; a Logic Apps project's NAME/workflow.json with parameters.json and
connections.json beside it; ARM templates with Microsoft.Logic/workflows. Nothing is unpacked to disk.
"""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from engine.errors import ConfigError
from engine.types import JSON
from engine.wdl import arm
from engine.wdl.relaxed import Text, loads

MOST_ENTRIES = 200
MOST_BYTES = 20 * 1024 * 1024
GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True)
class Source:
    """One flow in a package. `apis` is connection key → API name (`shared_office365`); `values` are parameters'."""

    title: str
    definition: Mapping[str, JSON]
    text: Text
    cloud: bool  # of Power Automate, else of Logic Apps
    id: str = ""
    apis: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, JSON] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Package:
    """A package: what it says of itself, and its flows."""

    file: str
    shape: str
    title: str
    sources: tuple[Source, ...]
    details: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """What in its files isn't JSON."""
        return tuple(f"{s.text.file}: {fault}" for s in self.sources for fault in s.text.faults)


Files = Mapping[str, Callable[[], bytes]]


def open_package(path: Path) -> Package:
    """Reads a package. Raises ConfigError for what is none, is too large, or holds no flow."""
    if not path.exists():
        raise ConfigError(f"can't read {path}: there is no such file", code="NoFile")
    if path.is_dir():
        files: Files = {str(PurePosixPath(p.relative_to(path))): p.read_bytes for p in _files(path)}
    elif zipfile.is_zipfile(path):
        files = _zipped(path)
    else:
        return _single(path)
    package = _legacy(path, files) or _solution(path, files) or _project(path, files)
    if package is None:
        raise ConfigError(
            f"{path} holds no flow", code="NoFlow", hint="a package has Microsoft.Flow/flows/…/definition.json"
        )
    return package


def _files(folder: Path) -> list[Path]:
    found = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in (".json", ".xml")]
    if len(found) > MOST_ENTRIES or sum(p.stat().st_size for p in found) > MOST_BYTES:
        raise ConfigError(f"{folder} holds more than a package does", code="TooLarge")
    return found


def _zipped(path: Path) -> Files:
    """The files of an archive by name, each read when it is needed. Raises ConfigError."""
    try:
        archive = zipfile.ZipFile(path)
        entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ConfigError(f"{path} is no readable zip: {error}", code="Zip") from error
    if len(entries) > MOST_ENTRIES:
        raise ConfigError(f"{path} has {len(entries)} entries; {MOST_ENTRIES} are allowed", code="TooLarge")
    if sum(e.file_size for e in entries) > MOST_BYTES:
        raise ConfigError(f"{path} is larger than {MOST_BYTES} bytes when it is unpacked", code="TooLarge")
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or re.match(r"[A-Za-z]:", name):
            raise ConfigError(f"{path}: the entry '{entry.filename}' leads out of the package", code="Path")
        if entry.flag_bits & 1:
            raise ConfigError(f"{path}: '{entry.filename}' is encrypted", code="Zip")

    def reading(entry: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                with archive.open(entry) as file:
                    data = file.read(MOST_BYTES + 1)
            except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError) as error:
                raise ConfigError(f"{path}: '{entry.filename}' can't be read: {error}", code="Zip") from error
            if len(data) > MOST_BYTES:
                raise ConfigError(f"{path}: '{entry.filename}' is too large", code="TooLarge")
            return data

        return read

    return {e.filename.replace("\\", "/"): reading(e) for e in entries if not e.is_dir()}


# Shapes


def _legacy(path: Path, files: Files) -> Package | None:
    names = [n for n in files if re.search(r"(^|/)Microsoft\.Flow/flows/[^/]+/definition\.json$", n)]
    if not names:
        return None
    root = names[0].split("Microsoft.Flow/")[0]
    manifest = loads(files[f"{root}manifest.json"](), "manifest.json").value if f"{root}manifest.json" in files else {}
    details = _at(manifest, "details")
    said = [str(details[k]) for k in ("creator", "createdTime", "description") if details.get(k)]
    sources = tuple(_exported(loads(files[n](), n), n) for n in names)
    return Package(
        str(path), "Power Automate package", str(details.get("displayName") or path.stem), sources, tuple(said)
    )


def _solution(path: Path, files: Files) -> Package | None:
    names = [n for n in files if re.search(r"(^|/)Workflows/[^/]+\.json$", n)]
    texts = [loads(files[n](), n) for n in names]
    sources = []
    for text in texts:
        if _at(text.value, "properties").get("definition"):
            data = files.get(f"{text.file}.data.xml")
            found = re.search(rb'\bName="([^"]*)"', data()) if data else None
            name = html.unescape(found[1].decode("utf-8", "replace")) if found else ""
            sources.append(_exported(text, text.file, name))
    if not sources:
        return None
    about = next((files[n]() for n in files if n.endswith("solution.xml")), b"")
    found = re.search(rb'<LocalizedName description="([^"]*)"', about)
    title = html.unescape(found[1].decode("utf-8", "replace")) if found else path.stem
    return Package(str(path), "Power Platform solution", title, tuple(sources))


def _project(path: Path, files: Files) -> Package | None:
    sources = []
    for name in files:
        if name.rpartition("/")[2] == "workflow.json":
            folder = PurePosixPath(name).parent
            beside = {n: files[str(folder.parent / n)] for n in _BESIDE if str(folder.parent / n) in files}
            sources.append(_workflow(loads(files[name](), name), folder.name or path.stem, beside))
    for name in files:
        if name.endswith(".json") and not sources:
            text = loads(files[name](), name)
            sources += list(_any(text, PurePosixPath(name).stem, {}))
    return Package(str(path), "Logic Apps project", path.stem, tuple(sources)) if sources else None


_BESIDE = ("parameters.json", "connections.json")


def _single(path: Path) -> Package:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} is larger than {MOST_BYTES} bytes", code="TooLarge")
        text = loads(path.read_bytes(), path.name)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}", code="NoFile") from error
    stem = path.stem if path.name not in ("workflow.json", "definition.json") else path.absolute().parent.name
    beside = {
        n: (path.absolute().parent.parent / n).read_bytes
        for n in _BESIDE
        if (path.absolute().parent.parent / n).is_file()
    }
    sources = tuple(_any(text, stem, beside))
    if not sources:
        hint = "a definition has `triggers` and `actions`; an export has them under properties.definition"
        raise ConfigError(f"{path} holds no flow", code="NoFlow", hint=hint)
    shape = "ARM template" if isinstance(text.value, dict) and "resources" in text.value else "definition"
    return Package(str(path), shape, sources[0].title, sources)


def _any(text: Text, title: str, beside: Mapping[str, Callable[[], bytes]]) -> Iterator[Source]:
    """The flows in a file of any shape."""
    value = text.value
    if not isinstance(value, dict):
        return
    if isinstance(_at(value, "properties").get("definition"), dict):
        yield _exported(text, title)
    elif isinstance(value.get("definition"), dict) and "kind" not in value.get("definition", {}):
        yield _workflow(text, title, beside)
    elif isinstance(value.get("resources"), list):
        for name, properties, notes in arm.workflows(value):
            references = _at(_at(_at(properties, "parameters"), "$connections"), "value")
            values = {k: v.get("value") for k, v in _at(properties, "parameters").items() if isinstance(v, dict)}
            yield Source(
                name or title,
                properties["definition"],
                text,
                cloud=False,
                apis=_apis(references),
                values=values,
                notes=notes,
            )
    elif isinstance(value.get("actions"), dict) or isinstance(value.get("triggers"), dict):
        yield Source(title, value, text, cloud="$authentication" in _at(value, "parameters"))


def _exported(text: Text, file: str, title: str = "") -> Source:
    """A flow as Power Automate exports it, or a Logic App as its REST API gives it."""
    properties = _at(text.value, "properties")
    definition = _at(properties, "definition")
    references = _at(properties, "connectionReferences") or _at(
        _at(_at(properties, "parameters"), "$connections"), "value"
    )
    stem = re.sub(rf"-?{GUID.pattern}$", "", PurePosixPath(file).stem) if "Workflows/" in file else ""
    title = title or str(properties.get("displayName") or stem or text.value.get("name") or PurePosixPath(file).stem)
    ids = GUID.findall(f"{text.value.get('name')} {file}")
    cloud = "Microsoft.Logic" not in str(text.value.get("type")) or "connectionReferences" in properties
    return Source(title, definition, text, cloud=cloud, id=ids[0].lower() if ids else "", apis=_apis(references))


def _workflow(text: Text, title: str, beside: Mapping[str, Callable[[], bytes]]) -> Source:
    """A workflow of Logic Apps Standard, with the files of its project."""
    given = {name: loads(read(), name).value for name, read in beside.items()}
    connections = given.get("connections.json") or {}
    references = {**_at(connections, "managedApiConnections"), **_at(connections, "serviceProviderConnections")}
    values = {k: v.get("value") for k, v in (given.get("parameters.json") or {}).items() if isinstance(v, dict)}
    return Source(title, text.value["definition"], text, cloud=False, apis=_apis(references), values=values)


def _apis(references: Mapping[str, JSON]) -> dict[str, str]:
    """Connection key → name of the API behind it."""
    out = {}
    for key, reference in references.items():
        about = reference if isinstance(reference, dict) else {}
        api = _at(about, "api")
        id = next((i for i in (about.get("id"), api.get("id"), _at(about, "serviceProvider").get("id")) if i), "")
        found = re.search(r"(?:managedApis|apis|serviceProviders)/(?:'\s*,\s*')?([\w-]+)", str(id))
        out[key] = str(api.get("name") or (found[1] if found else ""))
    return out


def _at(value: JSON, key: str) -> dict[str, JSON]:
    """An object's member that is an object, else an empty one."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
