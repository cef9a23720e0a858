"""The schema of connections.yaml for editors: what a connection's settings are depends on its connector."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from engine.connections.config import ConnectionsFile, EnvironmentEntry, TransportEntry
from engine.contract import Connector
from engine.loader.editor import Piece, explained, inside, shared
from engine.loader.schema import schema

REFERENCE = {"type": "string", "pattern": r"\$\{\w+:", "x-words": "a reference such as `${env:NAME}`"}
WORDS = {  # of what has no Doc
    "proxy": "URL of the proxy that its requests go through",
    "emulate": "The services are emulated inside the process: `true`, or the faults that are wanted",
    "production": "`true` refuses `emulate`, `route` and services on this machine",
}
NAMED = {"required": ["connector"]}
EMULATED = {"required": ["emulate"], "properties": {"emulate": {"anyOf": [{"const": True}, {"type": "object"}]}}}


def connections_schema(connectors: Mapping[str, type[Connector]]) -> Piece:
    """The schema of connections.yaml, of draft 2020-12, for these installed connectors.

    An entry has the settings of the connector that it is named like, or that it names under `connector`. Where services
    are emulated none is needed.
    """
    settings = {name: schema(kind.Settings) for name, kind in connectors.items()}
    needed = {name: {"required": piece.get("required", [])} for name, piece in settings.items()}
    entries, live = {}, {}
    for name, piece in settings.items():
        entries[name] = {
            "type": "object",
            "description": inspect.getdoc(connectors[name]) or "",
            **({"defaultSnippets": [{"label": name, "body": body}]} if (body := _body(name, piece)) else {}),
            "if": NAMED,
            "then": {"$ref": "#/$defs/connection"},
            "else": {"$ref": f"#/$defs/{name}"},
        }
        live[name] = {"doNotSuggest": True, "if": NAMED, "then": {"$ref": "#/$defs/complete"}, "else": needed[name]}
    environment = _worded(schema(EnvironmentEntry))
    environment["properties"]["connections"] |= {"$ref": "#/$defs/connections"}
    del environment["properties"]["connections"]["anyOf"]
    whole = schema(ConnectionsFile)
    whole["properties"]["environments"] = {
        "description": "Where the connections lead: to the sandbox, to a test tenant, to production",
        "additionalProperties": {"$ref": "#/$defs/environment"},
        **_named_by("environment_name", "What `--env` calls it; without `--env` it is `sandbox`"),
    }
    definitions = {
        "environment": {
            **environment,
            "type": ["object", "null"],
            "title": "environment",
            "if": EMULATED,
            "else": {"properties": {"connections": {"$ref": "#/$defs/live"}}},
        },
        "connections": {
            "title": "connections",
            "properties": entries,
            "additionalProperties": {"$ref": "#/$defs/connection"},
            **_named_by("connection_name", "What flows call it under their own `connections`"),
        },
        "connection": {
            "title": "connection",
            "type": "object",
            "properties": {"connector": _connector(connectors)},
            "required": ["connector"],
            "allOf": [_if_connector(name, {"$ref": f"#/$defs/{name}"}) for name in connectors],
        },
        "live": {"properties": live, "additionalProperties": {"$ref": "#/$defs/complete"}},
        "complete": {"allOf": [_if_connector(name, piece) for name, piece in needed.items()]},
        **{name: _settings(name, piece) for name, piece in settings.items()},
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "flowrun connections"}
    return shared(explained({**whole, **head, "$defs": definitions}))


def _named_by(title: str, words: str) -> Piece:
    """An object, or null, whose keys the author chooses: editors offer a name only where the type is `object` alone."""
    names = {"type": "object", "propertyNames": {"title": title, "description": words}}
    return {"type": ["object", "null"], "if": {"type": "object"}, "then": names}


def _settings(name: str, piece: Piece) -> Piece:
    """A connector's settings and what any connection may say of the way to its hosts; texts may be references."""
    common = _worded(schema(TransportEntry))["properties"]
    return {
        "type": "object",
        "title": f"{name} connection",
        "properties": {
            "connector": {"const": name, "description": "Needed where the entry isn't named like it"},
            **{key: _referable(member) for key, member in (common | piece["properties"]).items()},
        },
        "additionalProperties": False,
    }


def _worded(piece: Piece) -> Piece:
    members = piece["properties"].items()
    return {**piece, "properties": {k: {"description": WORDS.get(k, ""), **member} for k, member in members}}


def _referable(piece: Any) -> Any:
    """A setting where a text of a certain form may be a reference such as `${env:NAME}` instead."""
    if not isinstance(piece, dict):
        return piece
    if "pattern" not in piece and len(piece.get("enum", ())) < 2:  # one value alone tells kinds apart
        return inside(piece, _referable)
    said = {k: v for k, v in piece.items() if k in ("description", "default")}
    return {"anyOf": [{k: v for k, v in piece.items() if k not in said}, REFERENCE], **said}


def _connector(connectors: Mapping[str, type[Connector]]) -> Piece:
    known = [{"const": n, "title": n, "description": _summary(kind)} for n, kind in connectors.items()]
    words = "module:Class, or the name of an installed connector"
    return {
        "description": "Which connector it is; without it the one that the entry is named like",
        "anyOf": [*known, {"type": "string", "pattern": ":", "x-words": words}],
    }


def _summary(kind: type[Connector]) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n", 1)[0].split())


def _if_connector(name: str, then: Piece) -> Piece:
    return {"if": {**NAMED, "properties": {"connector": {"type": "string", "pattern": f"^{name}$"}}}, "then": then}


def _body(name: str, settings: Piece) -> Piece:
    """A snippet of the settings that are needed, and of the first secret as a reference."""
    wanted = list(settings.get("required", ()))
    secrets = [k for k, p in settings["properties"].items() if any("format" in o for o in (p, *p.get("anyOf", ())))]
    body = {key: f"${number}" for number, key in enumerate(wanted, 1)}
    for key in secrets[:1]:
        body[key] = f'"\\${{env:${{{len(wanted) + 1}:{name.upper()}_{key.upper()}}}}}"'
    return body
