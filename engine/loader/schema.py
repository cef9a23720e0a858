"""The one JSON Schema of flow documents, out of the model and the connectors' own pieces (draft 2020-12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.model import STEP_KINDS, TRIGGER_KINDS, Flow, Step, Trigger
from engine.types import schema


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
