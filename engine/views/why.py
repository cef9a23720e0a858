"""Where a value of a run came from, and why a step ran: what stands behind `flowrun why`.

Derived from the document and what is recorded; nothing is stored for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine import model as m
from engine.loader.document import Path
from engine.loader.fit import at
from engine.loader.references import Chain
from engine.types import JSON
from engine.views.origin import Origin
from engine.views.outcome import sentence
from engine.views.reasons import Reasons
from engine.views.recorded import Recorded
from engine.views.standpoint import LAST, SECURE, Standpoint, Told, parts
from engine.views.target import FLOW, RESULT, Target, dotted, spelled, spelled_of, target, unknown


def why(recorded: Recorded, asked: str, outputs: JSON = None, business_key: str | None = None) -> Origin:
    """The origin of what a path names. `outputs` and `business_key` are the run's. Raises ConfigError."""
    found = target(recorded, asked)
    reasons = Reasons(recorded)
    if not found.path:
        return _of_flow(reasons, found, outputs, business_key)
    if found.index is not None:
        return _pass(reasons, found, found.index)
    if not found.members:
        return reasons.step(found.path)
    return _member(reasons, found)


def _member(reasons: Reasons, found: Target) -> Origin:
    """A key of the step in the document, or a part of its result."""
    level, path, members = found.level, found.path, found.members
    first = str(members[0])
    name = parts(path)[-1][0]
    raw = at(level.document.data, level.homes[name][0])
    if first in RESULT:
        told = reasons.recorded.result(path)[first]
        rest = spelled_of(told, members[1:], f"{path}.{first}")
        return reasons.result(path, (first, *rest), dotted(path, (first, *rest)), told.at(*rest), LAST)
    if first not in raw:
        raise unknown(dotted(path, members), f"{path} has no '{first}'", {*raw, *RESULT})
    keys, rest = spelled(raw, members, path)
    told = reasons.value(path, keys)
    return reasons.key(path, keys, spelled_of(told, rest, dotted(path, keys)))


def _pass(reasons: Reasons, found: Target, index: int) -> Origin:
    """One pass of a loop: its item, the steps in it, and what it gave."""
    level, path = found.level, found.path
    name = parts(path)[-1][0]
    step = level.step(name)
    here = reasons.recorded.place_of_pass(path, index)

    def sources() -> Iterator[Origin]:
        if isinstance(step, m.Foreach):
            yield reasons.reference(here, Chain(step.as_, (), 0))
        for _, block in step.blocks():
            for inner in (f"{path}[{index}]/{child}" for child in block):
                end = reasons.recorded.end(inner)
                yield Origin(inner, None, end[1].status if end else "", sentence(end[1]) if end else "it has not ended")
        if isinstance(step, m.Foreach) and step.result is not None:
            body = reasons.recorded.result(path)["body"].at(index)
            yield reasons.result(path, ("body", index), f"{path}.body[{index}]", body, LAST)

    place = level.document.place(level.homes[name][0], key=True)
    return Origin(f"{path}[{index}]", how=f"pass {index} of {reasons.recorded.passes(path)}", place=place,
                  sources=tuple(sources()))  # fmt: skip


def _of_flow(reasons: Reasons, found: Target, outputs: JSON, business_key: str | None) -> Origin:
    """A part of the flow that is no step: as it was at the end of the run."""
    root, first, members = found.level, str(found.members[0]), found.members[1:]
    here = Standpoint(root, "")
    if first == "trigger":
        rest = spelled_of(root.trigger, members, first)
        return reasons.trigger(root, rest, root.trigger.at(*rest))
    if first in ("parameters", "variables"):
        return _named(reasons, here, first, members)
    raw = at(root.document.data, (first,))
    if raw is None:
        raise unknown(first, f"the flow has no {first}", {key for key in FLOW if key in root.document.data})
    if "outputs" in root.program.secure.get("", ()):
        told = SECURE
    elif first == "business_key":
        told = Told(business_key)
    else:
        told = Told(unknown="the run did not come to its outputs") if outputs is None else Told(outputs)
    keys, rest = spelled(raw, members, first)
    rest = spelled_of(told.at(*keys), rest, dotted(first, keys))
    what = dotted(first, (*keys, *rest))
    return reasons.written(root, (first, *keys), what, told.at(*keys, *rest), here,
                           expression=first == "business_key", rest=rest)  # fmt: skip


def _named(reasons: Reasons, here: Standpoint, kind: str, members: Path) -> Origin:
    """A parameter or a variable, or all of them."""
    flow = here.level.program.flow
    known = set(flow.parameters if kind == "parameters" else flow.variables)
    if not members:
        return Origin(kind, sources=tuple(_named(reasons, here, kind, (name,)) for name in sorted(known)))
    name = str(members[0])
    if name not in known:
        raise unknown(dotted(kind, members[:1]), f"no such {kind[:-1]}", known)
    told = reasons.recorded.look(here, Chain(kind, (name,), 0))
    rest = spelled_of(told, members[1:], dotted(kind, (name,)))
    return reasons.reference(here, Chain(kind, (name, *rest), 0))
