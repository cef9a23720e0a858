"""Checks a whole document before anything runs: every finding at once, each with its place, pure.

The schema finds what a part may hold; then names, order, connections, expressions and their members are looked at.
Parts that do not fit the schema are set aside, so that the rest is still checked.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine import model
from engine.calls import ALERT
from engine.contract import Connector, Event, Operation
from engine.effects import Program
from engine.errors import ConfigError, did_you_mean
from engine.expressions import ExpressionError, Expressions, Function, arity_message, bare, segments
from engine.loader.document import Document, Path, load
from engine.loader.findings import DocumentError, Finding
from engine.loader.fit import at, faults_of_schema, fit
from engine.loader.references import Chain, References, holding, references, texts
from engine.loader.schema import flow_schema, input_schema, output_schema
from engine.types import JSON, fields, type_name

ROOTS = frozenset({"trigger", "parameters", "variables", "steps", "run"})
RECORD = frozenset({"status", "body", "error", "outputs"})
RUN = frozenset({"id", "flow", "environment"})


@dataclass(frozen=True)
class Catalog:
    """What a document may use: functions, connectors by the connection entries of the environment, other flows by name.

    Looking a connector up may raise ConfigError (a broken plugin).
    """

    functions: Mapping[str, Function] = field(default_factory=dict)
    connections: Mapping[str, type[Connector]] = field(default_factory=dict)
    flows: Mapping[str, Document] = field(default_factory=dict)


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
    if isinstance(document.data, dict):
        program = _Checker(document, catalog, connect or {}, around).check()
    else:
        program = None
        if not document.findings:
            document.report(document.place(()), "WrongType", "a flow is an object", found=type_name(document.data))
    unique = {(f.place, f.code, f.message): f for f in document.findings}
    findings = sorted(unique.values(), key=lambda f: (f.place.file != document.file, f.place))
    return (None if any(f.severity == "error" for f in findings) else program), findings


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
        self.paths: dict[str, Path] = {}  # step → its path in the document
        self.homes: dict[str, Path] = {}  # step → path of the list it stands in
        self.before: dict[str, frozenset[str]] = {}  # step → steps that have ended when it begins
        self.reads: dict[str, set[str]] = {}
        self.tainted: dict[str, set[str]] = {}  # step → of inputs, outputs
        self.secret_variables: set[str] = set()
        self._references: dict[str, References] = {}

    def report(self, path: Path, code: str, message: str, *, key: bool = False, inside: str = "", **more: Any) -> None:
        step = _step_of(path)
        self.document.report(self.document.place(path, key=key, inside=inside), code, message, step=step, **more)

    def check(self) -> Program | None:
        self._connections()
        called = {text for _, text in texts(self.document.data) if text in self.operations}
        schema = flow_schema({name: input_schema(self.operations[name]) for name in sorted(called)})
        data = copy.deepcopy(self.document.data)
        fit(self.report, schema, data)
        if not isinstance(self.document.data.get("steps"), dict):
            return None  # without steps every reference to one would be a finding of its own
        flow = model.build(data)
        functions = dict(self.catalog.functions)
        for alias, connector in self.aliases.items():
            functions |= {f"{alias}.{n}": Function(f"{alias}.{n}", f) for n, f in connector.functions.items()}
        self.expressions = Expressions(functions)
        self.flow = flow
        self._names()
        self.loops = {name: step for name, step in flow.all_steps.items() if isinstance(step, model.LOOPS)}
        self._order(("steps",), flow.steps, frozenset())
        for name, step in flow.all_steps.items():
            self._step(name, step)
        for name, trigger in flow.triggers.items():
            self._expressions(trigger, ("triggers", name), None, roots=frozenset({"trigger", "parameters"}))
            self._schemas(("triggers", name, "schema"), ("triggers", name, "manual", "inputs"))
            hook: str | None = getattr(trigger, "webhook", None)
            if hook is not None and hook not in flow.connections:
                self._unknown(("triggers", name, "webhook"), "connection", hook, set(flow.connections))
        self._expressions(flow, (), None)
        if flow.alerts is not None:
            self._expressions(flow.alerts, ("alerts",), None, roots=ROOTS | {"error"})
            self._operation(("alerts", "to"), flow.alerts.to)
        self._taint()
        secure = {name: frozenset(parts) for name, parts in self.tainted.items() if parts}
        reads = {name: frozenset(steps) for name, steps in self.reads.items()}
        return Program(flow, self.expressions, self.operations, secure, reads, self.entries, self.flows)

    # Connections and schema

    def _connections(self) -> None:
        given = self.document.data.get("connections")
        given = given if isinstance(given, dict) else {}
        for alias in self.connect.keys() - given.keys():
            hint = did_you_mean(alias, set(given))
            self.report(
                ("connections",), "UnknownConnection", f"--connect names no alias '{alias}'", key=True, hint=hint
            )
        for alias, named in given.items():
            entry = self.entries[alias] = self.connect.get(alias) or str(named)
            try:
                connector = self.catalog.connections.get(entry)
            except ConfigError as error:
                self.report(("connections", alias), error.code, error.message, hint=error.hint)
                continue
            if connector is None:
                self._unknown(("connections", alias), "connection", entry, set(self.catalog.connections))
                continue
            self.aliases[alias] = connector
            self.operations |= {f"{alias}.{name}": op for name, op in connector.operations().items()}

    def _unknown(self, path: Path, what: str, name: str, known: set[str], **more: Any) -> None:
        hint = did_you_mean(name, known)
        self.report(path, f"Unknown{what.title()}", f"unknown {what} '{name}'", found=f"'{name}'", hint=hint, **more)

    # Names and order

    def _names(self) -> None:
        for path, block in model.walk(self.flow):
            for name in block:
                if name in self.paths:
                    first = self.document.place(self.paths[name], key=True)
                    self.report((*path, name), "DuplicateStep", f"step '{name}' stands in line {first.line} already",
                                key=True, hint="step names are unique in the whole document")  # fmt: skip
                else:
                    self.paths[name], self.homes[name] = (*path, name), path

    def _order(self, path: Path, block: Mapping[str, model.Step], outer: frozenset[str]) -> None:
        """Which steps have ended before each one begins; reports strangers and cycles in run_after."""
        after = model.predecessors(block)
        astray: set[str] = set()
        for name, preds in after.items():
            for pred in [p for p in preds if p not in block or p == name]:
                where = (*path, name, "run_after")
                message = "a step can't run after itself" if pred == name else f"'{pred}' is no step beside '{name}'"
                self.report(where, "RunAfter", message, inside=pred, hint=did_you_mean(pred, set(block) - {name}))
                astray.add(name)
        ended = {name: frozenset(self.paths) for name in astray}  # after a stranger: nobody knows after what
        self.before |= ended
        waiting = {name: preds for name, preds in after.items() if name not in ended}
        while ready := [name for name, preds in waiting.items() if preds.keys() <= ended.keys()]:
            for name in ready:
                done = outer.union(*(ended[p] | {p} | self._inside(block[p]) for p in waiting.pop(name)))
                ended[name] = self.before[name] = done
        while idle := [n for n in waiting if not any(n in preds for preds in waiting.values())]:
            for name in idle:  # waits for the cycle, but isn't on it
                self.before[name] = frozenset(self.paths)
                del waiting[name]
        for name in waiting:
            others = " → ".join(waiting)
            self.report((*path, name, "run_after"), "Cycle", f"'{name}' waits for itself: {others}")
            self.before[name] = outer
        for name, step in block.items():
            for keys, inner in step.blocks():
                self._order((*path, name, *keys), inner, self.before[name])

    def _inside(self, step: model.Step) -> frozenset[str]:
        if isinstance(step, model.LOOPS):
            return frozenset()
        inner = [(name, s) for _, block in step.blocks() for name, s in block.items()]
        return frozenset(name for name, _ in inner).union(*(self._inside(s) for _, s in inner))

    # Steps and expressions

    def _step(self, name: str, step: model.Step) -> None:
        path = self.paths[name]
        if isinstance(step, model.Call):
            self._operation((*path, "call"), step.call)
            op = self.operations.get(step.call)
            if step.secure and op is not None and op.effect == "write":
                self.report((*path, "secure"), "SecureWrite", "a write can't be secure", key=True,
                            hint="its record is what keeps it from being done twice")  # fmt: skip
        if isinstance(step, model.Set | model.Append | model.Increment):
            for variable in getattr(step, step.kind):
                if variable not in self.flow.variables:
                    where = (*path, step.kind, variable)
                    self._unknown(where, "variable", variable, set(self.flow.variables), key=True)
        if isinstance(step, model.Foreach) and step.as_ in ROOTS | {"index"}:
            self.report((*path, "as"), "Name", f"'{step.as_}' has a meaning already", hint="choose another name")
        if isinstance(step, model.Parse):
            self._schemas((*path, "schema"))
        if isinstance(step, model.Run | model.Start):
            self._flow((*path, step.kind), getattr(step, step.kind), inside=isinstance(step, model.Run))
        self._expressions(step, path, name)

    def _operation(self, path: Path, call: str) -> None:
        alias, _, operation = call.partition(".")
        if alias not in self.flow.connections:
            self._unknown(path, "connection", alias, set(self.flow.connections))
        elif alias in self.aliases and call not in self.operations:
            known = {o.partition(".")[2] for o in self.operations if o.startswith(f"{alias}.")}
            self._unknown(path, "operation", operation, known, inside=operation)

    def _flow(self, path: Path, name: str, *, inside: bool) -> None:
        """Another flow: one that runs inside this one is checked with it."""
        around = (*self.around, self.flow.flow)
        if name in around and inside:
            self.report(path, "Recursion", f"'{name}' would run itself: {' → '.join((*around, name))}",
                        hint=f"`start: {name}` begins a run of its own")  # fmt: skip
        elif (document := self.catalog.flows.get(name)) is None:
            self._unknown(path, "flow", name, set(self.catalog.flows), expected=f"{name}.yaml beside this file")
        elif inside and name not in self.flows:
            own = document.data.get("connections") if isinstance(document.data, dict) else None
            connect = {a: e for a, e in self.connect.items() if isinstance(own, dict) and a in own}
            program, findings = check(document, self.catalog, connect, around)
            self.document.findings += findings
            if program is not None:
                self.flows[name] = program

    def _schemas(self, *paths: Path) -> None:
        for path in paths:
            for inner, message in faults_of_schema(self._raw(path)):
                self.report((*path, *inner), "Schema", f"no JSON Schema: {message}")

    def _expressions(self, holder: Any, path: Path, step: str | None, roots: frozenset[str] = ROOTS) -> None:
        self.roots = roots
        data = self._raw(path)
        kind: Any = type(holder)
        for key, what in holding(kind).items():
            value = data.get(key) if isinstance(data, dict) else None
            for inner, text in texts(value, (*path, key)):
                if what == "expression" and not isinstance(value, list):
                    self._expression(inner, bare(text), step, key)
                elif "{{" in text:
                    self._template(inner, text, step, key)

    def _raw(self, path: Path) -> JSON:
        return at(self.document.data, path)

    def _template(self, path: Path, text: str, step: str | None, key: str) -> None:
        try:
            parts = segments(text)
        except ExpressionError as error:
            self.report(path, error.code, error.message, inside="{{", hint=error.hint)
            return
        for part in parts:
            if part.expression:
                self._expression(path, part.text, step, key)

    def _expression(self, path: Path, source: str, step: str | None, key: str) -> None:
        def report(code: str, message: str, offset: int, **more: Any) -> None:
            start = self.document.place(path, inside=source.strip())
            lead = len(source) - len(source.lstrip())
            place = type(start)(start.file, start.line, start.column + max(0, offset - lead))
            if "\n" in source:
                place = start
            self.document.report(place, code, message, step=step or "", **more)

        try:
            parsed = self.references(source)
        except ExpressionError as error:
            report(error.code, f"{source.strip()}: {error.message}", error.offset, hint=error.hint)
            return
        for name, given, offset in parsed.calls:
            f = self.expressions.functions.get(name)
            if f is not None and (given < f.least or (f.most is not None and given > f.most)):
                report("Arguments", arity_message(f, given), offset, expected=f.signature)
        local = self._locals(step, key)
        for chain in parsed.chains:
            for code, message, more in self._chain(chain, step, key, local):
                report(code, message, chain.offset, **more)

    def references(self, source: str) -> References:
        """Raises ExpressionError."""
        if source not in self._references:
            self._references[source] = references(self.expressions, source)
        return self._references[source]

    def _safe_chains(self, source: str) -> list[Chain]:
        try:
            return self.references(source).chains
        except ExpressionError:
            return []

    def _locals(self, step: str | None, key: str) -> set[str]:
        """The loop names that hold where an expression of this step stands."""
        names: set[str] = set()
        for name, owner in self.loops.items():
            path = self.paths[name]
            inside = step is not None and self.homes[step][: len(path)] == path
            if isinstance(owner, model.Foreach) and (inside or (name == step and key == "result")):
                names |= {owner.as_, "index"}
            if isinstance(owner, model.Until) and (inside or (name == step and key in ("until", "result"))):
                names.add("index")
        if step is not None and isinstance(self.flow.all_steps[step], model.Select) and key in ("where", "map"):
            names |= {"item", "index"}
        return names

    def _chain(
        self, chain: Chain, step: str | None, key: str, local: set[str]
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        root, members = chain.root, chain.members
        first = members[0] if members else None
        if root in local:
            return
        if root not in ROOTS | self.roots:
            yield _no_such("name", root, self.roots | local | self.expressions.functions.keys())
        elif root not in self.roots:
            yield "NotBefore", f"'{root}' is not there yet when a trigger is looked at", {}
        elif root == "parameters" and first is not None and first not in self.flow.parameters:
            yield _no_such("parameter", str(first), set(self.flow.parameters))
        elif root == "variables" and first is not None and first not in self.flow.variables:
            yield _no_such("variable", str(first), set(self.flow.variables))
        elif root == "run" and first is not None and first not in RUN | (self.roots & {"error"} and {"status"}):
            yield _no_such("member", str(first), RUN)
        elif root == "trigger":
            yield from self._trigger(members)
        elif root == "steps" and isinstance(first, str):
            if first not in self.paths:
                yield _no_such("step", first, set(self.paths))
                return
            self.reads.setdefault(step or "", set()).add(first)
            yield from self._order_of(first, step, key)
            yield from self._members(first, members[1:])

    def _trigger(self, members: tuple[str | int, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        kinds = {type(t) for t in self.flow.triggers.values()}
        shape: dict[str, set[str]] = {"name": set()}
        if kinds & {model.Webhook, model.Poll} or not kinds:
            shape["event"] = set(fields(Event))
        if kinds & {model.Manual, model.Schedule} or not kinds:
            shape |= {"inputs": set(), "time": set()}
        if any(t.each is not None for t in self.flow.triggers.values()):
            shape |= {"item": set(), "index": set()}
        if members and members[0] not in shape:
            yield _no_such("member", str(members[0]), set(shape))
        elif (
            len(members) > 1
            and (known := shape[str(members[0])])
            and members[1] not in known
            and kinds == {model.Webhook}
        ):
            yield _no_such("member", str(members[1]), known)

    def _order_of(self, named: str, step: str | None, key: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        home = self.homes[named]
        here = self.homes[step] if step is not None else ("steps",)
        inside = (*self.paths[step],) if step is not None and key in ("result", "until") else ()
        loop = next((n for n in reversed(home) if isinstance(self.flow.all_steps.get(str(n)), model.LOOPS)), None)
        if loop is not None and self.paths[str(loop)] not in (here[: len(self.paths[str(loop)])], inside):
            hint = f"give the loop a `result:` and use steps.{loop}.body"
            yield "IntoLoop", f"'{named}' is inside the loop '{loop}': it has no single result outside", {"hint": hint}
        elif (
            step is not None
            and named not in self.before[step]
            and not (self.paths[step] == home[: len(self.paths[step])] and key in ("result", "until"))
        ):
            if named == step:
                yield "NotBefore", f"'{named}' refers to itself", {}
            elif step in self.before[named]:
                yield "NotBefore", f"'{named}' runs after '{step}'", {"hint": "move the step, or use run_after"}
            else:
                hint = f"add run_after: {named}" if home == here else ""
                yield "NotBefore", f"'{named}' hasn't run when '{step}' begins", {"hint": hint}

    def _members(self, named: str, members: tuple[str | int, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
        if not members:
            return
        if members[0] not in RECORD:
            hint = f"did you mean steps.{named}.body.{members[0]}?"
            yield (
                "UnknownMember",
                f"a step has no '{members[0]}'",
                {"expected": ", ".join(sorted(RECORD)), "hint": hint},
            )
            return
        step = self.flow.all_steps[named]
        op = self.operations.get(step.call) if isinstance(step, model.Call) else None
        if members[0] != "body" or op is None:
            return
        shape: dict[str, Any] = output_schema(op)
        for member in members[1:]:
            options = [o for o in shape.get("anyOf", [shape]) if o.get("type") != "null"]
            shape = options[0] if len(options) == 1 else {}
            if isinstance(member, int):
                shape = shape.get("items", {})
            elif member in (known := shape.get("properties", {})):
                shape = known[member]
            elif known:
                closed = shape.get("additionalProperties") is False
                hint = did_you_mean(member, set(known))
                if closed or hint.startswith("did you"):
                    more = {"hint": hint, "severity": "error" if closed else "warning"}
                    yield "UnknownMember", f"the result of {op.name} has no '{member}'", more
                return
            else:
                more_keys = shape.get("additionalProperties")
                shape = more_keys if isinstance(more_keys, dict) else {}

    # Secrets

    def _taint(self) -> None:
        """What reads a secure output or a secret parameter is secure itself; repeated until nothing is added."""
        steps = self.flow.all_steps
        for name, step in steps.items():
            self.tainted[name] = set(step.secure or ())
        while True:
            before = (sum(map(len, self.tainted.values())), len(self.secret_variables))
            for name, step in steps.items():
                if self._reads_secret(step, self.paths[name]):
                    op = self.operations.get(step.call) if isinstance(step, model.Call) else None
                    self.tainted[name] |= {"inputs"} if op and op.effect == "write" else {"inputs", "outputs"}
                    if isinstance(step, model.Set | model.Append | model.Increment):
                        self.secret_variables |= set(getattr(step, step.kind))
            if before == (sum(map(len, self.tainted.values())), len(self.secret_variables)):
                break
        self.tainted[""] = {"outputs"} if self._reads_secret(self.flow, ()) else set()
        if self.flow.alerts is not None and self._reads_secret(self.flow.alerts, ("alerts",)):
            self.tainted |= {ALERT + what: {"inputs", "outputs"} for what in self.flow.alerts.on}

    def _reads_secret(self, holder: Any, path: Path) -> bool:
        secret = {name for name, p in self.flow.parameters.items() if p.hidden}
        around = {s.as_ for n, s in self.loops.items() if isinstance(s, model.Foreach) and "inputs" in self.tainted[n]
                  and path[: len(self.paths[n])] == self.paths[n]}  # fmt: skip
        data = self._raw(path)
        kind: Any = type(holder)
        for key, what in holding(kind).items():
            for _, text in texts(data.get(key) if isinstance(data, dict) else None):
                parts = [bare(text)] if what == "expression" else [s.text for s in _safe_segments(text)]
                for chain in (c for part in parts for c in self._safe_chains(part)):
                    first = chain.members[0] if chain.members else None
                    known = {"parameters": secret, "variables": self.secret_variables}.get(chain.root, set())
                    if first in known or (first is None and known) or chain.root in around:
                        return True
                    if chain.root == "steps" and "outputs" in self.tainted.get(str(first), ()):
                        return True
        return False


def _safe_segments(text: str) -> list[Any]:
    try:
        return [s for s in segments(text) if s.expression]
    except ExpressionError:
        return []


def _no_such(what: str, name: str, known: Any) -> tuple[str, str, dict[str, Any]]:
    return f"Unknown{what.title()}", f"unknown {what} '{name}'", {"hint": did_you_mean(name, set(known))}


def _step_of(path: Path) -> str:
    """The step that a path in a document leads into."""
    lists = {"steps", "then", "else", "default"}
    names = [
        str(name)
        for i, name in enumerate(path[1:], 1)
        if path[0] == "steps" and (path[i - 1] in lists or (i > 1 and path[i - 2] == "cases"))
    ]
    return names[-1] if names else ""
