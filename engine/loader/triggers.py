"""What starts a flow: time tables, zones, event names, samples."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from engine import model
from engine.contract import Connector
from engine.errors import did_you_mean
from engine.loader.document import Lost, Path

_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_ALLOWED = {"second": "0 to 59", "minute": "0 to 59", "hour": "0 to 23", "day-of-month": "1 to 31 or L",
            "month": "1 to 12 or JAN to DEC", "day-of-week": "0 to 7 or SUN to SAT"}  # fmt: skip
_FORM = "five fields: minute hour day-of-month month day-of-week, such as 0 7 * * MON-FRI"
_SPOKEN = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
           "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}  # fmt: skip


def check_trigger(
    trigger: model.Trigger,
    given: Collection[str],
    path: Path,
    connector: type[Connector] | None,
    files: Collection[str] | None,
    report: Any,
) -> None:
    """Reports what can't be in a trigger.

    `given` are its keys, `connector` is that of its webhook, `files` are those beside the flow if they are known.
    """
    if isinstance(trigger, model.Schedule):
        _cron(trigger.schedule, (*path, "schedule"), report)
        _zone(trigger.zone, (*path, "zone"), report)
    if isinstance(trigger, model.Poll) and trigger.from_ not in ("now", "start") and not is_time(trigger.from_):
        report(
            (*path, "from"),
            "Time",
            f"'{trigger.from_}' is no time",
            expected="now, start or a time",
            hint=did_you_mean(trigger.from_, {"now", "start"}).partition("known")[0] or "such as 2026-11-24T12:00:00Z",
        )
    if isinstance(trigger, model.Webhook) and connector is not None and connector.events:
        for i, event in enumerate(trigger.events or ()):
            if event not in connector.events:
                report((*path, "events", i), "UnknownEvent", f"{trigger.webhook} sends no event '{event}'",
                       found=f"'{event}'", hint=did_you_mean(event, set(connector.events)))  # fmt: skip
    if trigger.sample is not None and files is not None and trigger.sample not in files:
        report(
            (*path, "sample"),
            "NoFile",
            f"there is no file {trigger.sample} beside the flow",
            hint=did_you_mean(trigger.sample, set(files)).partition("known")[0] or "save an event there",
        )
    if trigger.collapse and "lane" not in given:
        report((*path, "collapse"), "NoLane", "`collapse` does nothing without `lane`", key=True, severity="warning",
               hint="say by `lane` which runs wait for each other")  # fmt: skip


def _cron(text: str, path: Path, report: Any) -> None:
    from cronsim import CronSim, CronSimError

    if isinstance(text, Lost) or not text:
        return
    fields = list(re.finditer(r"\S+", text))
    if len(fields) != len(_FIELDS):
        hint = f"write {_SPOKEN[text]}" if text in _SPOKEN else "* stands for every value"
        report(path, "Cron", f"a time table has five fields, this has {len(fields)}", expected=_FORM, hint=hint)
        return
    faulty = False
    for name, found in zip(_FIELDS, fields, strict=True):
        alone = ["*"] * len(_FIELDS)
        alone[_FIELDS.index(name)] = found[0]
        try:
            CronSim(" ".join(alone), datetime(2024, 1, 1, tzinfo=UTC))
        except CronSimError:
            faulty = True
            report(path, "Cron", f"'{found[0]}' is no {name}", at=found.start(), expected=_ALLOWED[name],
                   hint="also lists 1,2, ranges 1-5, steps */10")  # fmt: skip
    if not faulty:
        try:
            next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration):
            report(path, "Cron", "that day never comes", at=fields[2].start(), hint="no such month has so many days")


def _zone(name: str, path: Path, report: Any) -> None:
    from zoneinfo import ZoneInfo, available_timezones

    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # an OSError: the name of a folder of the database
        zones = available_timezones()
        near = did_you_mean(name, zones)
        report(
            path,
            "Zone",
            f"there is no time zone '{name}'",
            expected="a name such as Europe/Berlin",
            found=f"'{name}'",
            hint=near or "names are those of the tz database",
        )


def is_time(text: str) -> bool:
    """Whether a text is a point in time, such as 2026-11-24T12:00:00Z."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def trigger_shape(triggers: Mapping[str, model.Trigger], event: Any, inputs: Any) -> dict[str, Any]:
    """The members of `trigger`, by what may start the flow."""
    kinds = {type(t) for t in triggers.values()}
    members: dict[str, Any] = {"name": {"type": "string"}}
    if kinds & {model.Webhook, model.Poll}:
        members["event"] = event if kinds == {model.Webhook} else {**event, "additionalProperties": None}
    if kinds & {model.Manual, model.Schedule} or not kinds:
        members |= {"inputs": inputs if model.Manual in kinds else {}, "time": {}}
    if any(t.each is not None for t in triggers.values()):
        members |= {"item": {}, "index": {"type": "integer"}}
    return members
