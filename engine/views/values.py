"""Where a value came from: through the expressions of the flow to the trigger, a parameter, a call's answer, a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine import model as m
from engine.effects import Record
from engine.expressions import segments
from engine.loader.document import Path
from engine.loader.fit import at
from engine.loader.references import Chain, References, references, texts
from engine.views.origin import Origin
from engine.views.outcome import moment, sentence
from engine.views.recorded import Recorded, sources_of
from engine.views.standpoint import SECURE, Level, Standpoint, Told, parts
from engine.views.target import dotted

DEEPEST = 20  # origins one behind the other
MOST = 400  # origins in one answer
FEW = 8  # changes of a variable that are shown: half of them the first, half the last
TRACED = 2  # changes of a variable that are traced further; of more each can be asked for


class Values:
    """Traces values of one run. What was traced once is only named when it comes again."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self._seen: set[tuple[Any, ...]] = set()
        self._left = MOST
        self._depth = 0

    def _once(self, origin: Origin, key: tuple[Any, ...], sources: Callable[[], Iterator[Origin]]) -> Origin:
        """The origin with its sources, unless they stand further up already, or it goes too far."""
        if key in self._seen:
            return replace(origin, how=_joined(origin.how, "see above"))
        if self._depth >= DEEPEST or self._left <= 0:
            return replace(origin, how=_joined(origin.how, "and so on: ask for this one"))
        self._seen.add(key)
        self._depth += 1
        found = []
        for source in sources():
            self._left -= 1
            found.append(source)
        self._depth -= 1
        return replace(origin, sources=tuple(found))

    # What is written

    def written(
        self,
        level: Level,
        path: Path,
        what: str,
        told: Told,
        here: Standpoint | None,
        *,
        expression: bool = False,
        rest: Sequence[str | int] = (),
    ) -> Origin:
        """A value that the document says how to get: at `path` of it, and of that the member `rest`.

        `here` is None where it was never worked out.
        """
        raw = at(level.document.data, path)
        while rest and isinstance(raw, dict | list) and at(raw, [rest[0]]) is not None:
            path, raw, rest, expression = (*path, rest[0]), at(raw, [rest[0]]), rest[1:], False
        texts_ = [(sub, text) for sub, text in texts(raw) if "{{" in text or (expression and not sub)]
        place = level.document.place(path)
        if not texts_:
            return Origin(what, told, how="written in the flow" if raw is not None else "", place=place)
        if isinstance(raw, str):
            if sources := _alone(raw, expression=expression):
                place = level.document.place(path, inside=sources[0].strip())
            origin = Origin(what, told, expression=raw.strip(), place=place)
            if here is None:
                return origin
            key = (level.prefix, path, here.path, tuple(rest), what)
            return self._once(origin, key, lambda: self._references(here, raw, expression=expression, rest=rest))
        origin = Origin(what, told, how="put together in the flow", place=place)
        key = (level.prefix, path, here.path if here else "", tuple(rest), what)
        return self._once(origin, key, lambda: self._inner(level, path, what, told, here, [sub for sub, _ in texts_]))

    def _inner(
        self, level: Level, path: Path, what: str, told: Told, here: Standpoint | None, inner: list[Path]
    ) -> Iterator[Origin]:
        """What stands in an object or list, each with its own origin."""
        for sub in dict.fromkeys(inner):
            named = any(isinstance(part, str) and "{{" in part for part in sub)
            found = Told(unknown="the key is an expression too") if named else told.at(*sub)
            yield self.written(level, (*path, *sub), dotted(what, sub), found, here)

    def _references(
        self, here: Standpoint, raw: str, *, expression: bool, rest: Sequence[str | int]
    ) -> Iterator[Origin]:
        """What an expression refers to, each thing once."""
        expressions = here.level.program.expressions
        alone = bool(_alone(raw, expression=expression))
        chains: dict[tuple[str, tuple[str | int, ...]], None] = {}
        for source in sources_of(raw, expression=expression):
            found = references(expressions, source)
            plain = alone and _is_plain(found)
            chains |= {(c.root, (*c.members, *rest) if plain else c.members): None for c in found.chains}
        for root, members in chains:
            yield self.reference(here, Chain(root, members, 0))

    # What expressions refer to

    def reference(self, here: Standpoint, chain: Chain) -> Origin:
        """What stands behind a dotted name in an expression."""
        what, told = dotted(chain.root, chain.members), self.recorded.look(here, chain)
        level, members = here.level, chain.members
        name = str(members[0]) if members else ""
        if self.recorded.local(here, chain.root) is not None:
            return self._local(here, chain, what, told)
        match chain.root:
            case "trigger":
                return self.trigger(level, members, told)
            case "parameters" if name:
                return self.parameter(level, name, what, told)
            case "variables" if name:
                return self.variable(here, name, what, told)
            case "steps" if name in level.homes:
                return self.result(here.path_of(name), members[1:], what, told, here.order)
        return Origin(what, told)

    def trigger(self, level: Level, members: Sequence[str | int], told: Told) -> Origin:
        """What the run, or the flow inside it, was started with."""
        what = dotted("trigger", members)
        if level.prefix:
            outer = level.prefix[:-1]
            place = self.recorded.place(outer)
            origin = Origin(what, told, how=f"given by {outer}")
            home, _ = place.level.homes[parts(outer)[-1][0]]
            given = self.recorded.inputs(outer).at(*members[1:])
            key = ("trigger", outer, tuple(members))
            return self._once(origin, key, lambda: iter([
                self.written(place.level, (*home, "with"), dotted(f"{outer}.with", members[1:]), given, place,
                             rest=members[1:])
            ]))  # fmt: skip
        name = str(level.trigger.at("name").value or "")
        at_ = level.document.place(("triggers", name), key=True) if name in level.program.flow.triggers else None
        return Origin(what, told, how=f"given by the trigger {name}" if name else "given at the start", place=at_)

    def parameter(self, level: Level, name: str, what: str, told: Told) -> Origin:
        """A parameter: its default, or given at the start."""
        declared = level.program.flow.parameters.get(name)
        if declared is None:
            return Origin(what, told)
        default = not told.secure and level.parameters[name].value == declared.default
        how = (
            "a secret parameter" if declared.hidden else "the parameter's default" if default else "given at the start"
        )
        return Origin(what, told, how=how, place=level.document.place(("parameters", name), key=True))

    def variable(self, here: Standpoint, name: str, what: str, told: Told) -> Origin:
        """A variable: its first value, and the steps that have changed it by then, in order."""
        changes = self.recorded.changes(here, name)
        place = here.level.document.place(("variables", name), key=True)
        how = f"changed {len(changes)} time{'s' * (len(changes) != 1)} by then" if changes else "its first value"
        last = changes[-1][0] if changes else -1
        key = ("variable", here.level.prefix, name, last)
        origin = Origin(what, told, how=how, place=place)
        return self._once(origin, key, lambda: self._changes(here.level, name, changes))

    def _changes(self, level: Level, name: str, changes: list[tuple[int, Record]]) -> Iterator[Origin]:
        if not changes:
            return
        first = level.program.flow.initial_variables().get(name)
        yield Origin("at first", Told(first), place=level.document.place(("variables", name)))
        left = len(changes) - FEW
        shown = [*changes[: FEW // 2], *changes[-FEW // 2 :]] if left > 0 else changes
        for number, (_, record) in enumerate(shown):
            if left > 0 and number == FEW // 2:
                yield Origin(f"… and {left} more")
            path, _ = level.homes[parts(record.path)[-1][0]]
            told = SECURE if self.recorded.hidden(level, record) else Told(record.output[name])
            what, at_ = f"{record.kind} by {record.path}", (*path, record.kind, name)
            place = self.recorded.place(record.path) if len(changes) <= TRACED else None
            yield self.written(level, at_, what, told, place)

    def _local(self, here: Standpoint, chain: Chain, what: str, told: Told) -> Origin:
        """`item` or `index` of a loop, or of a select."""
        loop = self.recorded.loop_of(here, chain.root)
        if chain.root in here.names:
            loop = here.path, int(here.names["index"].value)
        if loop is None or chain.root == "index":
            return Origin(what, told, how=f"number of the item or pass of {loop[0]}" if loop else "")
        path, index = loop
        place = self.recorded.place(path)
        step = place.level.step(parts(path)[-1][0])
        rest = (index, *chain.members)
        origin = Origin(what, told, how=f"item {index} of {path}")
        key = ("item", path, rest)
        return self._once(origin, key, lambda: iter([self._list(place, step, step.kind, rest, told)]))

    def _list(
        self, place: Standpoint, step: m.Step, key: str, rest: Sequence[str | int], told: Told | None = None
    ) -> Origin:
        """The list that a foreach or select goes over, or a member of it."""
        home, _ = place.level.homes[parts(place.path)[-1][0]]
        given = getattr(step, key)
        if told is None:
            told = self.recorded.worked_out(place, given, expression=True).at(*rest)
        what = dotted(f"{place.path}.{key}", rest)
        return self.written(place.level, (*home, key), what, told, place, expression=isinstance(given, str), rest=rest)

    # What steps give

    def result(self, path: str, members: Sequence[str | int], what: str, told: Told, before: int) -> Origin:
        """A member of a step's result: `body`, `status`, `error` or `outputs`."""
        found = self.recorded.end(path, before)
        if found is None:
            return Origin(what, told, how=f"{path} did not run")
        record, part = found[1], members[0] if members else ""
        level = self.recorded.level(path)
        name = parts(path)[-1][0]
        home, _ = level.homes[name]
        step = level.step(name)
        failed = told.value is None and record.error is not None and not isinstance(step, m.LOOPS)
        if part != "body" or failed or record.status in ("skipped", "cancelled"):
            said = sentence(record)
            how = f"{path} {record.status.replace('_', ' ')}" + (f": {said}" if said else "")
            return Origin(what, told, how=how, place=level.document.place(home, key=True))
        rest = members[1:]
        place = self.recorded.place(path)
        match step:
            case m.Compose() | m.Parse() | m.Respond():
                return self.written(level, (*home, step.kind), what, told, place, rest=rest)
            case m.Select():
                return self._selected(place, step, what, told, rest)
            case m.Foreach() | m.Until():
                return self._looped(place, step, what, told, rest)
            case m.Run():
                return self._ran(path, step, what, told, rest, found[0])
            case m.Call() | m.Start():
                said = f"answer of {step.call}" if isinstance(step, m.Call) else f"the run of {step.start}"
                more = [sentence(record), moment(record.ended), f"try {record.attempt}" if record.attempt > 1 else ""]
                how = "; ".join(filter(None, [said, *more]))
                return Origin(what, told, how=how, place=level.document.place(home, key=True))
        return Origin(what, told, how=f"a step of kind {step.kind} has no body")

    def _selected(self, place: Standpoint, step: m.Select, what: str, told: Told, rest: Sequence[str | int]) -> Origin:
        home, _ = place.level.homes[parts(place.path)[-1][0]]
        items = self.recorded.items(place.path)
        key = ("select", place.path, tuple(rest))
        if rest and isinstance(rest[0], int) and (kept := self._kept(place, step, items, rest[0])) is not None:
            if at(place.level.document.data, (*home, "map")) is not None:
                return self.written(place.level, (*home, "map"), what, told, kept, rest=rest[1:])
            item = Chain("item", tuple(rest[1:]), 0)
            origin = Origin(what, told, how=f"chosen by {place.path}")
            return self._once(origin, key, lambda: iter([self.reference(kept, item)]))
        origin = Origin(what, told, how=f"chosen by {place.path}", place=place.level.document.place(home, key=True))
        return self._once(origin, key, lambda: self._choice(place, step, home))

    def _kept(self, place: Standpoint, step: m.Select, items: Told, number: int) -> Standpoint | None:
        """Where the item stood that a select gives as its nth."""
        left = number
        for index, item in enumerate(items.value if isinstance(items.value, list) else ()):
            here = replace(place, names={"item": Told(item), "index": Told(index)})
            if step.where is None or self.recorded.worked_out(here, step.where, expression=True).value is True:
                if not left:
                    return here
                left -= 1
        return None

    def _choice(self, place: Standpoint, step: m.Select, home: Path) -> Iterator[Origin]:
        yield self._list(place, step, "select", ())
        for key in ("where", "map"):
            if (raw := at(place.level.document.data, (*home, key))) is not None:
                at_ = place.level.document.place((*home, key))
                yield Origin(f"{place.path}.{key}", expression=_text(raw), place=at_, how="for each item")

    def _looped(
        self, place: Standpoint, step: m.Foreach | m.Until, what: str, told: Told, rest: Sequence[str | int]
    ) -> Origin:
        home, _ = place.level.homes[parts(place.path)[-1][0]]
        path, raw = (*home, "result"), at(place.level.document.data, (*home, "result"))
        if raw is None:
            return Origin(what, told, how="the loop has no `result`", place=place.level.document.place(home, key=True))
        if isinstance(step, m.Until):
            decided = self.recorded.decided(place.path)
            last = decided[1].output["pass"] if decided else 0
            return self.written(place.level, path, what, told, self.recorded.place_of_pass(place.path, last), rest=rest)
        if rest and isinstance(rest[0], int):
            ended = self.recorded.pass_status(place.path, rest[0])
            if ended != "succeeded":
                how = f"pass {rest[0]} of {place.path} {ended.replace('_', ' ') or 'did not run'}, so it gives null"
                return Origin(what, told, how=how, place=place.level.document.place(path))
            here = self.recorded.place_of_pass(place.path, rest[0])
            return self.written(place.level, path, what, told, here, rest=rest[1:])
        how = f"the `result` of each pass; of one: {place.path}.body[0]"
        origin = Origin(what, told, how=how, expression=_text(raw), place=place.level.document.place(path))
        return self._once(origin, ("loop", place.path), lambda: iter([self._list(place, step, "foreach", ())]))

    def _ran(self, path: str, step: m.Run, what: str, told: Told, rest: Sequence[str | int], order: int) -> Origin:
        """What the flow in a `run` step has responded, else its outputs."""
        level = self.recorded.level(f"{path}/x")
        origin = Origin(what, told, how=f"given by the flow {step.run}")

        def inner() -> Iterator[Origin]:
            if (responded := self.recorded.last_of(level, m.Respond.kind, order)) is not None:
                yield self.result(responded, ("body", *rest), dotted(f"{responded}.body", rest), told, order)
            else:
                here = Standpoint(level, level.prefix, order)
                given = dotted(f"{path} outputs", rest)
                yield self.written(level, ("outputs",), given, told, here, rest=rest)

        return self._once(origin, ("run", path, tuple(rest)), inner)


def _text(raw: Any) -> str:
    return raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)


def _joined(*words: str) -> str:
    return "; ".join(filter(None, words))


def _alone(raw: str, *, expression: bool) -> list[str]:
    """The expression that a text is nothing but, in a list; empty for a longer text."""
    return list(sources_of(raw, expression=expression)) if expression or len(segments(raw)) == 1 else []


def _is_plain(found: References) -> bool:
    """Whether an expression is nothing but a dotted name: then a member of its value is one of what it names."""
    if len(found.chains) != 1:
        return False
    (chain,) = found.chains
    return found.source.strip() == dotted(chain.root, chain.members)
