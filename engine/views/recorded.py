"""What a run has recorded, looked up as its expressions saw it: at their place in the flow, at their time.

Nothing is stored for this. A value that isn't recorded as such (a condition, a loop's item) is worked out again from
what is, unless a function in it gives something else each time. What is secure is never looked into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from engine import model as m
from engine.effects import FINAL, SECURED, Program, Record
from engine.errors import DataError
from engine.expressions import Ambient, bare, segments
from engine.loader.document import Document
from engine.loader.references import Chain, references, texts
from engine.state import CHANGES, Plan, Variables
from engine.types import JSON
from engine.views.outcome import Execution, pass_status
from engine.views.standpoint import LAST, SECURE, Level, Standpoint, Told, parts

MOST_BESIDE = 50  # changes that are looked at one by one


class Recorded:
    """The records of one run of a flow. `inner` are the documents of the flows that it runs, by name."""

    def __init__(
        self,
        program: Program,
        document: Document,
        inner: Mapping[str, Document],
        records: list[Record],
        run: Mapping[str, JSON],
        trigger: Mapping[str, JSON],
        parameters: Mapping[str, JSON],
    ) -> None:
        self.inner = inner
        self.records = records
        self.run = run
        told = {name: SECURE if value == SECURED else Told(value) for name, value in parameters.items()}
        self.root = Level(program, document, "", Told(trigger), told)
        self._levels = {"": self.root}
        self._items: dict[str, Told] = {}
        self.resumes = [n for n, record in enumerate(records) if record.status == "resumed"]
        self._by_path: dict[str, list[tuple[int, Record]]] = {}
        for order, record in enumerate(records):
            self._by_path.setdefault(record.path, []).append((order, record))
        kinds = {kind.kind for kind in CHANGES}
        self._changing = {path: found for path, found in self._by_path.items() if found[0][1].kind in kinds}

    # Records

    def of(self, path: str) -> list[tuple[int, Record]]:
        """All records of a path, each with its place in the journal."""
        return self._by_path.get(path, [])

    def end(self, path: str, before: int = LAST) -> tuple[int, Record] | None:
        """The last end of a step by then."""
        return next(((n, r) for n, r in reversed(self.of(path)) if r.status in FINAL and n < before), None)

    def decided(self, path: str, before: int = LAST) -> tuple[int, Record] | None:
        """A container's last decision by then."""
        return next(((n, r) for n, r in reversed(self.of(path)) if r.status == "decided" and n < before), None)

    def passes(self, path: str) -> int:
        """How many passes a loop has made, or was to make."""
        decided = self.decided(path)
        if decided is None:
            return int(self.within(f"{path}[0]") is not None)
        output: JSON = decided[1].output if isinstance(decided[1].output, dict) else {}
        return int(output.get("count", output.get("pass", -1) + 1))

    def pass_status(self, path: str, index: int) -> str:
        """How a pass of a loop ended, empty for one that hasn't begun."""
        step = self.level(path).step(parts(path)[-1][0])
        (block,) = (steps for _, steps in step.blocks())
        ends = {name: self.end(f"{path}[{index}]/{name}") for name in block}
        inside = {name: Execution(name, (e[1],), e[1].status) if e else None for name, e in ends.items()}
        end = self.end(path)
        return pass_status(Plan(block), inside, end[1].status if end else "running")

    def last_of(self, level: Level, kind: str, before: int) -> str | None:
        """The path of the last step of a kind that succeeded in a flow by then."""
        found = [
            (end[0], path)
            for path, records in self._by_path.items()
            if records[0][1].kind == kind and path.startswith(level.prefix) and self.level(path) is level
            if (end := self.end(path, before)) is not None and end[1].status == "succeeded"
        ]
        return max(found)[1] if found else None

    def within(self, path: str) -> int | None:
        """The place of the last record of a step inside a container or pass."""
        inside = [n for other, found in self._by_path.items() if other.startswith(f"{path}/") for n, _ in found]
        return max(inside, default=None)

    # Flows and places

    def level(self, path: str) -> Level:
        """The flow that a step's path leads into."""
        level, at = self.root, ""
        for name, index in parts(path)[:-1]:
            at += name if index is None else f"{name}[{index}]"
            step = level.program.flow.all_steps.get(name)
            level = self._enter(level, at, step) if isinstance(step, m.Run) else level
            at += "/"
        return level

    def _enter(self, level: Level, path: str, step: m.Run) -> Level:
        prefix = f"{path}/"
        if prefix not in self._levels:
            program = level.program.flows[step.run]
            inputs = self.inputs(path)
            trigger = inputs if inputs.secure else Told(m.trigger_of(program.flow, inputs.value))
            parameters = {n: SECURE if p.hidden else Told(p.default) for n, p in program.flow.parameters.items()}
            self._levels[prefix] = Level(program, self.inner[step.run], prefix, trigger, parameters)
        return self._levels[prefix]

    def place(self, path: str) -> Standpoint:
        """Where and when the expressions of a step were last evaluated."""
        found = self.decided(path) or next((e for e in reversed(self.of(path)) if e[1].status != "late"), None)
        if found is None:
            return Standpoint(self.level(path), path)
        order, since = found[0], found[1].started
        order = min((n for n, r in self.of(path) if r.started == since), default=order)
        place = Standpoint(self.level(path), path, order, since)
        step = place.level.step(parts(path)[-1][0])
        return self._among(place, step) if isinstance(step, m.Call) else place

    def _among(self, place: Standpoint, step: m.Call) -> Standpoint:
        """Where a call stood among the changes that were made beside it at the very time when it began.

        A call is recorded when it has ended. Its inputs tell which of these changes it has seen.
        """
        inputs = self.inputs(place.path)
        if inputs.secure or inputs.unknown:
            return place
        beside = sorted(
            n for found in self._changing.values() for n, r in found if r.ended == place.since and n < place.order
        )
        for order in [place.order, *reversed(beside[-MOST_BESIDE:])]:
            there = replace(place, order=order)
            if self.worked_out(there, step.with_, expression=False) == inputs:
                return there
        return place

    def place_of_pass(self, path: str, index: int) -> Standpoint:
        """Where and when a loop looked at what a pass had done."""
        at = f"{path}[{index}]"
        last = self.within(at)
        return Standpoint(self.level(path), at, LAST if last is None else last + 1)

    # Values

    def inputs(self, path: str) -> Told:
        found = next((r for _, r in reversed(self.of(path)) if r.inputs is not None), None)
        if found is None:
            return Told(unknown="it was not recorded")
        return SECURE if "inputs" in found.secure or found.inputs == SECURED else Told(found.inputs)

    def result(self, path: str, before: int = LAST) -> Mapping[str, Told]:
        """`status`, `body`, `error` and `outputs` of a step, as expressions read them."""
        found = self.end(path, before)
        if found is None:
            return {"status": Told("skipped"), "body": Told(), "error": Told(), "outputs": Told()}
        record = found[1]
        hidden = hides(record)
        body = (
            Told()
            if path in self._changing
            else SECURE
            if hidden and record.output is not None
            else Told(record.output)
        )
        outputs = SECURE if hidden and record.outputs is not None else Told(record.outputs)
        return {"status": Told(record.status), "body": body, "error": Told(record.error), "outputs": outputs}

    def changes(self, place: Standpoint, variable: str) -> list[tuple[int, Record]]:
        """The changes of a variable that count at a place and time, in order."""
        end = next((n for n in self.resumes if n > place.order), LAST)  # what is redone later counts until then
        out = []
        for path, found in self._changing.items():
            last = next(((n, r) for n, r in reversed(found) if n < end), None)
            if last is None or last[0] >= place.order or last[1].status != "succeeded":
                continue
            if place.since is not None and last[1].ended is not None and last[1].ended > place.since:
                continue
            if path.startswith(place.level.prefix) and self.level(path) is place.level:
                step = place.level.program.flow.all_steps.get(path.rpartition("/")[2])  # a repaired flow may lack it
                out += [last] if isinstance(step, CHANGES) and variable in getattr(step, step.kind) else []
        return sorted(out, key=lambda entry: entry[0])

    def hidden(self, level: Level, record: Record) -> bool:
        """Whether a change of a variable is secure: what a step takes in is what it stores."""
        return hides(record) or record.path.rpartition("/")[2] in level.program.secure

    def variable(self, place: Standpoint, name: str) -> Told:
        """The value of a variable there and then; secure from the first secure change until it is set anew."""
        variables, secure = Variables(place.level.program.flow), False
        for _, record in self.changes(place, name):
            secure = self.hidden(place.level, record) or (secure and record.kind != m.Set.kind)
            if not secure:
                try:
                    variables.change(record.kind, name, record.output[name])
                except DataError as error:
                    return Told(unknown=error.message)
        return SECURE if secure else Told(variables[name])

    def items(self, path: str) -> Told:
        """The list that a foreach or a select goes over."""
        if path not in self._items:
            place = self.place(path)
            step = place.level.step(parts(path)[-1][0])
            self._items[path] = self.worked_out(place, getattr(step, step.kind), expression=True)
        return self._items[path]

    def loop_of(self, place: Standpoint, name: str) -> tuple[str, int] | None:
        """The loop that a name belongs to (its path) and the pass, None if it is no name of one."""
        at, found = place.level.prefix, None
        for one, index in parts(place.path[len(place.level.prefix) :]):
            step = place.level.step(one)
            if index is not None and (name == "index" or (isinstance(step, m.Foreach) and name == step.as_)):
                found = at + one, index
            at += f"{one}/" if index is None else f"{one}[{index}]/"
        return found

    def local(self, place: Standpoint, name: str) -> Told | None:
        """A name of a loop or of a select; None if it is none."""
        if name in place.names:
            return place.names[name]
        loop = self.loop_of(place, name)
        if loop is None:
            return None
        return Told(loop[1]) if name == "index" else self.items(loop[0]).at(loop[1])

    def look(self, place: Standpoint, chain: Chain) -> Told:
        """What an expression found where it refers to something."""
        members = chain.members
        if (local := self.local(place, chain.root)) is not None:
            return local.at(*members)
        first = str(members[0]) if members else ""
        match chain.root:
            case "trigger":
                return place.level.trigger.at(*members)
            case "run":
                return Told({**self.run, "flow": place.level.program.flow.flow}).at(*members)
            case "parameters" if first in place.level.parameters:
                return place.level.parameters[first].at(*members[1:])
            case "variables" if first in place.level.program.flow.variables:
                return self.variable(place, first).at(*members[1:])
            case "steps" if first in place.level.homes:
                result = self.result(place.path_of(first), place.order)
                if len(members) > 1:
                    return result[str(members[1])].at(*members[2:]) if members[1] in result else Told()
                secure = any(told.secure for told in result.values())
                return SECURE if secure else Told({name: told.value for name, told in result.items()})
        return Told(unknown=f"'{chain.root}' is not known here")

    def worked_out(self, place: Standpoint, given: JSON, *, expression: bool) -> Told:
        """The value of an expression, or of what holds some, evaluated again."""
        expressions = place.level.program.expressions
        scope: dict[str, Any] = {}
        try:
            for source in sources_of(given, expression=expression):
                found = references(expressions, source)
                known = (expressions.functions[name] for name, _, _ in found.calls if name in expressions.functions)
                if impure := [f.name for f in known if f.impure]:
                    return Told(unknown=f"{impure[0]}() gives something else each time")
                for chain in found.chains:
                    for told in self._into(scope, place, chain):
                        if told.secure or told.unknown:
                            return told
            ambient = Ambient(place.since or datetime.min.replace(tzinfo=UTC), "")
            if expression and isinstance(given, str):
                return Told(expressions.evaluate(bare(given), scope, ambient))
            return Told(expressions.render(given, scope, ambient))
        except DataError as error:
            return Told(unknown=error.message)

    def _into(self, scope: dict[str, Any], place: Standpoint, chain: Chain) -> Iterator[Told]:
        """Puts what an expression refers to into its scope; gives what is known of it, piece by piece."""
        if chain.root not in ("parameters", "variables", "steps") or self.local(place, chain.root) is not None:
            told = self.look(place, Chain(chain.root, (), 0))
            scope[chain.root] = told.value
            yield told
            return
        flow = place.level.program.flow
        known: Mapping[str, Any] = {"parameters": flow.parameters, "variables": flow.variables}.get(
            chain.root, place.level.homes
        )
        first = str(chain.members[0]) if chain.members else ""
        group = scope.setdefault(chain.root, {})
        for name in [first] if first in known else known:  # a name that is worked out: it may be any
            if chain.root == "steps":
                result = self.result(place.path_of(name), place.order)
                group[name] = {key: told.value for key, told in result.items()}
                part = str(chain.members[1]) if first in known and len(chain.members) > 1 else ""
                yield from [result[part]] if part in result else result.values()
            else:
                told = self.look(place, Chain(chain.root, (name,), 0))
                group[name] = told.value
                yield told


def hides(record: Record) -> bool:
    """Whether a step's result is secure."""
    return "outputs" in record.secure or record.output == SECURED


def sources_of(given: JSON, *, expression: bool) -> Iterator[str]:
    """The expressions in a value of a document."""
    if expression and isinstance(given, str):
        yield bare(given)
        return
    for _, text in texts(given):
        yield from (s.text for s in segments(text) if s.expression) if "{{" in text else ()
