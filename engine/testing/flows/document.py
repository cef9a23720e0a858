"""The test document (`*.test.yaml`) as frozen classes: the one declaration of its schema, checks and editor help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from engine.errors import Kind
from engine.model import Duration, Status
from engine.types import JSON, Doc, Range, Schema

SUFFIX = ".test.yaml"
CLOSED = Schema({"additionalProperties": False})

RunStatus: TypeAlias = Literal["succeeded", "failed", "cancelled", "waiting", "skipped"]
FaultName: TypeAlias = Annotated[int, Range(400, 599)] | Literal["reset", "lost"]


@dataclass(frozen=True, kw_only=True)
class GivenEvent:
    """An event as the trigger sees it: `trigger.event`."""

    subject: Annotated[str, Doc("The record that it is about")] = ""
    type: Annotated[str | None, Doc("Default: the first of the trigger's `events`")] = None
    id: Annotated[str, Doc("What tells events apart")] = "test-event"
    time: Annotated[str | None, Doc("Default: `now`")] = None
    data: Annotated[dict[str, Any], Doc("The rest of it")] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PinnedError:
    """How a pinned call fails."""

    kind: Annotated[Kind, Doc("transient is tried again, like the real one")] = "remote"
    code: Annotated[str, Doc("The service's code, such as an HTTP status")] = "Pinned"
    message: Annotated[str, Doc("What is wrong, in words")] = "pinned by the test"
    hint: Annotated[str, Doc("What to do about it")] = ""
    retry_after: Annotated[float | None, Doc("Seconds that the service asks to wait")] = None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the probe of a write says: null = it wasn't done."""

    body: Annotated[Any, Doc("What the write gave; null: it was not done")] = None
    changed: Annotated[bool, Doc("Whether it changed something")] = True
    summary: Annotated[str, Doc("The sentence of the live view")] = ""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What a call gives instead of calling out."""

    body: Annotated[Any, Doc("steps.NAME.body")] = None
    outputs: Annotated[dict[str, Any] | None, Doc("steps.NAME.outputs, of http calls")] = None
    changed: Annotated[bool, Doc("Whether it changed something")] = False
    summary: Annotated[str, Doc("The sentence of the live view")] = ""
    error: Annotated[PinnedError | None, Doc("How it fails instead")] = None
    lost: Annotated[bool, Doc("It may have been carried out: its answer is lost")] = False
    probe: Annotated[Probe | None, Doc("What is found out after a write whose answer was lost")] = None
    after: Annotated[Duration | None, Doc("How long the answer takes")] = None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of an emulated service, at the first request of the step that fits."""

    fault: Annotated[FaultName, Doc("An HTTP status, reset (before it is handled) or lost (after it)")]
    method: Annotated[str | None, Doc("Such as PATCH")] = None
    path: Annotated[str | None, Doc("A part of the request's path")] = None
    host: Annotated[str | None, Doc("Default: those of the connection's own service")] = None


class StepWanted(TypedDict, total=False):
    """What is expected of a step."""

    status: Annotated[Status, Doc("How it ended; a step that was not reached is skipped")]
    tries: Annotated[int, Doc("How often it was called")]
    inputs: Annotated[Any, Doc("What it was last called with")]
    body: Annotated[Any, Doc("What it gave: steps.NAME.body")]
    outputs: Annotated[Any, Doc("Of http calls: status_code, headers, body")]
    error: Annotated[Any, Doc("kind, code, message of its failure")]
    changed: Annotated[bool, Doc("Whether it changed something")]
    summary: Annotated[str, Doc("The sentence of the live view")]


Wanted: TypeAlias = Status | Annotated[StepWanted, CLOSED]


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Records at the far end, after the run."""

    where: Annotated[dict[str, Any], Doc("Which ones: those with these properties")]
    has: Annotated[dict[str, Any] | None, Doc("What each of them holds")] = None
    count: Annotated[int, Range(0), Doc("How many there are")] = 1


class Expect(TypedDict, total=False):
    """What has to come of the run. Of objects only the named keys are compared; lists are compared whole."""

    status: Annotated[RunStatus, Doc("Default: succeeded. skipped: no run starts")]
    order: Annotated[list[str], Doc("The steps that ran, in the order in which they ended")]
    steps: Annotated[dict[str, Wanted | list[Wanted]], Doc("By step: its status, or more; a list: one for each pass")]
    outputs: Annotated[dict[str, Any], Doc("What the flow gives at its end")]
    response: Annotated[Any, Doc("What a respond step answered")]
    error: Annotated[dict[str, Any], Doc("step, kind, code, message of the run's failure")]
    business_key: Annotated[Any, Doc("What people search runs by")]
    records: Annotated[dict[str, list[Selected]], Doc("CONNECTION.COLLECTION: records that are there afterwards")]
    writes: Annotated[int, Range(0), Doc("How many requests changed something at the emulated services")]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of the flow, and what has to come of it."""

    note: Annotated[str | None, Doc("For readers")] = None
    trigger: Annotated[str | None, Doc("What starts it; default: the first trigger")] = None
    event: Annotated[GivenEvent | None, Doc("The event, as the trigger sees it")] = None
    input: Annotated[Any, Doc("Inputs, or an event as it is sent: a JSON file, or the value; default: the sample")] = (
        None
    )
    parameters: Annotated[dict[str, Any], Doc("Values of the flow's parameters")] = field(default_factory=dict)
    connect: Annotated[dict[str, str], Doc("Swaps connections, such as {crm: sqlite}")] = field(default_factory=dict)
    now: Annotated[str, Doc("The time at the start")] = "2026-11-24T12:00:00Z"
    given: Annotated[
        dict[str, list[dict[str, Any]]], Doc("CONNECTION.COLLECTION: the records that are there, no others")
    ] = field(default_factory=dict)
    steps: Annotated[dict[str, Pin | list[Pin]], Doc("Steps that don't call out: what they give, or a list by try")] = (
        field(default_factory=dict)
    )
    faults: Annotated[
        dict[str, FaultName | Fault | list[FaultName | Fault]], Doc("By step: how its service fails, or a list by try")
    ] = field(default_factory=dict)
    runs: Annotated[int, Range(1, 10), Doc("So often, one after the other; the last is looked at")] = 1
    expect: Annotated[Expect, CLOSED, Doc("What has to come of it; without it: that it succeeds")] = field(
        default_factory=Expect
    )


@dataclass(frozen=True, kw_only=True)
class FlowTests:
    """Tests of a flow: cases that run in memory, in virtual time."""

    flow: Annotated[str, Doc("The flow: a file, from this file's folder")]
    note: Annotated[str | None, Doc("For readers")] = None
    cases: Annotated[dict[str, Case], Schema({"minProperties": 1}), Doc("By name")]


def schema_of_tests() -> dict[str, JSON]:
    """The JSON Schema of test documents: what they are checked by, and what editors get."""
    from engine.loader.schema import schema

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema(FlowTests),
        "title": "tests of a flowrun flow",
    }
