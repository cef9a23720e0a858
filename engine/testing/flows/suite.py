"""A test file, loaded and checked with its flow: every name in it is one that the flow has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from engine import model as m
from engine.connections.config import SANDBOX, Environment, Project
from engine.connections.secrets import Mask
from engine.contract import Connector
from engine.effects import Program
from engine.errors import ConfigError, DataError, did_you_mean
from engine.functions import FUNCTIONS
from engine.loader import Catalog, Document, check, input_schema, load, output_schema
from engine.loader.findings import DocumentError, Finding
from engine.loader.fit import compare
from engine.local.starts import Folder
from engine.testing.flows.document import Case, FlowTests, schema_of_tests
from engine.testing.flows.matching import Keys, bad_patterns
from engine.testing.flows.paths import plain, shapes
from engine.testing.flows.services import collections_of, emulator_of
from engine.types import JSON, convert


@dataclass
class Suite:
    """A test file with its flow. `findings` are all mistakes; with an error among them there are no `cases`."""

    file: Path
    document: Document
    project: Project | None = None
    cases: Mapping[str, Case] = field(default_factory=dict)
    flow_file: Path = Path()
    programs: dict[frozenset[tuple[str, str]], Program] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path, mask: Mask) -> Suite:
        """Raises ConfigError where a file can't be read, or connections.yaml is wrong."""
        document = load(_read(file), str(file))
        suite = cls(file, document)
        if not document.findings:
            compare(suite.report, schema_of_tests(), document.data)
        if not document.findings:
            tests: FlowTests = convert(FlowTests, document.data, "tests")
            suite.flow_file = file.parent / tests.flow
            if not suite.flow_file.is_file():
                suite.report(("flow",), "NoFlow", f"there is no file {suite.flow_file}")
            else:
                suite.project = Project.find(suite.flow_file.parent, None, {}, mask)
                for name, case in tests.cases.items():
                    _Checker(suite, name, case).check()
                suite.cases = {} if document.findings else tests.cases
        return suite

    @property
    def findings(self) -> list[Finding]:
        unique = {(f.place, f.code, f.message): f for f in self.document.findings}
        return sorted(unique.values(), key=lambda f: (f.place.file != self.document.file, f.place))

    @cached_property
    def environment(self) -> Environment:
        """The sandbox, whose services are in memory: whatever connections.yaml says of faults, routes or real ones."""
        assert self.project is not None
        return replace(self.project.environment(SANDBOX), emulate={}, production=False, route={})

    def entries(self) -> Mapping[str, type[Connector]]:
        """The connectors that a flow may use here, by entry."""
        assert self.project is not None
        return self.project.entries(self.environment)

    def flow_document(self) -> Document:
        """The flow, read anew: a check leaves its findings in the document."""
        return load(_read(self.flow_file), str(self.flow_file))

    @cached_property
    def aliases(self) -> frozenset[str]:
        """The names that the flow gives its connections."""
        data = self.flow_document().data
        given = data.get("connections") if isinstance(data, dict) else None
        return frozenset(given if isinstance(given, dict) else ())

    def program(self, connect: Mapping[str, str]) -> Program:
        """The flow with these connections. Raises DocumentError."""
        key = frozenset(connect.items())
        if key not in self.programs:
            catalog = Catalog(FUNCTIONS, self.entries(), Folder(self.flow_file.parent))
            program, findings = check(self.flow_document(), catalog, connect)
            if program is None:
                raise DocumentError(findings)
            self.programs[key] = program
        return self.programs[key]

    def report(self, path: Keys, code: str, message: str, *, key: bool = False, **more: Any) -> None:
        key = key and isinstance(path[-1], str)  # an item of a list has none
        self.document.report(self.document.place(path, key=key), code, message, **more)

    def text_of(self, file: str) -> str:
        """A file named in the test, from its folder. Raises ConfigError."""
        return _read(self.file.parent / file)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't read {file}: {error.strerror}", code="NoFile") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no UTF-8 text (byte {error.start})", code="Encoding") from error


@dataclass
class _Checker:
    """Reports what a case says of things that the flow doesn't have."""

    suite: Suite
    name: str
    case: Case

    def check(self) -> None:
        if not self._connected():
            return
        try:
            program = self.suite.program(self.case.connect)
        except DocumentError as error:
            self.suite.document.findings += error.findings
            return
        self.program, self.flow = program, program.flow
        self.shapes = {path: (of, step) for path, of, step in shapes(program)}
        self.names = {path.rpartition("/")[2]: path for path in self.shapes}
        self._start()
        self._pins()
        self._records("given", self.case.given)
        self._expectations()

    @property
    def project(self) -> Project:
        assert self.suite.project is not None
        return self.suite.project

    def report(self, path: Keys, code: str, message: str, *, key: bool = False, **more: Any) -> None:
        self.suite.report(("cases", self.name, *path), code, message, key=key, **more)

    def unknown(self, path: Keys, what: str, name: str, known: Iterable[str]) -> None:
        message, hint = f"unknown {what} '{name}'", did_you_mean(name, set(known))
        self.report(path, f"Unknown{what.title()}", message, key=True, found=f"'{name}'", hint=hint)

    def _connected(self) -> bool:
        """Whether the connections are swapped as they can be."""
        entries, fine = self.suite.entries(), True
        for alias, entry in self.case.connect.items():
            if alias not in self.suite.aliases:
                self.unknown(("connect", alias), "connection", alias, self.suite.aliases)
                fine = False
            elif entry not in entries:
                message, hint = f"unknown connection '{entry}'", did_you_mean(entry, set(entries))
                self.report(("connect", alias), "UnknownConnection", message, found=f"'{entry}'", hint=hint)
                fine = False
        return fine

    def _start(self) -> None:
        case, triggers = self.case, self.flow.triggers
        name = case.trigger or next(iter(triggers), "")
        if name and name not in triggers:
            self.report(("trigger",), "UnknownTrigger", f"unknown trigger '{name}'",
                        hint=did_you_mean(name, set(triggers)))  # fmt: skip
        elif case.event is not None and not isinstance(triggers.get(name), m.Webhook | m.Poll):
            self.report(("event",), "NoEvent", "only a webhook or a poll brings events", key=True, hint="give `input`")
        if case.event is not None and case.input is not None:
            self.report(("input",), "Twice", "`event` says already what starts it", key=True, hint="keep one of them")
        if isinstance(case.input, str) and not (self.suite.file.parent / case.input).is_file():
            self.report(("input",), "NoFile", f"there is no file {self.suite.file.parent / case.input}")
        try:
            datetime.fromisoformat(case.now)
        except ValueError:
            self.report(("now",), "Time", f"'{case.now}' is no time", expected="such as 2026-11-24T12:00:00Z")
        for parameter in case.parameters.keys() - self.flow.parameters.keys():
            self.unknown(("parameters", parameter), "parameter", parameter, self.flow.parameters)

    def _pins(self) -> None:
        for what, given in (("steps", self.case.steps), ("faults", self.case.faults)):
            for key in given:
                for of, step in self._steps((what, key), key):
                    if not isinstance(step, m.Call) and not (isinstance(step, m.Start) and what == "steps"):
                        self.report((what, key), "NotACall", f"'{key}' is `{step.kind}`: it calls nothing", key=True)
                    elif isinstance(step, m.Call) and what == "faults":
                        if emulator_of(self.project, self.suite.environment, of.connections[step.alias]) is None:
                            message = f"'{key}' calls no emulated service that could fail"
                            self.report((what, key), "NoService", message, key=True, hint="pin how it fails: `steps`")
                    elif isinstance(step, m.Call):
                        raw = self._raw(what, key)
                        for index, pin in enumerate(raw if isinstance(raw, list) else [raw]):
                            at = (what, key, index) if isinstance(raw, list) else (what, key)
                            self._members(output_schema(of.operations[step.call]), pin.get("body"), (*at, "body"))

    def _steps(self, path: Keys, key: str) -> Iterator[tuple[Program, m.Step]]:
        """The steps that a key means; reports one that means none."""
        found = [self.shapes[p] for p in self.shapes if p == plain(key) or p.rpartition("/")[2] == key]
        if not found:
            self.unknown(path, "step", key, {*self.names, *self.shapes} if "/" in key else self.names)
        yield from found

    def _raw(self, *path: str | int) -> Any:
        value: Any = self.suite.document.data["cases"][self.name]
        for key in path:
            value = value[key]
        return value

    def _members(self, schema: Mapping[str, Any], value: JSON, path: Keys) -> None:
        """Reports members that a closed type doesn't have."""
        options = [o for o in schema.get("anyOf", [schema]) if o.get("type") != "null"]
        shape = options[0] if len(options) == 1 else {}
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._members(shape.get("items") or {}, item, (*path, index))
        elif isinstance(value, dict):
            known, more = shape.get("properties", {}), shape.get("additionalProperties")
            for key, inner in value.items():
                if key in known:
                    self._members(known[key], inner, (*path, key))
                elif more is False:
                    self.unknown((*path, key), "member", key, known)

    def _records(self, what: str, given: Mapping[str, Any]) -> None:
        for key in given:
            alias, _, collection = key.partition(".")
            path = (*what.split("."), key)
            if alias not in self.flow.connections:
                self.unknown(path, "connection", alias, self.flow.connections)
                continue
            entry = self.program.connections[alias]
            known = collections_of(self.project, self.suite.environment, entry)
            if collection not in known:
                self.unknown(path, "collection", collection, known)
            for index, record in enumerate(given[key] if what == "given" and collection in known else ()):
                if known[collection] not in record:
                    self.report((*path, index), "MissingKey", f"a record needs its {known[collection]}")

    def _expectations(self) -> None:
        wanted = self.case.expect
        for index, key in enumerate(wanted.get("order", ())):
            if not list(self._silent(key)):
                self.unknown(("expect", "order", index), "step", key, self.names)
        failing = str(wanted.get("error", {}).get("step", "outputs"))  # `outputs` is what the flow's own fail as
        if failing != "outputs" and not failing.startswith("~") and not list(self._silent(failing)):
            self.unknown(("expect", "error", "step"), "step", failing, self.names)
        for key in wanted.get("steps", {}):
            for of, step in self._steps(("expect", "steps", key), key):
                raw = self._raw("expect", "steps", key)
                for index, one in enumerate(raw if isinstance(raw, list) else [raw]):
                    at: Keys = ("expect", "steps", key, index) if isinstance(raw, list) else ("expect", "steps", key)
                    if isinstance(one, dict) and isinstance(step, m.Call):
                        op = of.operations[step.call]
                        self._members(input_schema(op), one.get("inputs"), (*at, "inputs"))
                        self._members(output_schema(op), one.get("body"), (*at, "body"))
        for key in wanted.get("outputs", {}).keys() - self.flow.outputs.keys():
            self.unknown(("expect", "outputs", key), "output", key, self.flow.outputs)
        self._records("expect.records", wanted.get("records", {}))
        for path, why in bad_patterns(self._raw().get("expect") or {}, ("expect",)):
            self.report(path, "Pattern", f"no regular expression: {why}")

    def _silent(self, key: str) -> Iterator[str]:
        return (p for p in self.shapes if p == plain(key) or p.rpartition("/")[2] == key)


def parameters_of(program: Program, given: Mapping[str, JSON], project: Project) -> dict[str, JSON]:
    """A flow's parameters: what a case gives, else the defaults. Raises ConfigError, DataError."""
    from jsonschema import Draft202012Validator

    out = {}
    for name, declared in program.flow.parameters.items():
        out[name] = given[name] if name in given else _default(project, name, declared.default)
        absent = out[name] is None and name not in given
        if not absent and not Draft202012Validator({"type": declared.type}).is_valid(out[name]):
            raise DataError(f"parameter {name} is no {declared.type}", code="Parameter")
        if declared.hidden and isinstance(out[name], str):
            project.mask.add(out[name])
    return out


def _default(project: Project, name: str, default: JSON) -> JSON:
    try:
        return project.resolve(default, f"parameter {name}")
    except ConfigError as error:
        hint = f"tests see no secrets: give `parameters: {{{name}: …}}` in the case"
        raise ConfigError(error.message, code=error.code, hint=hint) from error
