"""JSON Schema (draft 2020-12) out of types: of flow documents, out of the model, and of operations."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

from engine.contract import Operation
from engine.model import STEP_KINDS, TRIGGER_KINDS, Alerts, Flow, Holds, Step, Trigger
from engine.types import Doc, Pattern, Range, Schema, Secret, fields

# Where an operation is called: the definition, its key that names the operation, and its inputs under `with`.
CALLS = {"call_step": "call", "poll_trigger": "poll", "alerts": "to"}
TEMPLATE = r"\{\{"  # any text with it is taken in place of a typed input


def flow_schema(calls: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The JSON Schema of flow documents: what the loader uses; `flowrun schema` prints it with more for editors.

    `calls` maps alias.operation to the schema of its inputs; wherever one is called its `with` has to fit that.
    """
    refs: dict[Any, str] = {Step: "#/$defs/step", Trigger: "#/$defs/trigger", Alerts: "#/$defs/alerts"}
    definitions: dict[str, Any] = {}
    for name, kinds in (("step", STEP_KINDS), ("trigger", TRIGGER_KINDS)):
        for key, kind in kinds.items():
            definitions[f"{key}_{name}"] = {**schema(kind, refs), "title": f"{key} {name}"}
        definitions[name] = {"title": name, **_chain(tuple(kinds), f"_{name}")}
    definitions["alerts"] = schema(Alerts)
    for holder, key in CALLS.items() if calls else ():
        definitions[holder]["allOf"] = [
            {
                "if": {"properties": {key: {"type": "string", "pattern": f"^{re.escape(name)}$"}}, "required": [key]},
                "then": {
                    "properties": {"with": {"$ref": f"#/$defs/{name}"}},
                    **({"required": ["with"]} if inputs.get("required") else {}),
                },
            }
            for name, inputs in (calls or {}).items()
        ]
    definitions |= {name: {**templated(inputs), "title": f"inputs of {name}"} for name, inputs in (calls or {}).items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema(Flow, refs),
        "title": "flowrun flow",
        "$defs": definitions,
    }


def _chain(keys: tuple[str, ...], suffix: str) -> dict[str, Any]:
    """if/then on the key that is there, so that messages are about the kind at hand."""
    out: dict[str, Any] = {"anyOf": [{"required": [key]} for key in keys], "$comment": "one key says what it is"}
    for key in reversed(keys):
        out = {"if": {"required": [key]}, "then": {"$ref": f"#/$defs/{key}{suffix}"}, "else": out}
    return {"type": "object", **out}


def templated(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of inputs where every value may be a text holding `{{` instead; it is checked again once rendered."""
    template = {"type": "string", "pattern": TEMPLATE}

    def inner(piece: Mapping[str, Any]) -> dict[str, Any]:
        out = dict(piece)
        if "properties" in out:
            out["properties"] = {k: outer(v) for k, v in out["properties"].items()}
        for key in ("items", "additionalProperties"):
            if isinstance(out.get(key), dict) and out[key]:
                out[key] = outer(out[key])
        if "anyOf" in out:
            out["anyOf"] = [inner(option) for option in out["anyOf"]]
        return out

    def outer(piece: Mapping[str, Any]) -> dict[str, Any]:
        said = {k: v for k, v in piece.items() if k in ("description", "default")}
        bare = {k: v for k, v in piece.items() if k not in said}
        if not bare or ("string" in bare.get("type", ()) and "pattern" not in bare):
            return dict(piece)  # takes any text
        return {"anyOf": [inner(bare), template], **said}

    return inner(inputs)


@cache
def input_schema(operation: Operation) -> dict[str, Any]:
    """The schema of an operation's inputs: a closed object."""
    defaults = {p.name: p.default for p in inspect.signature(operation.function).parameters.values()}
    return _object(operation.inputs, defaults, closed=True, doc=operation.doc.split("\n\n", 1)[0])


@cache
def output_schema(operation: Operation) -> dict[str, Any]:
    """The schema of its result's body."""
    return schema(operation.body_type)


def schema(tp: Any, refs: Mapping[Any, str] | None = None) -> dict[str, Any]:
    """The JSON Schema of a type. `refs` maps types that are defined elsewhere to their `$ref`."""
    refs = refs or {}
    if isinstance(tp, type) and tp in refs:
        return {"$ref": refs[tp]}
    origin = get_origin(tp)
    if origin is Annotated:
        inner, *marks = get_args(tp)
        out = schema(inner, refs)
        for mark in marks:
            match mark:
                case Doc(text):
                    out = {**out, "description": text}
                case Pattern(regex, words):
                    out = {**out, "pattern": f"^(?:{regex})$", **({"x-words": words} if words else {})}
                case Range(least, most):
                    out = {**out, **({} if least is None else {"minimum": least})}
                    out = {**out, **({} if most is None else {"maximum": most})}
                case Schema(of):
                    out = {**out, **of}
                case Holds(what):
                    out = {**out, "x-holds": what}
        return out
    if origin in (Union, UnionType):
        parts = [schema(part, refs) for part in get_args(tp)]
        simple = [p["type"] for p in parts if set(p) == {"type"} and isinstance(p["type"], str)]
        return {"type": simple} if len(simple) == len(parts) else {"anyOf": parts}
    if origin is Literal:
        return {"enum": list(get_args(tp))}
    if origin is list:
        return {"type": "array", "items": schema(get_args(tp)[0], refs)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema(get_args(tp)[1], refs)}
    if tp is Secret:
        return {"type": "string", "format": "password", "writeOnly": True}
    if dataclasses.is_dataclass(tp) or is_typeddict(tp):
        closed = not is_typeddict(tp)
        defaults = dict(zip(fields(tp), (f.default for f in dataclasses.fields(tp)), strict=True)) if closed else {}
        return {**_object(fields(tp), defaults, closed=closed, refs=refs, doc=tp.__doc__ or ""), "title": tp.__name__}
    return dict(_PLAIN[tp])


_PLAIN: dict[Any, dict[str, Any]] = {
    Any: {},
    NoneType: {"type": "null"},
    None: {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    list: {"type": "array"},
    dict: {"type": "object"},
}


def _object(
    members: Mapping[str, tuple[Any, bool]],
    defaults: Mapping[str, Any],
    *,
    closed: bool,
    refs: Mapping[Any, str] | None = None,
    doc: str = "",
) -> dict[str, Any]:
    """An object of these keys: (type, required). Of their defaults those are told that say something."""
    properties = {key: schema(tp, refs) for key, (tp, _) in members.items()}
    for key, default in defaults.items():
        if isinstance(default, str | int | float) and default != "" and key in properties:
            properties[key] = {**properties[key], "default": default}
    out: dict[str, Any] = {"type": "object", "properties": properties}
    if needed := [key for key, (_, required) in members.items() if required]:
        out["required"] = needed
    if closed:
        out["additionalProperties"] = False
    if doc and not doc.startswith("dict("):
        out["description"] = " ".join(doc.split())
    return out
