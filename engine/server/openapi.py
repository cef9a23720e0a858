"""The API's own description: OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

STATUSES = ["queued", "running", "waiting", "interrupted", "succeeded", "failed", "cancelled", "superseded"]
TEXT: dict[str, Any] = {"type": "string"}


def document() -> dict[str, Any]:
    """The description of /api/v1."""
    run = {"$ref": "#/components/schemas/Run"}
    id = {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": TEXT,
        "description": "Id, unique beginning, or number",
    }
    accepted = _answer("It goes on; look at the run for what becomes of it", _object(run=TEXT))
    return {
        "openapi": "3.1.0",
        "info": {"title": "flowrun", "version": "1", "description": "Runs of the served flows"},
        "security": [{"token": []}],
        "paths": {
            "/api/v1/runs": {
                "get": {
                    "summary": "Runs, newest first",
                    "parameters": [
                        _query("status", {"enum": STATUSES}), _query("flow", TEXT),
                        _query("before", {"type": "integer"}), _query("limit", {"type": "integer", "maximum": 1000}),
                    ],
                    "responses": {"200": _answer("Runs", _object(runs={"type": "array", "items": run}))},
                },
                "post": {
                    "summary": "Starts a run of a served flow",
                    "requestBody": _content(_object(["flow"], flow=TEXT, trigger=TEXT, input={})),
                    "responses": {"202": _answer("Queued", _object(run=TEXT, created={"type": "boolean"}))},
                },
            },
            "/api/v1/runs/{id}": {
                "parameters": [id],
                "get": {"summary": "A run with its records", "responses": {"200": _answer("The run", run)}},
            },
            "/api/v1/runs/{id}/resume": {
                "parameters": [id],
                "post": {"summary": "Goes on with a run that failed", "responses": {"202": accepted}},
            },
            "/api/v1/runs/{id}/resolve": {
                "parameters": [id],
                "post": {
                    "summary": "Says what became of a write whose answer was lost",
                    "requestBody": _content(
                        _object(["step", "what"], step=TEXT, what={"enum": ["done", "repeat"]}, body={})
                    ),
                    "responses": {"202": accepted},
                },
            },
            "/api/v1/runs/{id}/cancel": {
                "parameters": [id],
                "post": {"summary": "Ends a run", "responses": {"202": accepted}},
            },
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Run": _object(id=TEXT, number={"type": "integer"}, flow=TEXT, status={"enum": STATUSES},
                                       key={"type": ["string", "null"]}, lane={"type": ["string", "null"]},
                                       error={"type": ["object", "null"]}, outputs={}, started=TEXT,
                                       ended={"type": ["string", "null"]}, wake={"type": ["string", "null"]})},
        },
    }  # fmt: skip


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _object(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answer(words: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
