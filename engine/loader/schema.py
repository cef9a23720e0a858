"""JSON Schema (draft 2020-12) out of types: of flow documents, out of the model, and of operations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

from engine.contract import Operation
from engine.model import STEP_KINDS, TRIGGER_KINDS, Flow, Step, Trigger
from engine.types import Doc, Pattern, Range, Schema, Secret, fields


def flow_schema(calls: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The JSON Schema of flow documents: what the loader uses and `flowrun schema` prints.

    `calls` maps alias.operation to the schema of its inputs; each becomes one more if/then of the call step.
    """
    refs: dict[Any, str] = {Step: "#/$defs/step", Trigger: "#/$defs/trigger"}
    definitions: dict[str, Any] = {f"{key}_step": schema(kind, refs) for key, kind in STEP_KINDS.items()}
    definitions |= {f"{key}_trigger": schema(kind, refs) for key, kind in TRIGGER_KINDS.items()}
    definitions["step"] = _chain(tuple(STEP_KINDS), "_step")
    definitions["trigger"] = _chain(tuple(TRIGGER_KINDS), "_trigger")
    if calls:
        call = definitions["call_step"]
        call["properties"]["call"] = {**call["properties"]["call"], "examples": sorted(calls)}
        call["allOf"] = [
            {
                "if": {"properties": {"call": {"const": name}}, "required": ["call"]},
                "then": {
                    "properties": {"with": templated(inputs)},
                    **({"required": ["with"]} if inputs.get("required") else {}),
                },
            }
            for name, inputs in calls.items()
        ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flowrun flow",
        **schema(Flow, {k: v for k, v in refs.items() if k is not Flow}),
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
    template = {"type": "string", "pattern": r"\{\{"}

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
        if not piece:
            return {}
        described = {"description": piece["description"]} if "description" in piece else {}
        return {"anyOf": [inner({k: v for k, v in piece.items() if k != "description"}), template], **described}

    return inner(inputs)


@cache
def input_schema(operation: Operation) -> dict[str, Any]:
    """The schema of an operation's inputs: a closed object."""
    return _object(operation.inputs, closed=True, doc=operation.doc.split("\n\n", 1)[0])


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
        return _object(fields(tp), closed=not is_typeddict(tp), refs=refs, doc=tp.__doc__ or "")
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
    members: Mapping[str, tuple[Any, bool]], *, closed: bool, refs: Mapping[Any, str] | None = None, doc: str = ""
) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "object", "properties": {key: schema(tp, refs) for key, (tp, _) in members.items()}}
    if needed := [key for key, (_, required) in members.items() if required]:
        out["required"] = needed
    if closed:
        out["additionalProperties"] = False
    if doc and not doc.startswith("dict("):
        out["description"] = " ".join(doc.split())
    return out
