"""The order of actions, and `run_after` where it isn't the usual one."""

from __future__ import annotations

from typing import Any

from engine.wdl.definition import Action

EVERY = frozenset({"succeeded", "failed", "skipped", "timed_out"})


def ordered(actions: list[Action]) -> list[Action]:
    """The actions so that each comes after what it waits for, chains together, else as they are written."""
    names = {a.name.casefold(): a.name for a in actions}
    before = {a.name: {names[n.casefold()] for n in a.after if n.casefold() in names} - {a.name} for a in actions}
    out: list[Action] = []
    left = list(actions)
    while left:
        done = {a.name for a in out}
        ready = [a for a in left if before[a.name] <= done] or left[:1]  # a cycle: the check will say so
        last = out[-1].name if out else None
        alone = (a for a in ready if before[a.name] == {last})
        among = (a for a in ready if last in before[a.name])
        chosen = next(alone, None) or next(among, ready[0])
        out.append(chosen)
        left.remove(chosen)
    return out


def run_after(waits: dict[str, list[str]], previous: str | None) -> Any:
    """`run_after` as it is written, None where the usual order says the same."""
    if waits == ({previous: ["succeeded"]} if previous else {}):
        return None
    if not waits:
        return {}
    written: dict[str, Any] = {}
    for name, statuses in waits.items():
        known = [s for s in statuses if s in EVERY] or ["succeeded"]
        written[name] = "any" if set(statuses) >= EVERY else known[0] if len(known) == 1 else known
    if all(s == "succeeded" for s in written.values()):
        names = list(written)
        return names[0] if len(names) == 1 else names
    return written
