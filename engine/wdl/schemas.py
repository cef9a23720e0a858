"""The JSON Schemas in a definition, as documents of flowrun hold them: of draft 2020-12, without doubled @."""

from __future__ import annotations

from typing import Any

from engine.loader.document import Path, value_at
from engine.loader.user_schema import faults_of_schema
from engine.types import JSON
from engine.wdl.work import Work

_MOST_FAULTS = 100


def plain_schema(w: Work, schema: JSON) -> dict[str, Any]:
    """A schema that is valid here; what an older draft writes otherwise is rewritten, the rest is left out and said."""
    plain = _plain(schema)
    if not isinstance(plain, dict):
        return {}
    gone = []
    for _ in range(_MOST_FAULTS):
        fault = next(iter(faults_of_schema(plain)), None)
        if fault is None:
            break
        path = fault[0]
        if not path:
            return {}
        gone.append(".".join(map(str, path)))
        del value_at(plain, path[:-1])[path[-1]]
    if gone:
        w.changes.append(f"its schema is without {', '.join(gone)}, which JSON Schema doesn't allow there")
    return plain


def _plain(value: JSON, path: Path = ()) -> JSON:
    if isinstance(value, list):
        return [_plain(v, (*path, i)) for i, v in enumerate(value)]
    if isinstance(value, str):
        return value[1:] if value.startswith("@@") else value
    if not isinstance(value, dict):
        return value
    found = {str(_plain(k)): _plain(v, (*path, k)) for k, v in value.items()}
    if path and path[-1] in ("properties", "const", "default", "examples", "enum"):
        return found
    if "draft-0" in str(found.get("$schema", "")):
        del found["$schema"]
    if isinstance(found.get("items"), list):
        found["prefixItems"] = found.pop("items")
    if isinstance(required := found.get("required"), list):
        found["required"] = list(dict.fromkeys(r for r in required if isinstance(r, str)))
    for limit in ("Minimum", "Maximum"):
        if isinstance(exclusive := found.get(f"exclusive{limit}"), bool):
            del found[f"exclusive{limit}"]
            if exclusive and (bound := limit.lower()) in found:
                found[f"exclusive{limit}"] = found.pop(bound)
    return found
