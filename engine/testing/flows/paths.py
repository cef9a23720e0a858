"""Steps by the names that a test calls them: `post`, `each/post`, or one pass of it: `each[0]/post`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from engine import model as m
from engine.calls import ALERT
from engine.effects import Program
from engine.state import name_of

ALERTS = "alerts/"  # begins the path of the call that tells a person: alerts/failed, alerts/waiting
PASS = re.compile(r"\[\d+\]")


def shown(path: str) -> str:
    """A run's path as tests have it: the call that tells a person is alerts/failed or alerts/waiting."""
    _, mark, what = path.rpartition(ALERT)
    return f"{ALERTS}{what}" if mark and "/" not in what else path


def plain(path: str) -> str:
    """A path without the numbers of passes."""
    return PASS.sub("", path)


def selects(key: str, path: str) -> bool:
    """Whether a test's name for a step means the step at this path."""
    return key in (path, plain(path), name_of(path))


def shapes(program: Program, prefix: str = "") -> Iterator[tuple[str, Program, m.Step]]:
    """Every step that a run may have: its path without passes, the flow that it is of, itself."""
    yield from _block(program, program.flow.steps, prefix)
    alerts = program.flow.alerts
    for what in alerts.on if alerts and not prefix else ():
        assert alerts is not None
        yield ALERTS + what, program, m.Call(call=alerts.to, with_=alerts.with_)


def _block(program: Program, block: Mapping[str, m.Step], prefix: str) -> Iterator[tuple[str, Program, m.Step]]:
    for name, step in block.items():
        path = prefix + name
        yield path, program, step
        for _, inner in step.blocks():
            yield from _block(program, inner, f"{path}/")
        if isinstance(step, m.Run):
            yield from shapes(program.flows[step.run], f"{path}/")
