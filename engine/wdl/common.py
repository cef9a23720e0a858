"""What every action may have beside its inputs: description, time limit, secure data, options."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from engine.model import DURATION
from engine.types import JSON
from engine.wdl.definition import Action

if TYPE_CHECKING:
    from engine.wdl.work import Steps, Work

# Options that say how it is sent or answered, or that are carried out elsewhere; others are kept as a note.
_OPTIONS = frozenset(
    {"disableasyncpattern", "suppressworkflowheaders", "sequential", "failwhenlimitsreached",
     "disableautomaticdecompression", ""}
)  # fmt: skip
_ELSEWHERE = frozenset({"secureData", "concurrency", "contentTransfer", "paginationPolicy"})


def usual(w: Work, found: Steps) -> None:
    """Adds to an action's steps what it has of these; what has no place in a step becomes a note."""
    action, raw = w.action, w.action.raw
    last = found[list(found)[-1]]
    about = _object(raw.get("runtimeConfiguration"))
    _timeout(w, last)
    secured = _object(about.get("secureData")).get("properties")
    parts = {p for p in (secured if isinstance(secured, list) else []) if p in ("inputs", "outputs")}
    parts |= w.conversion.secured.get(action.name, set())
    if parts:
        last["secure"] = sorted(parts)
    most = _object(about.get("paginationPolicy")).get("minimumItemCount")
    if isinstance(most, int) and str(last.get("call", "")).endswith(".list"):
        last["with"]["max_items"] = most
    elif most is not None:
        w.changes.append("of several pages the first one is read: `paging` of http.request reads all")
    notes = [str(raw["description"])] if raw.get("description") else []
    notes += [str(d) for d in w.conversion.defects if d.action == action.name]
    notes += dict.fromkeys(w.notes)
    notes += [f"{key}: {_shown(value)}" for key, value in _left(action, about).items()]
    first = found[action.own if action.own in found else next(iter(found))]
    notes += [first["note"]] if first.get("note") else []
    if notes:
        first["note"] = w.conversion.secrets.masked("\n".join(notes))


def _object(value: JSON) -> dict[str, JSON]:
    return value if isinstance(value, dict) else {}


def _shown(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _timeout(w: Work, step: dict[str, Any]) -> None:
    from engine.wdl.steps import span

    timeout = _object(w.action.raw.get("limit")).get("timeout")
    if timeout is None or w.action.type == "until":
        return
    if isinstance(timeout, str) and re.fullmatch(DURATION, timeout):
        step["timeout"] = span(timeout)
    else:
        w.hand.append(f"its time limit is {timeout}: write a duration at `timeout`")


def _left(action: Action, about: dict[str, JSON]) -> dict[str, JSON]:
    """What nothing here does anything with."""
    left = {k: v for k, v in about.items() if k not in _ELSEWHERE}
    left |= {k: action.raw[k] for k in ("trackedProperties", "correlation") if action.raw.get(k)}
    options = str(action.raw.get("operationOptions") or "")
    if not {o.strip().lower() for o in options.split(",")} <= _OPTIONS:
        left["operationOptions"] = options
    return left


def dressed(action: Action, own: str, step: dict[str, Any], after: Any) -> dict[str, Any]:
    """A step with its keys in the order in which people read them, and the action's name as its title."""
    out: dict[str, Any] = {"title": action.name} if own == action.own and own != action.name else {}
    out |= {"note": step["note"]} if "note" in step else {}
    out |= {"run_after": after} if after is not None else {}
    return out | {k: v for k, v in step.items() if k != "note"}
