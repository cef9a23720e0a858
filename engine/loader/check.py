"""Checks a whole document before anything runs: every finding at once, each with its place, pure.

The schema finds what a part may hold; then names, order, connections, expressions and their members are looked at.
Parts that do not fit the schema are set aside, so that the rest is still checked and nothing is said twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine import model
from engine.calls import ALERT
from engine.contract import Connector, Operation
from engine.effects import Program
from engine.errors import ConfigError, DataError, did_you_mean
from engine.expressions import Expressions, Function
from engine.loader.document import Document, Lost, Path, load, uncollected, value_at
from engine.loader.findings import DocumentError, Finding
from engine.loader.fit import compare, fit
from engine.loader.misfits import ANYTHING
from engine.loader.names import AT_START, ROOTS, Where
from engine.loader.order import Order
from engine.loader.reading import Reading, case_misses
from engine.loader.references import pieces
from engine.loader.schema import flow_schema, input_schema, templated
from engine.loader.shapes import ANY, WHOLE, Shape, items
from engine.loader.taint import secured
from engine.loader.triggers import check_trigger, is_time
from engine.loader.user_schema import faults_of_schema
from engine.loader.variables import Access, races, unfit
from engine.loader.words import nearest
from engine.types import JSON, type_name

# Findings about a name that the document has to define: what sort of name it is.
NAMED = {
    "UnknownConnection": "connection", "UnknownStep": "step", "RunAfter": "step", "UnknownVariable": "variable",
    "UnknownParameter": "parameter", "UnknownName": "name", "UnknownMember": "member",
}  # fmt: skip


@dataclass(frozen=True)
class Catalog:
    """What a document may use: functions, connectors by the connection entries of the environment, other flows by name.

    Looking a connector up may raise ConfigError (a broken plugin). `files` are those beside the flow, if known.
    """

    functions: Mapping[str, Function] = field(default_factory=dict)
    connections: Mapping[str, type[Connector]] = field(default_factory=dict)
    flows: Mapping[str, Document] = field(default_factory=dict)
    files: Collection[str] | None = None


def load_flow(text: str, file: str, catalog: Catalog, connect: Mapping[str, str] | None = None) -> Program:
    """A flow ready to run. Raises DocumentError with every finding; warnings alone don't raise."""
    program, findings = check(load(text, file), catalog, connect)
    if program is None:
        raise DocumentError(findings)
    return program


def check(
    document: Document, catalog: Catalog, connect: Mapping[str, str] | None = None, around: tuple[str, ...] = ()
) -> tuple[Program | None, list[Finding]]:
    """The program, unless there are errors, and all findings in the order of the text, those of inner flows after them.

    `connect` swaps connections: alias → entry; `around` names the flows that run this one.
    """
    copy = replace(document, findings=list(document.findings), dropped=set(document.dropped), spelt={})
    program = None
    if isinstance(copy.data, dict):
        with uncollected():
            program = _Checker(copy, catalog, connect or {}, around).check()
    elif not copy.findings:
        copy.report(copy.place(()), "WrongType", "a flow is an object", expected="`flow: NAME` and `steps:`",
                    found=type_name(copy.data))  # fmt: skip
    unique = {(f.place, f.code, f.message): f for f in copy.findings}
    findings = _grouped(sorted(unique.values(), key=lambda f: (f.place.file != document.file, f.place)))
    return (None if any(f.severity == "error" for f in findings) else program), findings


def _grouped(findings: list[Finding]) -> list[Finding]:
    """One finding for one unknown name: the first, with the lines of the others."""
    first: dict[tuple[str, str, str], int] = {}
    lines: dict[int, list[int]] = {}
    out: list[Finding] = []
    for finding in findings:
        kind = NAMED.get(finding.code) if finding.found.count("'") == 2 else None
        key = (finding.place.file, kind or "", finding.message if kind == "member" else finding.found)
        if kind and key in first:
            lines.setdefault(first[key], []).append(finding.place.line)
            continue
        first.setdefault(key, len(out))
        out.append(finding)
    for i, others in lines.items():
        more = ", ".join(map(str, dict.fromkeys(others)))
        out[i] = replace(out[i], message=f"{out[i].message} (also in line {more})")
    return out


class _Checker:
    def __init__(
        self, document: Document, catalog: Catalog, connect: Mapping[str, str], around: tuple[str, ...]
    ) -> None:
        self.document = document
        self.catalog = catalog
        self.connect = connect
        self.around = around
        self.flows: dict[str, Program] = {}  # those that it runs
        self.entries: dict[str, str] = {}  # alias → entry
        self.operations: dict[str, Operation] = {}
        self.aliases: dict[str, type[Connector]] = {}

    def report(
        self,
        path: Path,
        code: str,
        message: str,
        *,
        key: bool = False,
        at: int | None = None,
        step: str = "",
        **more: Any,
    ) -> None:
        """Adds a finding; names in what was set aside are known, whatever they are."""
        dropped = self.document.dropped
        if code in NAMED and more.get("found", "").strip("'") in dropped:
            return
        if code == "UnknownStep" and ANYTHING in dropped:
            return
        place = self.document.place(path, key=key, at=at)
        self.document.report(place, code, message, step=step or _step_of(path), **more)

    def check(self) -> Program | None:
        flow = self._model()
        if flow is None:
            return None
        functions = dict(self.catalog.functions)
        for alias, connector in self.aliases.items():
            functions |= {f"{alias}.{n}": Function(f"{alias}.{n}", f) for n, f in connector.functions.items()}
        self.flow = flow
        self.order = Order(flow, self.document, self.report)
        expressions = Expressions(functions)
        self.reading = Reading(flow, self.document, self.order, expressions, self.operations, self.aliases, self.report)
        self._declarations()
        for name, trigger in flow.triggers.items():
            self._trigger(("triggers", name), trigger)
        self._steps(("steps",), flow.steps, {})
        self.reading.fields(flow, (), Where())
        if flow.alerts is not None:
            self.reading.fields(flow.alerts, ("alerts",), Where(ALERT, roots=ROOTS | {"error"}))
            self._operation(("alerts", "to"), flow.alerts.to)
        unfit(flow.variables, self.reading.accesses, self.report)
        races(self.order, self.reading.accesses, self.report)
        secure = secured(flow, self.operations, self.order, self.reading.chains)
        reads = {name: frozenset(steps) for name, steps in self.reading.reads.items() if name != ALERT}
        return Program(flow, expressions, self.operations, secure, reads, self.entries, self.flows)

    # Connections and schema

    def _model(self) -> model.Flow | None:
        """The flow as far as it fits the schema; None if there is nothing to look at."""
        given = value_at(self.document.data, ("connections",))
        if not isinstance(given, dict):  # it may be misspelt
            given = next((v for k, v in self.document.data.items() if nearest(k, {"connections"})), None)
        self._connections(given if isinstance(given, dict) else {})
        called = {text for _, text, _ in pieces(self.document.data) if text in self.operations}
        schema = flow_schema({name: input_schema(self.operations[name]) for name in sorted(called)})
        data = fit(self.report, schema, self.document)
        if not isinstance(value_at(self.document.data, ("steps",)), dict):
            return None  # without steps every reference to one would be a finding of its own
        try:
            return model.build(data)
        except DataError:
            return None  # what is in the way has been reported

    def _connections(self, given: Mapping[str, JSON]) -> None:
        for alias in self.connect.keys() - given.keys():
            self.report(("connections",), "UnknownConnection", f"--connect names no alias '{alias}'", key=True,
                        hint=did_you_mean(alias, set(given)))  # fmt: skip
        for alias, named in given.items():
            entry = self.entries[alias] = self.connect.get(alias) or str(named)
            if isinstance(named, Lost) or not isinstance(named, str):
                continue
            try:
                connector = self.catalog.connections.get(entry)
            except ConfigError as error:
                self.report(("connections", alias), "Connector", error.message, hint=error.hint)
                continue
            if connector is None:
                self._unknown(("connections", alias), "connection", entry, set(self.catalog.connections))
                continue
            self.aliases[alias] = connector
            self.operations |= {f"{alias}.{name}": op for name, op in connector.operations().items()}

    def _unknown(self, path: Path, what: str, name: str, known: set[str], **more: Any) -> None:
        hint = did_you_mean(name, known)
        self.report(
            path, f"Unknown{what.title()}", f"unknown {what} '{name}'", found=f"'{name}'", **{"hint": hint, **more}
        )

    def _undeclared(self, path: Path, what: str, name: str, known: Mapping[str, Any], **more: Any) -> None:
        hint = did_you_mean(name, set(known))
        if what == "connection" and name in self.catalog.connections and not hint.startswith("did"):
            hint = f"declare it: `connections: {{{name}: {name}}}`"
        self._unknown(path, what, name, set(known), hint=hint or f"declare it: `{what}s: {{{name}: …}}`", **more)

    # Declarations and triggers

    def _declarations(self) -> None:
        """First values: they are kept as they are written, and have to be of the type that is declared."""
        for name, parameter in self.flow.parameters.items():
            path: Path = ("parameters", name, "default")
            default = parameter.default
            given = value_at(self.document.data, ("parameters", name))
            declared = given.get("type", "string") if isinstance(given, dict) else None
            reference = isinstance(default, str) and ("${" in default or isinstance(default, Lost))
            if default is not None and not reference and declared == parameter.type:
                compare(lambda p, *rest, path=path, **more: self.report((*path, *p), *rest, **more),
                        {"type": parameter.type}, default, f"{name}.default")  # fmt: skip
            self._unevaluated(
                path, default, "a default is not evaluated", "give the value with --set, or compose it in a step"
            )
        for name, first in self.flow.variables.items():
            path = ("variables", name)
            if isinstance(first, dict) and set(first) == {"type"}:
                types = {"enum": ["string", "number", "integer", "boolean", "array", "object"]}
                compare(
                    lambda p, *rest, path=path, **more: self.report((*path, "type", *p), *rest, **more),
                    types,
                    first["type"],
                    f"variables.{name}.type",
                )
            self._unevaluated(
                path, first, "a variable's first value is not evaluated", "set it by a step: `set: {NAME: …}`"
            )

    def _unevaluated(self, path: Path, value: JSON, message: str, hint: str) -> None:
        for inner, text, key in pieces(value, path):
            if "{{" in text and not key:
                self.report(inner, "NotEvaluated", message, at=text.find("{{"), severity="warning", hint=hint)

    def _trigger(self, path: Path, trigger: model.Trigger) -> None:
        connector = None
        if isinstance(trigger, model.Webhook):
            if trigger.webhook in self.flow.connections:
                connector = self.aliases.get(trigger.webhook)
            elif trigger.webhook:
                self._unknown((*path, "webhook"), "connection", trigger.webhook, set(self.flow.connections))
        if isinstance(trigger, model.Poll):
            self._operation((*path, "poll"), trigger.poll)
        given = value_at(self.document.data, path)
        check_trigger(trigger, given, path, connector, self.catalog.files, self.report)
        self.reading.fields(trigger, path, Where(f"trigger {path[-1]}", roots=AT_START))
        self._schemas((*path, "schema"), (*path, "manual", "inputs"))
        manual = value_at(self.document.data, (*path, "manual"))
        for key in manual if isinstance(manual, dict) else ():
            if key != "inputs":
                hint = did_you_mean(key, {"inputs"}).partition("known")[0] or "write {inputs: JSON Schema}"
                self.report((*path, "manual", key), "UnknownKey", f"unknown key '{key}'", key=True, hint=hint)

    # Steps

    def _steps(self, path: Path, block: Mapping[str, model.Step], names: Mapping[str, Shape]) -> None:
        for name, step in block.items():
            here = (*path, name)
            self._step(here, name, step)
            loop = isinstance(step, model.LOOPS)
            item = self._item(here, step) if isinstance(step, model.Foreach) else "item"
            inner = {"index": WHOLE} if loop or isinstance(step, model.Select) else None
            if inner and not isinstance(step, model.Until):
                inner[item] = ANY
            where = Where(name, name, locals=names)
            found = self.reading.fields(step, here, where, inner, item)
            self.reading.keep(name, step, found)
            within = {**names, **(inner or {})} if loop else names
            if isinstance(step, model.Foreach):
                within = {**within, item: items(found.get("foreach", ANY))}
            if isinstance(step, model.Switch):
                for case, hint in case_misses(step, found.get("switch", ANY)).items():
                    self.report((*here, "cases", case), "NeverEqual", f"the value is never '{case}'", key=True,
                                severity="warning", hint=hint)  # fmt: skip
            for keys, steps in step.blocks():
                self._steps((*here, *keys), steps, within)

    def _item(self, path: Path, step: model.Foreach) -> str:
        """The name of a loop's item; any name, if what is given is none."""
        given = value_at(self.document.data, path).get("as", step.as_)
        return step.as_ if given == step.as_ and step.as_ not in ROOTS else ANYTHING

    def _step(self, path: Path, name: str, step: model.Step) -> None:
        if step.timeout and not model.seconds(step.timeout):
            self.report((*path, "timeout"), "WrongValue", f"{name}.timeout: no time at all", expected="more than 0s")
        match step:
            case model.Call():
                self._operation((*path, "call"), step.call)
                op = self.operations.get(step.call)
                if step.secure and op is not None and op.effect == "write":
                    self.report((*path, "secure"), "SecureWrite", "a write can't be secure", key=True,
                                hint="leave it out: its record is what keeps it from being done twice")  # fmt: skip
            case model.Set() | model.Append() | model.Increment():
                for variable, value in getattr(step, step.kind).items():
                    where = (*path, step.kind, variable)
                    if variable not in self.flow.variables:
                        self._undeclared(where, "variable", variable, self.flow.variables, key=True)
                    fixed = ... if any("{{" in text for _, text, _ in pieces(value)) else value
                    self.reading.accesses.append(Access(name, variable, step.kind, where, value=fixed))  # type: ignore[arg-type]
            case model.Foreach() if step.as_ in ROOTS | {"index"}:
                self.report((*path, "as"), "Name", f"'{step.as_}' has a meaning already", hint="choose another name")
            case model.Parse():
                self._schemas((*path, "schema"))
            case model.Run() | model.Start():
                self._flow(path, step.kind, getattr(step, step.kind))
            case model.Wait(wait=model.Moment(until=until)):
                if "{{" not in until and not is_time(until):
                    self.report(
                        (*path, "wait", "until"),
                        "Time",
                        f"'{until}' is no time",
                        expected="a time such as 2026-11-24T12:00:00Z",
                        hint="a span stands as `wait: 10m`",
                    )

    def _operation(self, path: Path, call: str) -> None:
        alias, _, operation = call.partition(".")
        if not call:
            return
        if alias not in self.flow.connections:
            self._undeclared(path, "connection", alias, self.flow.connections)
        elif alias in self.aliases and call not in self.operations:
            known = {o.partition(".")[2] for o in self.operations if o.startswith(f"{alias}.")}
            self._unknown(path, "operation", operation, known, at=len(alias) + 1)

    def _flow(self, path: Path, kind: str, name: str) -> None:
        """Another flow: one that runs inside this one is checked with it, and what it is given against its inputs."""
        around = (*self.around, self.flow.flow)
        inside = kind == "run"
        if not name:
            return
        if name in around and inside:
            self.report((*path, kind), "Recursion", f"'{name}' would run itself: {' → '.join((*around, name))}",
                        hint=f"`start: {name}` begins a run of its own")  # fmt: skip
            return
        document = self.catalog.flows.get(name)
        if document is None:
            others = set(self.catalog.flows) - {self.flow.flow}
            self._unknown((*path, kind), "flow", name, others, expected=f"{name}.yaml beside this file")
            return
        self._inputs(path, document)
        if inside and name not in self.flows:
            own = value_at(document.data, ("connections",))
            connect = {a: e for a, e in self.connect.items() if isinstance(own, dict) and a in own}
            program, findings = check(document, replace(self.catalog, files=None), connect, around)
            self.document.findings += findings
            if program is not None:
                self.flows[name] = program

    def _inputs(self, path: Path, document: Document) -> None:
        """What another flow is given has to fit the inputs of its manual trigger."""
        triggers = value_at(document.data, ("triggers",))
        found = triggers.values() if isinstance(triggers, dict) else ()
        schema = next((value_at(t, ("manual", "inputs")) for t in found if isinstance(t, dict) and "manual" in t), None)
        if not isinstance(schema, dict) or faults_of_schema(schema):
            return
        given = value_at(self.document.data, (*path, "with"))
        if not isinstance(given, dict) and "with" in value_at(self.document.data, path):
            return

        def report(inner: Path, code: str, message: str, **more: Any) -> None:
            self.report((*path, "with", *inner) if given is not None else path, code, message, **more)

        compare(report, templated(schema), given if given is not None else {}, "with")

    def _schemas(self, *paths: Path) -> None:
        for path in paths:
            for inner, message in faults_of_schema(value_at(self.document.data, path)):
                self.report((*path, *inner), "Schema", f"no JSON Schema: {message}")


def _step_of(path: Path) -> str:
    """The step that a path in a document leads into."""
    lists = {"steps", "then", "else", "default"}
    names = [
        str(name)
        for i, name in enumerate(path[1:], 1)
        if path[0] == "steps" and (path[i - 1] in lists or (i > 1 and path[i - 2] == "cases"))
    ]
    return names[-1] if names else ""
