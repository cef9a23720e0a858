"""Rows of Dataverse: what the Dynamics 365 and Dataverse connectors of Power Automate do, by the dynamics365 connector.

Three dialects: the old connector's paths (`/datasets/{org}/tables/{table}/items/{id}`, `_column_label`), the
Common Data Service's (`/v2/datasets/…`), and Dataverse's operations (`ListRecords`, `item/column`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.types import JSON
from engine.wdl.names import snake
from engine.wdl.pieces import Printed
from engine.wdl.syntax import Call, Expression, Interpolation, Literal, WdlError, parse

if TYPE_CHECKING:
    from engine.wdl.outcome import Bound
    from engine.wdl.work import Work

APIS = frozenset(
    {"shared_dynamicscrmonline", "shared_commondataserviceforapps", "shared_commondataservice", "dynamicscrmonline",
     "commondataservice", "commondataserviceforapps", "dynamicsax_dataverse"}
)  # fmt: skip
_PATH = re.compile(
    r"(?:/v\d+)?/datasets/(?P<set>\0\d+\0|[^/\0]+)/tables/(?P<table>\0\d+\0|[^/\0]+)/items(?:/(?P<id>.+))?"
)
# What the table `lead` itself puts into a column. Old designers wrote these into every new row, asked or not.
_NO = (
    "merged confirminterest decisionmaker evaluatefit participatesinworkflow msdyn_gdproptout donotbulkemail "
    "donotemail donotfax donotpostalmail donotphone donotsendmm"
)
_USUAL = "address1_addresstypecode address2_addresstypecode prioritycode salesstagecode"
DEFAULTS: Mapping[str, Mapping[str, JSON]] = {
    "leads": {
        **dict.fromkeys(_NO.split(), False),
        **{name: {"label": "Default Value"} for name in _USUAL.split()},
        "followemail": True,
        "preferredcontactmethodcode": {"label": "Any"},
        "leadqualitycode": {"label": "Warm"},
        "msdyn_ordertype": {"label": "Item based"},
    }
}
OPTIONS = {"$filter": "filter", "$orderby": "order_by", "$top": "top", "$select": "select"}


def by_path(w: Work, bound: Bound) -> dict[str, Any] | None:
    """An action of the old connectors, None for one whose path is another."""
    found = _parts(str(w.inputs.get("path", "")))
    if found is None:
        return None
    org, table, id = found
    if org and re.fullmatch(r"[\w-]+\.crm\d*", org):
        bound.set(f"url: https://{org}.dynamics.com")
    method = str(w.inputs.get("method", "get")).lower()
    body = w.inputs.get("body")
    queries = w.inputs.get("queries")
    call: dict[str, Any] = {"table": _table(w, table)}
    if id is not None:
        call["id"] = _id(w, id)
    match method, id:
        case "get", None:
            return _step(bound, "list", call | _options(w, queries if isinstance(queries, dict) else {}))
        case "get", _:
            _missing_is_null(w)
            return _step(bound, "get", call)
        case "post", None:
            return _step(bound, "create", call | {"row": _row(w, body, table, creates=True)})
        case (("patch" | "put"), _) if id is not None:
            return _step(bound, "update", call | {"row": _row(w, body, table, creates=False)})
        case "delete", _ if id is not None:
            return _step(bound, "delete", call)
    return None


def by_operation(w: Work, bound: Bound, operation: str, parameters: Mapping[str, JSON]) -> dict[str, Any] | None:
    """An operation of the Dataverse connector, None for one that has nothing like it."""
    given = dict(parameters)
    name = operation.removesuffix("WithOrganization")
    if name != operation:
        bound.set(f"url: {given.pop('organization', '')}")
    table = str(given.pop("entityName", ""))
    call: dict[str, Any] = {"table": w.value(table)}
    id = given.pop("recordId", None)
    if id is not None:
        call["id"] = w.value(id, strict=True)
    items = {k.removeprefix("item/"): given.pop(k) for k in list(given) if k.startswith("item/")}
    item = given.pop("item", None)
    row = item if isinstance(item, dict) else items
    match name:
        case "ListRecords":
            rest = {k: v for k, v in given.items() if k in OPTIONS}
            left = {k: v for k, v in given.items() if k not in OPTIONS and v not in (None, "")}
            for key in left:
                w.hand.append(f"the connector's `list` has no {key}: write it as a filter, or as a list of its own")
            return _step(bound, "list", call | _options(w, rest) | {snake(k): w.value(v) for k, v in left.items()})
        case "GetItem":
            _missing_is_null(w)
            left = {k: v for k, v in given.items() if k != "$select" and v not in (None, "")}
            for key in left:
                w.hand.append(f"the connector's `get` has no {key}: read the related row by a step of its own")
            return _step(bound, "get", call | _options(w, {k: v for k, v in given.items() if k == "$select"})
                         | {snake(k): w.value(v) for k, v in left.items()})  # fmt: skip
        case "CreateRecord":
            return _step(bound, "create", call | {"row": _row(w, row, table, creates=True)})
        case "UpdateRecord" | "UpdateOnlyRecord":
            if name == "UpdateRecord":
                w.changes.append("a row that isn't there is an error; it was created")
            return _step(bound, "update", call | {"row": _row(w, row, table, creates=False)})
        case "DeleteRecord":
            w.changes.append("a row that isn't there is no error")
            return _step(bound, "delete", call)
    return None


def _missing_is_null(w: Work) -> None:
    w.changes.append("a row that isn't there gives null; the action failed")


def _step(bound: Bound, operation: str, call: dict[str, Any]) -> dict[str, Any]:
    return {"call": f"{bound.alias}.{operation}", "with": call}


def _options(w: Work, queries: Mapping[str, JSON]) -> dict[str, Any]:
    """Query options under the connector's names."""
    out: dict[str, Any] = {}
    for theirs, ours in OPTIONS.items():
        value = queries.get(theirs)
        if value in (None, ""):
            continue
        if ours == "select" and isinstance(value, str) and "@" not in value:
            out[ours] = [column.strip() for column in value.split(",") if column.strip()]
        elif ours == "top" and isinstance(value, str) and value.isdigit():
            out[ours] = int(value)
        else:
            out[ours] = w.value(value, strict=True)
    for key in queries.keys() - OPTIONS.keys():
        w.hand.append(f"the connector's `list` has no {key}: write it as a filter, or as a list of its own")
        out[snake(key)] = w.value(queries[key])
    return out


def _row(w: Work, body: JSON, table: str | Expression, *, creates: bool) -> Any:
    """The columns that are written: `_x_label` is the choice `x` by its label, and an empty label says nothing."""
    if not isinstance(body, dict):
        return w.value(body)
    out: dict[str, Any] = {}
    for key, value in body.items():
        label = re.fullmatch(r"_(\w+)_label", key)
        if label or re.fullmatch(r"_\w+_type", key):
            if value == "":
                continue
            out[label[1] if label else key] = {"label": w.value(value)} if label else w.value(value)
        else:
            out[key] = w.value(value)
    name = table if isinstance(table, str) else ""
    usual = DEFAULTS.get(name, {}) if creates and not w.conversion.faithful else {}
    left = [key for key, value in out.items() if key in usual and usual[key] == value]
    for key in left:
        del out[key]
    if left:
        w.changes.append(f"{len(left)} values that {name} has by itself are left out: {', '.join(left)}")
    if not out and not creates:
        w.defect("UpdatesNothing")
    return out


# Paths


def _parts(path: str) -> tuple[str, str | Expression, Expression | str | None] | None:
    """Organisation, table and id in a path of the old connectors; each is often an expression, encoded twice."""
    try:
        tree = parse(path)
    except WdlError:
        return None
    if not isinstance(tree, Interpolation):
        return None
    held = [p for p in tree.parts if not isinstance(p, str)]
    text, n = "", 0
    for part in tree.parts:
        if isinstance(part, str):
            text += part
        else:
            text += f"\0{n}\0"
            n += 1
    found = _PATH.fullmatch(text)
    if found is None:
        return None

    def plain(piece: str) -> Expression | str:
        mark = re.fullmatch("\0(\\d+)\0", piece)
        if mark is None:
            return piece
        inner = decoded(held[int(mark[1])])
        return inner.value if isinstance(inner, Literal) and isinstance(inner.value, str) else inner

    org, table = plain(found["set"]), plain(found["table"])
    id = plain(found["id"]) if found["id"] else None
    return org if isinstance(org, str) else "", table, id


def decoded(tree: Expression) -> Expression:
    """What was encoded for the path."""
    while (
        isinstance(tree, Call)
        and tree.name.lower() in ("encodeuricomponent", "uricomponent")
        and len(tree.arguments) == 1
    ):
        tree = tree.arguments[0]
    return tree


def _table(w: Work, table: str | Expression) -> Any:
    return table if isinstance(table, str) else _template(w, table)


def _id(w: Work, id: str | Expression) -> Any:
    return id if isinstance(id, str) else _template(w, id)


def _template(w: Work, tree: Expression) -> str:
    try:
        found: Printed = w.printer(strict=True).expression(w.mend(tree), demanded=True)
    except WdlError as error:
        w.hand.append(f"{tree}: {error.message}")
        return str(tree)
    return f"{{{{ {found.text} }}}}"
