"""The flow document as frozen classes. Their types are the one declaration: schema, checks and editor help follow.

A field marked `Expr` is always an expression (bare or braced), one marked `Value` may hold `{{ … }}` anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from engine.errors import DataError, did_you_mean
from engine.types import JSON, Doc, Key, Pattern, Range, Schema, convert, converter

Status: TypeAlias = Literal["succeeded", "failed", "skipped", "timed_out", "cancelled"]
NAME = r"[a-z][a-z0-9_]*"
# Digits are bounded, so that every duration is a span that a date can be moved by.
DURATION = (
    r"(?:(?:\d{1,9}(?:\.\d{1,6})?(?:ms|s|m)|\d{1,6}(?:\.\d{1,6})?h|\d{1,5}(?:\.\d{1,6})?d)+"
    r"|P(?=\d|T\d)(?:\d{1,4}W|(?:\d{1,5}D)?(?:T(?:\d{1,6}H)?(?:\d{1,9}M)?(?:\d{1,9}(?:\.\d{1,6})?S)?)?))"
)


@dataclass(frozen=True)
class Holds:
    """Marks a field that holds expressions: `expression` (all of it) or `template` (`{{ … }}` in its texts)."""

    what: Literal["expression", "template"]


Name: TypeAlias = Annotated[str, Pattern(NAME, "a name such as get_lead (a-z, 0-9, _)")]
Expr: TypeAlias = Annotated[str | bool, Holds("expression")]
Items: TypeAlias = Annotated[str | list[Any], Holds("expression")]
Value: TypeAlias = Annotated[Any, Holds("template")]
Values: TypeAlias = Annotated[dict[str, Any], Holds("template")]
Template: TypeAlias = Annotated[str, Pattern(r"[\s\S]*\{\{[\s\S]*", "an expression in {{ }}")]
Duration: TypeAlias = Annotated[str, Pattern(DURATION, "a duration such as 10m, 1h30m or PT10M")]
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> float:
    """Seconds of `10m`, `1h30m`, `500ms` or an ISO 8601 duration (days to seconds, or weeks). Raises DataError."""
    if not re.fullmatch(DURATION, duration):
        raise DataError(f"'{duration}' is no duration", code="Duration", hint="write 10m, 1h30m or PT10M")
    if duration.startswith("P"):
        found = re.findall(r"(\d+(?:\.\d+)?)([WDHMS])", duration)
        return sum(float(n) * {"W": 604800, "D": 86400, "H": 3600, "M": 60, "S": 1}[unit] for n, unit in found)
    return sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", duration))


AfterStatus: TypeAlias = Literal["succeeded", "failed", "skipped", "timed_out", "any"]
RunAfter: TypeAlias = Annotated[
    str | list[str] | dict[str, AfterStatus | list[AfterStatus]],
    Doc("Siblings to wait for: `a`, `[a, b]`, `{a: failed}`, `{a: [failed, timed_out]}`, `{a: any}`; `{}` = at once"),
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Retry:
    """How often and when a step that failed for a passing reason is tried again."""

    count: Annotated[int, Range(0, 90), Doc("Tries after the first")] = 8
    interval: Annotated[Duration, Doc("Wait before the first retry")] = "1s"
    max_interval: Annotated[Duration, Doc("Longest wait")] = "30s"
    kind: Annotated[Literal["exponential", "fixed"], Doc("exponential doubles the wait, with full jitter")] = (
        "exponential"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One step. One key says what it does."""

    title: Annotated[str | None, Doc("Shown instead of the name")] = None
    note: Annotated[str | None, Doc("For readers")] = None
    when: Annotated[
        Expr | None, Holds("expression"), Doc("Skipped unless true; what comes after runs all the same")
    ] = None
    run_after: RunAfter | None = None
    retry: Retry | None = None
    timeout: Annotated[Duration | None, Doc("For all tries together")] = None
    secure: Annotated[list[Literal["inputs", "outputs"]] | None, Doc("Kept out of the journal")] = None

    kind: ClassVar[str] = ""

    @classmethod
    def from_json(cls, value: JSON, path: str) -> Step:
        """The step of the kind that its key names. Raises DataError."""
        kinds = [k for k in STEP_KINDS if isinstance(value, dict) and k in value]
        if not kinds:
            keys = set(value) if isinstance(value, dict) else set()
            raise DataError(
                f"{path}: no key says what it does", hint=did_you_mean(next(iter(keys), ""), set(STEP_KINDS))
            )
        kind: Any = STEP_KINDS[kinds[0]]
        step: Step = converter(kind)(value, path)
        return step

    def blocks(self) -> Iterator[tuple[tuple[str, ...], Mapping[str, Step]]]:
        """The step lists inside it, each with its path of keys."""
        return iter(())


Steps: TypeAlias = Annotated[dict[str, Step], Schema({"propertyNames": {"pattern": f"^{NAME}$"}, "minProperties": 1})]
_TEXT = {"type": "string", "pattern": r"\{\{"}
_OF_ANSWER = {"status": {"anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, _TEXT]}, "body": {},
              "headers": {"anyOf": [{"type": "object"}, _TEXT]}}  # fmt: skip
Answer = Schema({"properties": _OF_ANSWER, "additionalProperties": False})
OneVariable = Schema({"minProperties": 1, "maxProperties": 1})


@dataclass(frozen=True, kw_only=True, eq=False)
class Call(Step):
    """Calls an operation of a connection."""

    call: Annotated[str, Doc("alias.operation"), Pattern(rf"{NAME}\.{NAME}", "alias.operation")]
    with_: Annotated[Values, Holds("template"), Key("with"), Doc("Its inputs")] = field(default_factory=dict)
    kind: ClassVar[str] = "call"

    @property
    def alias(self) -> str:
        return self.call.partition(".")[0]

    @property
    def operation(self) -> str:
        return self.call.partition(".")[2]


@dataclass(frozen=True, kw_only=True, eq=False)
class Set(Step):
    """Gives a variable a value."""

    set: Annotated[Values, Holds("template"), OneVariable, Doc("{variable: value}")]
    kind: ClassVar[str] = "set"


@dataclass(frozen=True, kw_only=True, eq=False)
class Append(Step):
    """Adds one item to a list variable, or text to a text variable."""

    append: Annotated[Values, Holds("template"), OneVariable, Doc("{variable: one item}")]
    kind: ClassVar[str] = "append"


@dataclass(frozen=True, kw_only=True, eq=False)
class Increment(Step):
    """Adds to a number variable."""

    increment: Annotated[Values, Holds("template"), OneVariable, Doc("{variable: by}")]
    kind: ClassVar[str] = "increment"


@dataclass(frozen=True, kw_only=True, eq=False)
class Compose(Step):
    """Gives a value a name."""

    compose: Value
    kind: ClassVar[str] = "compose"


@dataclass(frozen=True, kw_only=True, eq=False)
class Parse(Step):
    """Checks a value against a JSON Schema."""

    parse: Value
    schema: dict[str, Any] = field(default_factory=dict)
    kind: ClassVar[str] = "parse"


@dataclass(frozen=True, kw_only=True, eq=False)
class Select(Step):
    """Filters and maps a list; `item` and `index` are names in `where` and `map`."""

    select: Items
    where: Annotated[Expr | None, Holds("expression")] = None
    map: Value = "{{ item }}"
    kind: ClassVar[str] = "select"


@dataclass(frozen=True, kw_only=True, eq=False)
class If(Step):
    """Runs one of two branches."""

    if_: Annotated[Expr, Holds("expression"), Key("if")]
    then: Steps = field(default_factory=dict)
    else_: Annotated[Steps | None, Key("else")] = None
    kind: ClassVar[str] = "if"

    def blocks(self) -> Iterator[tuple[tuple[str, ...], Mapping[str, Step]]]:
        yield ("then",), self.then
        yield ("else",), self.else_ or {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Switch(Step):
    """Runs the case whose text equals the value, else `default`."""

    switch: Expr
    cases: dict[str, Steps]
    default: Steps | None = None
    kind: ClassVar[str] = "switch"

    def blocks(self) -> Iterator[tuple[tuple[str, ...], Mapping[str, Step]]]:
        for text, steps in self.cases.items():
            yield ("cases", text), steps
        yield ("default",), self.default or {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Foreach(Step):
    """Runs its steps once for each item of a list; all items run even if one fails."""

    foreach: Items
    as_: Annotated[Name, Key("as"), Doc("Name of the item inside; its number is `index`")] = "item"
    concurrency: Annotated[int, Range(1, 50), Doc("Items at once")] = 1
    steps: Steps
    result: Annotated[Value, Holds("template"), Doc("What each item gives: steps.NAME.body is the list of them")] = None
    kind: ClassVar[str] = "foreach"

    def blocks(self) -> Iterator[tuple[tuple[str, ...], Mapping[str, Step]]]:
        yield ("steps",), self.steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Limit:
    """When a loop gives up."""

    count: Annotated[int, Range(1, 5000)] = 60
    timeout: Duration = "1h"


@dataclass(frozen=True, kw_only=True, eq=False)
class Until(Step):
    """Runs its steps until the condition holds (read after each pass)."""

    until: Expr
    limit: Limit = field(default_factory=Limit)
    on_limit: Literal["fail", "succeed"] = "fail"
    steps: Steps
    result: Value = None
    kind: ClassVar[str] = "until"

    def blocks(self) -> Iterator[tuple[tuple[str, ...], Mapping[str, Step]]]:
        yield ("steps",), self.steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """A point in time."""

    until: Annotated[str, Doc("Such as 2026-11-24T12:00:00Z")]


@dataclass(frozen=True, kw_only=True, eq=False)
class Wait(Step):
    """Waits for a time span, or until a time."""

    wait: Annotated[Duration | Template | Moment, Holds("template"), Doc("10m, or {until: time}")]
    kind: ClassVar[str] = "wait"


@dataclass(frozen=True, kw_only=True, eq=False)
class Respond(Step):
    """Answers the caller."""

    respond: Annotated[Values, Holds("template"), Answer, Doc("{status, headers, body}")]
    kind: ClassVar[str] = "respond"


@dataclass(frozen=True, kw_only=True, eq=False)
class Fault:
    """Code and message of an error."""

    code: str = "Terminated"
    message: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Terminate(Step):
    """Ends the run at once."""

    terminate: Literal["succeeded", "failed", "cancelled"]
    error: Annotated[Fault | None, Holds("template")] = None
    kind: ClassVar[str] = "terminate"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scope(Step):
    """Groups steps, so that what comes after can follow their common outcome."""

    steps: Steps
    kind: ClassVar[str] = "steps"

    def blocks(self) -> Iterator[tuple[tuple[str, ...], Mapping[str, Step]]]:
        yield ("steps",), self.steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Run(Step):
    """Runs another flow inside this run; its steps are recorded under this step's name."""

    run: Annotated[Name, Doc("The flow's name: NAME.yaml beside this file")]
    with_: Annotated[Values, Holds("template"), Key("with"), Doc("What its trigger gets")] = field(default_factory=dict)
    kind: ClassVar[str] = "run"


@dataclass(frozen=True, kw_only=True, eq=False)
class Start(Step):
    """Queues a run of another flow, by that flow's own key and lane, and doesn't wait for it."""

    start: Annotated[Name, Doc("The flow's name: NAME.yaml beside this file")]
    with_: Annotated[Values, Holds("template"), Key("with"), Doc("What its trigger gets")] = field(default_factory=dict)
    kind: ClassVar[str] = "start"


# The order is that of precedence: `steps` stands in loops too, so the scope comes last.
_KINDS = (
    Call,
    Set,
    Append,
    Increment,
    Compose,
    Parse,
    Select,
    If,
    Switch,
    Foreach,
    Until,
    Wait,
    Respond,
    Terminate,
    Run,
    Start,
    Scope,
)
STEP_KINDS: Mapping[str, type[Step]] = {kind.kind: kind for kind in _KINDS}
LOOPS = (Foreach, Until)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trigger:
    """What starts a run. One key says which kind it is."""

    when: Annotated[Expr | None, Holds("expression"), Doc("No run starts unless true")] = None
    each: Annotated[Expr | None, Holds("expression"), Doc("One run for each item")] = None
    key: Annotated[Expr | None, Holds("expression"), Doc("Same key, same run")] = None
    lane: Annotated[Expr | None, Holds("expression"), Doc("One run at a time for one lane")] = None
    collapse: Annotated[bool, Doc("A newer queued run of the lane supersedes an older one")] = False
    sample: Annotated[str | None, Doc("JSON file used in the sandbox when no input is given")] = None
    schema: Annotated[dict[str, Any] | None, Doc("JSON Schema of the event")] = None

    @classmethod
    def from_json(cls, value: JSON, path: str) -> Trigger:
        """The trigger of the kind that its key names. Raises DataError."""
        kinds = [k for k in TRIGGER_KINDS if isinstance(value, dict) and k in value]
        if not kinds:
            raise DataError(f"{path}: no key says what starts it", hint=did_you_mean("", set(TRIGGER_KINDS)))
        kind: Any = TRIGGER_KINDS[kinds[0]]
        trigger: Trigger = converter(kind)(value, path)
        return trigger


@dataclass(frozen=True, kw_only=True, eq=False)
class Webhook(Trigger):
    """A call from outside, verified and normalised by a connection."""

    webhook: Annotated[str, Doc("Connection that verifies it")]
    events: Annotated[list[str] | None, Doc("Event types that start a run; absent = all")] = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule(Trigger):
    """A time table."""

    schedule: Annotated[str, Doc("cron")]
    zone: str = "UTC"
    missed: Literal["run_once", "run_all", "skip"] = "run_once"


@dataclass(frozen=True, kw_only=True, eq=False)
class Poll(Trigger):
    """Asks for changes from time to time."""

    poll: Annotated[str, Doc("alias.operation"), Pattern(rf"{NAME}\.{NAME}", "alias.operation")]
    with_: Annotated[Values, Holds("template"), Key("with")] = field(default_factory=dict)
    every: Duration = "5m"
    from_: Annotated[str, Key("from"), Doc("now, start or a time")] = "now"


@dataclass(frozen=True, kw_only=True, eq=False)
class Manual(Trigger):
    """Started by hand."""

    manual: Annotated[dict[str, Any] | None, Doc("{inputs: JSON Schema}")]


TRIGGER_KINDS: Mapping[str, type[Trigger]] = {"webhook": Webhook, "schedule": Schedule, "poll": Poll, "manual": Manual}


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameter:
    """A setting of the flow, given by --set or its default."""

    type: Literal["string", "number", "integer", "boolean", "array", "object"] = "string"
    default: JSON = None
    secret: Annotated[bool, Doc("Never stored or shown")] = False
    note: str | None = None

    @property
    def hidden(self) -> bool:
        """Secret by word, or because it comes from where secrets are kept."""
        return self.secret or (isinstance(self.default, str) and "${" in self.default)


@dataclass(frozen=True, kw_only=True, eq=False)
class Alerts:
    """Whom to tell when a run fails or waits for a person."""

    on: list[Literal["failed", "waiting"]] = field(default_factory=lambda: ["failed", "waiting"])
    to: Annotated[str, Doc("alias.operation"), Pattern(rf"{NAME}\.{NAME}", "alias.operation")]
    with_: Annotated[Values, Holds("template"), Key("with")] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Flow:
    """A flow document."""

    flow: Annotated[Name, Doc("Its name")]
    title: str | None = None
    note: str | None = None
    triggers: Annotated[dict[str, Trigger], Doc("What starts it")] = field(default_factory=dict)
    connections: Annotated[dict[str, str], Doc("Alias in this flow: entry in connections.yaml")] = field(
        default_factory=dict
    )
    parameters: dict[str, Parameter] = field(default_factory=dict)
    variables: Annotated[dict[str, Any], Doc("Name: first value, or {type: string}")] = field(default_factory=dict)
    steps: Annotated[Steps, Doc("Run in this order")]
    outputs: Annotated[Values, Holds("template"), Doc("What a run gives")] = field(default_factory=dict)
    business_key: Annotated[Expr | None, Holds("expression"), Doc("What people search runs by")] = None
    alerts: Alerts | None = None

    @cached_property
    def all_steps(self) -> Mapping[str, Step]:
        """Every step of the document by its name."""
        return {name: step for _, block in walk(self) for name, step in block.items()}

    def initial_variables(self) -> dict[str, JSON]:
        """First values; a variable of which only the type is declared begins as null."""
        return {n: None if isinstance(v, dict) and set(v) == {"type"} else v for n, v in self.variables.items()}


def trigger_of(flow: Flow, given: JSON) -> dict[str, JSON]:
    """What a flow that another one runs or starts sees as `trigger`: its manual trigger's inputs, else its event."""
    manual = next((name for name, trigger in flow.triggers.items() if isinstance(trigger, Manual)), None)
    name = manual or next(iter(flow.triggers), "")
    event = isinstance(flow.triggers.get(name), Webhook | Poll)
    return {"name": name, "event" if event else "inputs": given}


def build(data: JSON) -> Flow:
    """The model of a document that fits the schema. Raises DataError."""
    flow: Flow = convert(Flow, data, "flow")
    return flow


def walk(flow: Flow) -> Iterator[tuple[tuple[str, ...], Mapping[str, Step]]]:
    """Every list of steps with its path in the document, outer before inner, in document order."""
    pending: list[tuple[tuple[str, ...], Mapping[str, Step]]] = [(("steps",), flow.steps)]
    while pending:
        path, block = pending.pop()
        yield path, block
        inner = [((*path, name, *keys), steps) for name, step in block.items() for keys, steps in step.blocks()]
        pending += reversed(inner)


def predecessors(block: Mapping[str, Step]) -> dict[str, dict[str, frozenset[str]]]:
    """Step → predecessor → statuses of it after which the step runs."""
    out: dict[str, dict[str, frozenset[str]]] = {}
    before: str | None = None
    for name, step in block.items():
        after: Mapping[str, str | list[str]]
        match step.run_after:
            case None:
                after = {before: "succeeded"} if before else {}
            case str(one):
                after = {one: "succeeded"}
            case list(several):
                after = dict.fromkeys(several, "succeeded")
            case given:
                after = given  # type: ignore[assignment]  # Literals are texts
        out[name] = {one: _statuses([st] if isinstance(st, str) else st) for one, st in after.items()}
        before = name
    return out


def _statuses(given: list[str]) -> frozenset[str]:
    return frozenset(get_args(Status) if "any" in given else given)
