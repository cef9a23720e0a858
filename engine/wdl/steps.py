"""Actions of the language itself as steps: control, data operations, variables. Calls of services: engine.wdl.calls."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from engine.model import DURATION
from engine.types import JSON
from engine.wdl.declarations import initialised
from engine.wdl.definition import Action, key_of
from engine.wdl.schemas import plain_schema
from engine.wdl.syntax import Call, Expression, Interpolation, Literal, WdlError, parse
from engine.wdl.work import Steps, Work, operand

UNITS = {"second": "s", "minute": "m", "hour": "h", "day": "d"}
EMPTY: Mapping[str, JSON] = {"compose": None, "note": "Nothing was in here."}


def block(w: Work, branch: str) -> dict[str, Any]:
    """The steps of one of its lists."""
    return w.conversion.block(w.action.blocks.get(branch, []))


def filled(w: Work, branch: str) -> dict[str, Any]:
    """The same, with a step that does nothing where there is none: a list can't be empty."""
    found = block(w, branch)
    return found or {w.conversion.free(f"{w.action.own}_nothing"): dict(EMPTY)}


def one(w: Work, step: dict[str, Any]) -> Steps:
    return {w.action.own: step}


# Control


def if_(w: Work) -> Steps:
    step: dict[str, Any] = {"if": w.condition(w.action.raw.get("expression"))}
    then, other = block(w, "actions"), block(w, "else")
    if then or not other:
        step["then"] = then or filled(w, "actions")
    if other:
        step["else"] = other
    return one(w, step)


def switch(w: Work) -> Steps:
    cases: dict[str, Any] = {}
    given = w.action.raw.get("cases")
    for name, case in given.items() if isinstance(given, dict) else ():
        value = case.get("case") if isinstance(case, dict) else None
        text = str(w.value(value))
        if text in cases:
            w.hand.append(f"two cases are '{text}': the second one, '{name}', never runs")
            text = f"{text} (again)"
        if isinstance(value, str) and "@" in value and "{{" in text:
            w.hand.append(f"case '{name}' is an expression: write an `if`")
        cases[text] = filled(w, f"case {name}")
    step: dict[str, Any] = {"switch": w.expression(w.action.raw.get("expression")), "cases": cases}
    if default := block(w, "default"):
        step["default"] = default
    if not cases:
        return one(w, {"steps": default or filled(w, "default")})
    return one(w, step)


def foreach(w: Work) -> Steps:
    raw, action, conversion = w.action.raw, w.action, w.conversion
    given = raw.get("foreach")
    step: dict[str, Any] = {"foreach": given if isinstance(given, list) and not _moving(given) else _items(w, given)}
    item = conversion.document.items[action.name]
    if item != "item":
        step["as"] = item
    if (at_once := _concurrency(w)) > 1:
        step["concurrency"] = at_once
    step["steps"] = filled(w, "actions")
    _result(w, step)
    return one(w, step)


def _moving(value: JSON) -> bool:
    return "@" in json.dumps(value)


def _items(w: Work, given: JSON) -> Any:
    if isinstance(given, list):
        try:
            return w.printer().expression(operand(given)).text
        except WdlError as error:
            w.hand.append(f"{json.dumps(given)}: {error.message}")
            return []
    return w.expression(given)


def _concurrency(w: Work) -> int:
    """Items at once: as it says, else 20 in Logic Apps and 1 in Power Automate."""
    raw = w.action.raw
    options = str(raw.get("operationOptions", "")).lower()
    about = raw.get("runtimeConfiguration")
    concurrency = about.get("concurrency") if isinstance(about, dict) else None
    asked = concurrency.get("repetitions") if isinstance(concurrency, dict) else None
    if "sequential" in options or (w.conversion.source.cloud and not isinstance(asked, int)):
        return 1
    if isinstance(asked, int) and not isinstance(asked, bool):
        return min(max(asked, 1), 50)
    if asked is not None:
        w.hand.append(f"the degree of parallelism is an expression, {asked}: write a number at `concurrency`")
        return 1
    if w.action.loops:
        return 1  # a loop in a loop runs one by one
    if any("variable" in inner.type and inner is not w.action for inner in w.action.walk()):
        w.changes.append("one item at a time: 20 at once changed the same variables in any order")
        return 1
    return 20


def _result(w: Work, step: dict[str, Any]) -> None:
    """What each pass gives, where steps outside of the loop read steps in it."""
    read = w.conversion.document.results.get(w.action.name, [])
    if read:
        bodies = {inner.own: f"{{{{ steps.{inner.own}.body }}}}" for inner in read}
        step["result"] = next(iter(bodies.values())) if len(bodies) == 1 else bodies


def until(w: Work) -> Steps:
    raw = w.action.raw
    step: dict[str, Any] = {"until": w.condition(raw.get("expression"))}
    given = raw.get("limit")
    limit: Mapping[str, JSON] = given if isinstance(given, dict) else {}
    bounds: dict[str, Any] = {}
    count, timeout = limit.get("count"), limit.get("timeout")
    if isinstance(count, int) and not isinstance(count, bool):
        bounds["count"] = min(max(count, 1), 5000)
    elif count is not None:
        w.hand.append(f"the limit's count is {json.dumps(count)}: write a number at `limit`")
    if isinstance(timeout, str) and re.fullmatch(DURATION, timeout):
        bounds["timeout"] = span(timeout)
    elif timeout is not None:
        w.hand.append(f"the limit's timeout is {json.dumps(timeout)}: write a duration at `limit`")
    bounds = {k: v for k, v in bounds.items() if v != {"count": 60, "timeout": "1h"}[k]}
    if bounds:
        step["limit"] = bounds
    if "failwhenlimitsreached" not in str(raw.get("operationOptions", "")).lower():
        step["on_limit"] = "succeed"
    step["steps"] = filled(w, "actions")
    _result(w, step)
    return one(w, step)


def scope(w: Work) -> Steps:
    return one(w, {"steps": filled(w, "actions")})


def terminate(w: Work) -> Steps:
    status = str(w.inputs.get("runStatus", "Failed"))
    own = {"succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled", "canceled": "cancelled"}
    step: dict[str, Any] = {"terminate": own.get(status.lower(), "failed")}
    if status.lower() not in own:
        w.hand.append(f"runStatus is {status}: say succeeded, failed or cancelled")
    error = w.inputs.get("runError")
    if isinstance(error, dict):
        known = {k: v for k, v in w.value(error).items() if k in ("code", "message")}
        step["error"] = {k: v if isinstance(v, str) else str(v) for k, v in known.items()}
    return one(w, step)


def wait(w: Work) -> Steps:
    moment, interval = w.inputs.get("until"), w.inputs.get("interval")
    if isinstance(moment, dict):
        return one(w, {"wait": {"until": w.value(moment.get("timestamp"))}})
    interval = interval if isinstance(interval, dict) else {}
    count, unit = interval.get("count", 1), str(interval.get("unit", "Second"))
    short = UNITS.get(unit.lower())
    if isinstance(count, int) and not isinstance(count, bool):
        if short:
            return one(w, {"wait": f"{count}{short}"})
        if unit.lower() == "week":
            return one(w, {"wait": f"{count * 7}d"})
    form = {"second": "PT{}S", "minute": "PT{}M", "hour": "PT{}H", "day": "P{}D", "week": "P{}W"}.get(unit.lower())
    if form:
        return one(w, {"wait": form.format(w.value(count))})
    later = Call("addToTime", (Call("utcNow"), operand(count), Literal(unit)))
    return one(w, {"wait": {"until": f"{{{{ {w.printer().expression(later).text} }}}}"}})


def respond(w: Work) -> Steps:
    given = {k: w.inputs[k] for k in ("statusCode", "headers", "body") if k in w.inputs}
    answer = {{"statusCode": "status"}.get(k, k): w.value(v) for k, v in given.items()}
    return one(w, {"respond": answer})


# Data operations


def compose(w: Work) -> Steps:
    return one(w, {"compose": w.value(w.action.inputs)})


def parse_json(w: Work) -> Steps:
    content = w.inputs.get("content")
    schema = plain_schema(w, w.inputs.get("schema"))
    inner = _content(content)
    value = w.value(inner)
    if w.kind(inner) == "text" and isinstance(value, str):
        try:
            source = w.printer().expression(Call("json", (operand(inner),))).text
            value = f"{{{{ {source} }}}}"
        except WdlError as error:
            w.hand.append(f"{content}: {error.message}")
    return one(w, {"parse": value, **({"schema": schema} if schema else {})})


def _content(content: JSON) -> JSON:
    """What is to be parsed: a value of another action that blanks stand around is that value."""
    if isinstance(content, str):
        try:
            tree = parse(content)
        except WdlError:
            return content
        if isinstance(tree, Interpolation):
            pieces = [p for p in tree.parts if not isinstance(p, str) or p.strip()]
            if (
                len(pieces) == 1
                and isinstance(pieces[0], Call)
                and pieces[0].name.lower() in ("body", "outputs", "triggerbody")
            ):
                return f"@{pieces[0]}"
    return content


def query(w: Work) -> Steps:
    step: dict[str, Any] = {"select": _items(w, w.inputs.get("from"))}
    w.selecting = True
    step["where"] = w.condition(w.inputs.get("where", True))
    return one(w, step)


def select(w: Work) -> Steps:
    step: dict[str, Any] = {"select": _items(w, w.inputs.get("from"))}
    w.selecting = True
    step["map"] = w.value(w.inputs.get("select"))
    return one(w, step)


def join(w: Work) -> Steps:
    call = Call("join", (operand(w.inputs.get("from")), operand(w.inputs.get("joinWith", ""))))
    return one(w, {"compose": f"{{{{ {w.printer().expression(w.mend(call)).text} }}}}"})


def table(w: Work) -> Steps:
    """A table as two steps: its rows, each a text, and all of it."""
    columns = _columns(w)
    if columns is None:
        w.hand.append(
            "which columns it has shows only in the run: name them in `columns`, or make the rows by a Select"
        )
        from engine.wdl.calls import unknown

        return unknown(w)
    html = str(w.inputs.get("format", "CSV")).lower() == "html"
    rows = w.conversion.free(f"{w.action.own}_rows")
    w.selecting = False
    step: dict[str, Any] = {"select": _items(w, w.inputs.get("from"))}
    w.selecting = True
    cells = [w.printer().expression(value).text for _, value in columns]
    quoted_cells = [f"{{{{ '\"' ~ replace(string({cell}), '\"', '\"\"') ~ '\"' }}}}" for cell in cells]
    if html:
        body = "".join(f"<td>{{{{ encodeXmlValue(string({cell})) }}}}</td>" for cell in cells)
        step["map"] = f"<tr>{body}</tr>"
        head = "".join(f"<th>{header}</th>" for header, _ in columns)
        text = f"<table><thead><tr>{head}</tr></thead><tbody>{{{{ join(steps.{rows}.body, '') }}}}</tbody></table>"
    else:
        step["map"] = ",".join(quoted_cells)
        text = ",".join(header for header, _ in columns) + f"\r\n{{{{ join(steps.{rows}.body, '\\r\\n') }}}}"
        w.changes.append("every cell is quoted; it was only where a comma or a quote stands in it")
    return {rows: step, w.action.own: {"compose": text}}


def _columns(w: Work) -> list[tuple[str, Expression]] | None:
    """Header and value of each column: as they are named, or as the Select that made the rows has them."""
    given = w.inputs.get("columns")
    if isinstance(given, list) and given:
        return [(str(c.get("header", "")), operand(c.get("value"))) for c in given if isinstance(c, dict)]
    try:
        tree = parse(str(w.inputs.get("from")))
    except WdlError:
        return None
    if isinstance(tree, Call) and tree.name.lower() in ("body", "outputs") and len(tree.arguments) == 1:
        source = w.conversion.document.actions.get(str(key_of(tree.arguments[0])))
        mapped = (
            source.inputs.get("select")
            if source is not None and source.type == "select" and isinstance(source.inputs, dict)
            else None
        )
        if isinstance(mapped, dict) and not any("@" in k for k in mapped):
            from engine.wdl.syntax import Member

            return [(k, Call("item", (), (Member(Literal(k), True),))) for k in mapped]
    return None


# Kind of an Expression action → the function, and which inputs are its arguments.
_EXPRESSIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "currenttime": ("utcNow", ("formatString",)),
    "getfuturetime": ("getFutureTime", ("interval", "timeUnit", "formatString")),
    "getpasttime": ("getPastTime", ("interval", "timeUnit", "formatString")),
    "addtotime": ("addToTime", ("baseTime", "interval", "timeUnit", "formatString")),
    "subtractfromtime": ("subtractFromTime", ("baseTime", "interval", "timeUnit", "formatString")),
    "converttimezone": ("convertTimeZone", ("baseTime", "sourceTimeZone", "destinationTimeZone", "formatString")),
    "substring": ("substring", ("text", "startPosition", "length")),
    "indexof": ("indexOf", ("text", "searchText")),
    "formatnumber": ("formatNumber", ("number", "format", "locale")),
}


def function_of(action: Action) -> str:
    """The function that an Expression action calls, nothing for an unknown kind."""
    return _EXPRESSIONS.get(str(action.raw.get("kind", "")).lower(), ("", ()))[0]


def expression(w: Work) -> Steps:
    kind = str(w.action.raw.get("kind", "")).lower()
    if kind not in _EXPRESSIONS:
        from engine.wdl.calls import unknown

        return unknown(w)
    function, names = _EXPRESSIONS[kind]
    inputs = {k.lower(): v for k, v in w.inputs.items()}
    interval = inputs.get("interval")
    if isinstance(interval, dict):
        inputs |= {"interval": interval.get("count"), "timeunit": interval.get("unit")}
    inputs.setdefault("timeunit", inputs.get("unit"))
    given = [inputs.get(name.lower()) for name in names]
    while given and given[-1] in (None, ""):
        given.pop()
    call = Call(function, tuple(operand(value) for value in given))
    return one(w, {"compose": f"{{{{ {w.printer().expression(w.mend(call)).text} }}}}"})


# Variables


def initialize(w: Work) -> Steps:
    """Values that need the run are set by steps; fixed ones stand in the document's `variables`."""
    names = w.conversion.declarations.variables
    steps: Steps = {}
    for given in initialised(w.action):
        name = str(given.get("name"))
        if why := w.conversion.recipe.dropped_variables.get(name):
            w.changes.append(why)
        if name in names and "value" in given and not w.conversion.declarations.is_fixed(w.action, name):
            own = w.action.own if not steps else w.conversion.free(f"{w.action.own}_{names[name].partition('.')[2]}")
            steps[own] = {"set": {names[name].partition(".")[2]: w.value(given["value"])}}
    return steps


def change(w: Work) -> Steps:
    """Set, append, increment, decrement."""
    name, value = str(w.inputs.get("name")), w.inputs.get("value")
    path = w.conversion.declarations.variables.get(name, "")
    if not path.startswith("variables."):
        w.hand.append(f"variable '{name}' isn't initialised")
        path = f"variables.{w.conversion.free(name)}"
    own = path.partition(".")[2]
    match w.action.type:
        case "setvariable":
            return one(w, {"set": {own: w.value(value)}})
        case "incrementvariable":
            return one(w, {"increment": {own: w.value(1 if value is None else value)}})
        case "decrementvariable":
            by = 1 if value is None else value
            if isinstance(by, int | float) and not isinstance(by, bool):
                return one(w, {"increment": {own: -by}})
            less = w.printer().expression(Call("sub", (Literal(0), operand(by)))).text
            return one(w, {"increment": {own: f"{{{{ {less} }}}}"}})
    return one(w, {"append": {own: w.value(value)}})


def span(iso: str) -> str:
    """A duration as people write it: PT1H30M → 1h30m; others stay."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", iso)
    if not found or not any(found.groups()):
        return iso
    return "".join(f"{int(n)}{unit}" for n, unit in zip(found.groups(), "dhms", strict=True) if n)


OWN: Mapping[str, Callable[[Work], Steps]] = {
    "if": if_, "switch": switch, "foreach": foreach, "until": until, "scope": scope, "terminate": terminate,
    "wait": wait, "response": respond, "compose": compose, "parsejson": parse_json, "query": query, "select": select,
    "join": join, "table": table, "expression": expression, "initializevariable": initialize,
    **dict.fromkeys(("setvariable", "incrementvariable", "decrementvariable"), change),
    **dict.fromkeys(("appendtoarrayvariable", "appendtostringvariable"), change),
}  # fmt: skip
