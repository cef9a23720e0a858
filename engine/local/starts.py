"""How a run begins: a flow with all that it needs, its row in the journal, and runs that other runs start."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract import CURRENT_CALL, Result, SystemClock
from engine.effects import SECURED, Program, Start
from engine.errors import ConfigError, DataError, did_you_mean
from engine.expressions import Ambient, bare, to_text
from engine.loader import Catalog, Document, load
from engine.loader.findings import DocumentError, Finding
from engine.model import trigger_of
from engine.types import JSON, type_name

if TYPE_CHECKING:
    from engine.cli.wiring import Workspace
    from engine.local.journal import Run


class Folder(Mapping[str, Document]):
    """The flows beside a flow by name: NAME.yaml, read when looked up."""

    def __init__(self, folder: Path) -> None:
        self._files = {p.stem: p for p in sorted(folder.glob("*.yaml")) if "." not in p.stem}
        self._files.pop("connections", None)
        self._read: dict[str, Document] = {}

    def __getitem__(self, name: str) -> Document:
        if name not in self._read:
            from engine.cli.wiring import load_document

            self._read[name] = load_document(self._files[name])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@dataclass
class Flow:
    """A checked flow in its workspace. `connect` swaps connections; `warnings` are what the check found."""

    workspace: Workspace
    document: Document
    program: Program
    inner: Mapping[str, Document]
    connect: Mapping[str, str]
    warnings: list[Finding]

    @classmethod
    def load(
        cls,
        workspace: Workspace,
        document: Document,
        connect: Mapping[str, str],
        beside: Mapping[str, Document] | None = None,
    ) -> Flow:
        """`beside` are the flows that it may run, by default those in its folder. Raises DocumentError."""
        from engine.loader import check

        found = beside if beside is not None else Folder(Path(document.file).parent)
        catalog = Catalog(workspace.catalog.functions, workspace.catalog.connections, found)
        program, findings = check(document, catalog, connect)
        if program is None:
            raise DocumentError(findings)
        inner = {name: found[name] for name in _flows(program)}
        return cls(workspace, document, program, inner, connect, findings)

    @classmethod
    def of(cls, workspace: Workspace, run: Run) -> Flow:
        """The flow of a recorded run, as it was."""
        journal = workspace.journal
        file, text = journal.document(run.digest)
        beside = {}
        for name, digest in run.flows.items():
            of_name, inner = journal.document(digest)
            beside[name] = load(inner, of_name)
        return cls.load(workspace, load(text, file), run.connect, beside)

    @cached_property
    def entries(self) -> frozenset[str]:
        """The connections that it reaches."""
        return frozenset(self.program.connections.values()).union(
            *(p.connections.values() for p in _flows(self.program).values())
        )

    def parameters(self, given: Mapping[str, str]) -> dict[str, JSON]:
        """Parameter values: given, else the default with its references resolved. Raises ConfigError."""
        declared = self.program.flow.parameters
        for name in given.keys() - declared.keys():
            hint = did_you_mean(name, set(declared))
            raise ConfigError(f"the flow has no parameter '{name}'", code="UnknownParameter", hint=hint)
        return self._parameters(self.program, given)

    def _parameters(self, program: Program, given: Mapping[str, str]) -> dict[str, JSON]:
        project, out = self.workspace.project, dict[str, JSON]()
        for name, parameter in program.flow.parameters.items():
            value = project.resolve(parameter.default, f"parameter {name}")
            if name in given:
                value = given[name]
                if parameter.type != "string":
                    try:
                        value = json.loads(value)
                    except ValueError as error:
                        message = f"parameter {name}: '{value}' is no JSON {parameter.type}"
                        raise ConfigError(message, code="Parameter") from error
            if parameter.hidden and isinstance(value, str):
                project.mask.add(value)
            if not _fits(parameter.type, value) and not (value is None and name not in given):
                message = f"parameter {name}: expected {parameter.type}, found {type_name(value)}"
                raise ConfigError(message, code="Parameter")
            out[name] = value
        return out

    def start(self, run: str, trigger: Mapping[str, JSON], parameters: Mapping[str, JSON]) -> Start:
        """What the decider begins with."""
        inner = {name: self._parameters(program, {}) for name, program in _flows(self.program).items()}
        environment = self.workspace.environment.name
        return Start(run=run, trigger=trigger, parameters=parameters, inner=inner, environment=environment)

    def split(self, trigger: Mapping[str, JSON], parameters: Mapping[str, JSON]) -> Iterator[dict[str, JSON]]:
        """A start for each item of `each` (as trigger.item, trigger.index), else the one. Raises DataError."""
        chosen = self.program.flow.triggers.get(str(trigger.get("name")))
        if chosen is None or chosen.each is None:
            yield dict(trigger)
            return
        items = self.program.expressions.evaluate(bare(str(chosen.each)), *_at_start(trigger, parameters))
        if not isinstance(items, list):
            raise DataError(f"each needs a list, found {type_name(items)}", code="NoList", hint=f"each: {chosen.each}")
        for index, item in enumerate(items):
            yield {**trigger, "item": item, "index": index}

    def wanted(self, trigger: Mapping[str, JSON], parameters: Mapping[str, JSON]) -> bool:
        """Whether the trigger's `when` holds."""
        chosen = self.program.flow.triggers.get(str(trigger.get("name")))
        if chosen is None or chosen.when is None:
            return True
        return self.program.expressions.condition(chosen.when, *_at_start(trigger, parameters))

    def row(
        self, trigger: Mapping[str, JSON], parameters: Mapping[str, JSON], id: str = "", *, bound: bool = True
    ) -> Run:
        """The row of a new run. Raises DataError where key or lane can't be told, unless it isn't `bound` to them."""
        from engine.local.journal import Run

        flow = self.program.flow
        secret = {name for name, p in flow.parameters.items() if p.hidden}
        key, lane = (self._text(trigger, parameters, which) if bound else None for which in ("key", "lane"))
        return Run(
            id=id or uuid.uuid4().hex,
            flow=flow.flow,
            digest=self.document.digest,
            flows={name: document.digest for name, document in self.inner.items()},
            environment=self.workspace.environment.name,
            connect=self.connect,
            targets=self.workspace.connections.targets(self.entries),
            trigger=trigger,
            parameters={name: SECURED if name in secret else value for name, value in parameters.items()},
            key=key,
            lane=lane,
            collapse=bool(getattr(flow.triggers.get(str(trigger.get("name"))), "collapse", False)),
            started=SystemClock().now(),
        )

    @staticmethod
    def keyed(row: Run, key: str | None) -> Run:
        """The row with a key, where it has none."""
        from dataclasses import replace

        return replace(row, key=row.key or key)

    @property
    def documents(self) -> dict[str, tuple[str, str]]:
        """The texts that a run of it is made by: digest → file name and text."""
        return {d.digest: (d.file, d.text) for d in (self.document, *self.inner.values())}

    def _text(self, trigger: Mapping[str, JSON], parameters: Mapping[str, JSON], which: str) -> str | None:
        """A key or lane; null or empty counts as none."""
        chosen = self.program.flow.triggers.get(str(trigger.get("name")))
        source = getattr(chosen, which, None)
        if not isinstance(source, str):
            return None
        return to_text(self.program.expressions.evaluate(bare(source), *_at_start(trigger, parameters))) or None


class Connections:
    """What a run may call: its connections, and under the empty name flowrun itself, which starts other runs."""

    def __init__(self, flow: Flow, started: Callable[[str], None]) -> None:
        self.flow = flow
        self.started = started  # told the id of each run that is queued

    def invoke(self, connection: str, operation: str, inputs: Mapping[str, JSON]) -> Result[Any]:
        if connection:
            return self.flow.workspace.connections.invoke(connection, operation, inputs)
        return self._start(str(inputs["flow"]), inputs["with"])

    def _start(self, name: str, given: JSON) -> Result[Any]:
        workspace = self.flow.workspace
        document = Folder(Path(self.flow.document.file).parent).get(name)
        if document is None:
            raise ConfigError(f"no flow '{name}' beside {self.flow.document.file}", code="NoFlow")
        own = document.data.get("connections") if isinstance(document.data, dict) else None
        connect = {a: e for a, e in self.flow.connect.items() if isinstance(own, dict) and a in own}
        try:
            flow = Flow.load(workspace, document, connect)
        except DocumentError as error:
            first = error.findings[0]
            raise ConfigError(f"{name} can't be started: {first.place}: {first.message}", code=first.code) from error
        trigger, parameters = trigger_of(flow.program.flow, given), flow.parameters({})
        if not flow.wanted(trigger, parameters):
            return Result(body={"run": None, "created": False}, summary=f"{name}: its trigger's `when` doesn't hold")
        id = uuid.uuid5(uuid.NAMESPACE_URL, CURRENT_CALL.get().idempotency_key).hex
        run, created = workspace.journal.enqueue(flow.row(trigger, parameters, id), flow.documents)
        if created or run == id:
            self.started(run)
        said = "queued run" if created else "there is run"
        return Result(body={"run": run, "created": created}, changed=created, summary=f"{said} {run[:8]} of {name}")


def _flows(program: Program) -> dict[str, Program]:
    """The flows that it runs, and those that they run."""
    out = dict(program.flows)
    for inner in program.flows.values():
        out |= _flows(inner)
    return out


def _at_start(trigger: Mapping[str, JSON], parameters: Mapping[str, JSON]) -> tuple[dict[str, Any], Ambient]:
    """The names that a trigger's expressions see, and the time."""
    return {"trigger": trigger, "parameters": parameters}, Ambient(SystemClock().now(), "")


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "string": str, "number": (int, float), "integer": int, "boolean": bool, "array": list, "object": dict,
}  # fmt: skip


def _fits(kind: str, value: Any) -> bool:
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def checked(text: str, source: str, schema: Mapping[str, Any] | None) -> JSON:
    """JSON out of a text, which fits a schema. Raises DataError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: no JSON: {error}", code="NotJson") from error
    return checked_value(value, source, schema)


def checked_value(value: JSON, source: str, schema: Mapping[str, Any] | None) -> JSON:
    """A value that fits a schema. Raises DataError."""
    if not schema:
        return value
    from jsonschema import Draft202012Validator

    fault = next(iter(Draft202012Validator(schema).iter_errors(value)), None)
    if fault is not None:
        raise DataError(f"{source}: {fault.json_path}: {fault.message}", code="SchemaViolation")
    return value
