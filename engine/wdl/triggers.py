"""What starts a flow: triggers of the other language as ours, and where their values are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engine.errors import DataError
from engine.functions.zones import Zone
from engine.types import JSON
from engine.wdl import calls
from engine.wdl.definition import Action, key_of
from engine.wdl.definition import calls as calls_of
from engine.wdl.names import Place, canonical, named
from engine.wdl.outcome import Entry
from engine.wdl.schemas import plain_schema
from engine.wdl.syntax import Member
from engine.wdl.work import Work

if TYPE_CHECKING:
    from engine.wdl.convert import Conversion

DAYS = {
    "sunday": "SUN",
    "monday": "MON",
    "tuesday": "TUE",
    "wednesday": "WED",
    "thursday": "THU",
    "friday": "FRI",
    "saturday": "SAT",
}
OUTPUTS = ("headers", "queries", "relativePathParameters")


@dataclass(frozen=True)
class Shape:
    """Where the trigger's values are: its body, and by key what else a call of it brings."""

    body: str
    event: Callable[[tuple[Member, ...]], Place] | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    wrapped: bool = False  # inputs are {headers, queries, body}: something reads more than the body


def _triggers(conversion: Conversion) -> dict[str, Mapping[str, JSON]]:
    given = conversion.definition.get("triggers")
    return {k: v for k, v in given.items() if isinstance(v, dict)} if isinstance(given, dict) else {}


def shape(conversion: Conversion) -> Shape:
    """Where the values of the first trigger are. Others are assumed to bring the same."""
    found = next(iter(_triggers(conversion).values()), {})
    kind = str(found.get("type", "")).lower()
    if conversion.recipe.webhook:
        return Shape("trigger.event.data", conversion.recipe.event)
    wrapped = kind == "request" and _more_than_body(conversion)
    if "splitOn" in found:
        return Shape(
            "trigger.item", outputs={k: f"trigger.inputs.{k}" for k in OUTPUTS} if wrapped else {}, wrapped=wrapped
        )
    if kind == "request":
        path = "trigger.inputs"
        return Shape(
            f"{path}.body" if wrapped else path,
            outputs={k: f"{path}.{k}" for k in OUTPUTS} if wrapped else {},
            wrapped=wrapped,
        )
    if kind in ("recurrence", "slidingwindow", ""):
        return Shape("null")
    return Shape("trigger.event.data" if "webhook" in kind or "notification" in kind else "trigger.event")


def _more_than_body(conversion: Conversion) -> bool:
    """Whether an action reads headers or the like of the call that started the run."""
    for action in conversion.actions.values():
        inner = {k: v for k, v in action.raw.items() if k not in ("actions", "else", "cases", "default")}
        inputs = inner.get("inputs")
        if isinstance(inputs, dict):  # a connector's own authentication is no value of the flow
            inner["inputs"] = {
                k: v for k, v in inputs.items() if not (k == "authentication" and "$ConnectionKey" in json.dumps(v))
            }
        for call in calls_of(inner):
            if call.name.lower() in ("trigger", "triggeroutputs"):
                start = "trigger" if call.name.lower() == "trigger" else "trigger_outputs"
                kind, members = canonical(start, call.members)  # type: ignore[arg-type]
                if kind == "trigger_outputs" and (not members or key_of(members[0].key) in OUTPUTS):
                    return True
    return False


def convert(conversion: Conversion, found: Shape) -> dict[str, Any]:
    """The flow's triggers; each is reported."""
    out: dict[str, Any] = {}
    given = _triggers(conversion)
    for (name, raw), own in zip(given.items(), named(given, "trigger").values(), strict=True):
        w = Work(conversion, Action(name, raw, own=own))
        if conversion.recipe.webhook:
            trigger = conversion.recipe.trigger(w)
        else:
            trigger = _trigger(w, str(raw.get("type", "")).lower(), found)
            _common(w, raw, trigger)
        out[own] = trigger
        form = next((k for k in ("webhook", "schedule", "poll", "manual") if k in trigger), "manual")
        said = (*w.changes, *(f"to do: {h}" for h in w.hand))
        conversion.entries.append(Entry("trigger", name, own, w.status, form, said))
        conversion.remarks += [f"trigger '{name}': {n}" for n in w.notes]
    return out


def _trigger(w: Work, kind: str, found: Shape) -> dict[str, Any]:
    match kind:
        case "request":
            return _request(w, found)
        case "recurrence" | "slidingwindow":
            return _schedule(w, w.action.raw.get("recurrence"))
        case "http" | "apiconnection" | "openapiconnection" | "serviceprovider":
            return _poll(w, kind)
        case "apiconnectionwebhook" | "openapiconnectionwebhook" | "httpwebhook" | "apiconnectionnotification":
            return _hook(w, kind)
    w.hand.append(
        f"nothing here starts a run as {w.action.raw.get('type') or 'this trigger'} does: choose another trigger"
    )
    w.notes.append(json.dumps(w.action.raw, ensure_ascii=False))
    return {"manual": None}


def _request(w: Work, found: Shape) -> dict[str, Any]:
    schema = plain_schema(w, w.inputs.get("schema"))
    if schema.get("type") == "object" and not schema.get("properties") and not schema.get("required"):
        schema = {"type": "object"}
    left = {k: v for k, v in w.inputs.items() if k in ("method", "relativePath") and v not in ("POST", "", None)}
    if left:
        w.notes.append(", ".join(f"{k} {v}" for k, v in left.items()))
    if found.wrapped:
        w.changes.append("its inputs are {headers, queries, body}, because steps read more than the body")
        members: dict[str, Any] = {
            "headers": {"type": "object"},
            "queries": {"type": "object"},
            "relativePathParameters": {"type": "object"},
            "body": schema,
        }
        return {"manual": {"inputs": {"type": "object", "properties": members}}}
    return {"manual": {"inputs": schema} if schema else None}


# Time tables


def _schedule(w: Work, recurrence: JSON) -> dict[str, Any]:
    recurrence = recurrence if isinstance(recurrence, dict) else {}
    cron = _cron(w, recurrence)
    out: dict[str, Any] = {"schedule": cron}
    zone = recurrence.get("timeZone")
    if isinstance(zone, str) and zone and zone.upper() != "UTC":
        out["zone"] = _zone(w, zone)
    if str(w.action.raw.get("type", "")).lower() == "slidingwindow":
        w.changes.append("every window has a run; times that were missed are caught up by `missed: run_all`")
        out["missed"] = "run_all"
    return out


def _zone(w: Work, name: str) -> str:
    try:
        found = Zone.read(name)
    except DataError:
        found = None
    key = getattr(found.rules, "key", "UTC") if found else None
    if key is None:
        w.hand.append(f"its time zone is {name}: write the name of a zone such as Europe/Berlin at `zone`")
        return "UTC"
    return str(key)


def _cron(w: Work, recurrence: Mapping[str, JSON]) -> str:
    """A time table out of frequency, interval, start and the hours, days … that it names."""
    frequency = str(recurrence.get("frequency", "Day")).lower()
    interval = recurrence.get("interval", 1)
    if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
        w.hand.append(f"its interval is {interval}: write a time table at `schedule`")
        interval = 1
    table = recurrence.get("schedule")
    table = table if isinstance(table, dict) else {}
    start = _start(recurrence.get("startTime"))
    hours, minutes = _numbers(table.get("hours")), _numbers(table.get("minutes"))
    at = ",".join(minutes) if minutes else str(start.minute if start else 0)
    when = ",".join(hours) if hours else str(start.hour if start else 0)
    match frequency:
        case "second":
            w.changes.append("a time table knows minutes, no seconds")
            return "* * * * *" if interval < 60 else f"*/{min(interval // 60, 59)} * * * *"
        case "minute":
            if interval > 59:
                return _cron(w, {**recurrence, "frequency": "Hour", "interval": max(interval // 60, 1)})
            if 60 % interval:
                w.changes.append(f"every {interval} minutes from the full hour on, each hour anew")
            return "* * * * *" if interval == 1 else f"*/{interval} * * * *"
        case "hour":
            if interval > 23:
                return _cron(w, {**recurrence, "frequency": "Day", "interval": max(interval // 24, 1)})
            if 24 % interval:
                w.changes.append(f"every {interval} hours from midnight on, each day anew")
            return f"{at} {'*' if interval == 1 else f'*/{interval}'} * * *"
        case "week":
            days = [DAYS[str(d).lower()] for d in table.get("weekDays") or [] if str(d).lower() in DAYS]
            if not days:
                days = [start.strftime("%a").upper() if start else "MON"]
            if interval > 1:
                w.changes.append(f"every week: a time table can't leave out weeks (it ran every {interval} weeks)")
            return f"{at} {when} * * {','.join(days)}"
        case "month":
            days = _numbers(table.get("monthDays")) or [str(start.day if start else 1)]
            if table.get("monthlyOccurrences"):
                w.hand.append(
                    f"it runs at {json.dumps(table['monthlyOccurrences'])} of a month: write a time table at `schedule`"
                )
            months = "*" if interval == 1 else f"*/{min(interval, 12)}"
            return f"{at} {when} {','.join('L' if d == '-1' else d for d in days)} {months} *"
    if interval > 1:
        w.changes.append(f"every {interval} days from the first of a month on, each month anew")
    return f"{at} {when} {'*' if interval == 1 else f'*/{min(interval, 31)}'} * *"


def _numbers(value: JSON) -> list[str]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [str(int(v)) for v in items if isinstance(v, int | str) and re.fullmatch(r"-?\d+", str(v))]


def _start(value: JSON) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _every(w: Work) -> str:
    """How often a service is asked."""
    recurrence = w.action.raw.get("recurrence")
    recurrence = recurrence if isinstance(recurrence, dict) else {}
    interval = recurrence.get("interval", 3)
    unit = {"second": "s", "minute": "m", "hour": "h", "day": "d"}.get(
        str(recurrence.get("frequency", "Minute")).lower()
    )
    if unit and isinstance(interval, int) and not isinstance(interval, bool):
        return f"{interval}{unit}"
    w.changes.append(f"asked once a day; it was every {interval} {recurrence.get('frequency')}")
    return "1d"


# Services


def _poll(w: Work, kind: str) -> dict[str, Any]:
    """A service that is asked for news: the call that asks, as an action would make it."""
    step = _call(w, kind)
    w.hand.append(
        "it asked the service for news and knew what was new: bind its connection, and give `key` what tells news apart"
    )
    return {"poll": step["call"], **({"with": step["with"]} if step.get("with") else {}), "every": _every(w)}


def _hook(w: Work, kind: str) -> dict[str, Any]:
    """A service that calls: its events come by a connection; what it was asked for stays in the report."""
    step = _call(w, kind)
    alias = str(step["call"]).partition(".")[0]
    w.notes.append(f"it was subscribed by {step['call']} with {json.dumps(step.get('with', {}), ensure_ascii=False)}")
    w.hand.append(
        f"the service has to call flowrun: bind '{alias}' to a connector that takes its events, and subscribe there"
    )
    return {"webhook": alias}


def _call(w: Work, kind: str) -> dict[str, Any]:
    converters = {
        "http": calls.http, "apiconnection": calls.api_connection, "openapiconnection": calls.open_api,
        "serviceprovider": calls.service_provider, "apiconnectionwebhook": calls.api_connection,
        "openapiconnectionwebhook": calls.open_api, "apiconnectionnotification": calls.api_connection,
    }  # fmt: skip
    before = list(w.hand), list(w.changes)
    found = converters.get(kind, calls.unknown)(w)
    if kind == "httpwebhook" or (kind.endswith(("webhook", "notification")) and kind not in converters):
        w.hand[:], w.changes[:] = before
    return next(iter(found.values()))


def _common(w: Work, raw: Mapping[str, JSON], trigger: dict[str, Any]) -> None:
    """Conditions, one run for each item, one run at a time."""
    split = raw.get("splitOn")
    if split is not None:
        trigger["each"] = _each(w, split)
    given = raw.get("conditions")
    found = [
        w.condition(c.get("expression") if isinstance(c, dict) else c)
        for c in (given if isinstance(given, list) else [])
    ]
    if found:
        texts = [f"({f})" if len(found) > 1 and isinstance(f, str) else f for f in found]
        trigger["when"] = (
            texts[0]
            if len(texts) == 1
            else " and ".join("true" if t is True else "false" if t is False else str(t) for t in texts)
        )
    about = raw.get("runtimeConfiguration")
    concurrency = about.get("concurrency") if isinstance(about, dict) else None
    runs = concurrency.get("runs") if isinstance(concurrency, dict) else None
    single = "singleinstance" in str(raw.get("operationOptions", "")).lower()
    if single or runs == 1:
        trigger["lane"] = f"'{w.conversion.name}'"
    elif runs is not None:
        w.changes.append(f"runs at once aren't limited to {runs}: a lane allows one")
    if raw.get("description"):
        w.notes.append(str(raw["description"]))


def _each(w: Work, split: JSON) -> Any:
    """The list of which each item starts a run: read from the whole body."""
    conversion = w.conversion
    kind = str(w.action.raw.get("type", "")).lower()
    whole = "trigger.inputs" if kind == "request" else "trigger.event.data" if "webhook" in kind else "trigger.event"
    document = conversion.document
    conversion.document = replace(document, trigger=whole, event=None)
    try:
        return w.expression(split)
    finally:
        conversion.document = document
