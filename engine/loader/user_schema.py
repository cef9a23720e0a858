"""JSON Schemas that stand in documents: of inputs, of events, of what a `parse` step reads."""

from __future__ import annotations

from collections.abc import Iterator

from engine.loader.document import Path, value_at
from engine.types import JSON


def faults_of_schema(schema: JSON) -> list[tuple[Path, str]]:
    """What is wrong with a JSON Schema in a document, with the place in it: it has to be valid and whole in itself."""
    if not isinstance(schema, dict):
        return []
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    if error is not None:
        return [(tuple(error.absolute_path), error.message[:200])]
    return [(path, "$ref leads to nothing in it") for path in _dangling(schema, schema)]


def _dangling(schema: JSON, root: JSON, path: Path = ()) -> Iterator[Path]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                parts = [p.replace("~1", "/").replace("~0", "~") for p in value.removeprefix("#").split("/")[1:]]
                steps = [int(p) if p.isdigit() else p for p in parts]
                if not value.startswith("#") or (parts and value_at(root, steps) is None):
                    yield (*path, key)
            yield from _dangling(value, root, (*path, key))
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            yield from _dangling(value, root, (*path, i))
