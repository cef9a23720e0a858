"""The connectors' contract: what a connector declares, and what the engine gives it.

A connector is a class with a `Settings` dataclass and methods marked `@operation`. Signatures and types are the only
declaration: schema, docs, editor completion and flow checks are derived from them. Built-ins use nothing else.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    get_args,
    get_type_hints,
)
from urllib.parse import urlsplit

from engine.errors import (
    NOT_CARRIED_OUT,
    STATUS_KINDS,
    ConfigError,
    DataError,
    FlowrunError,
    RemoteError,
    TransientError,
    did_you_mean,
)
from engine.types import JSON, converter

if TYPE_CHECKING:
    from requests import Response

    from engine.connections.session import Session
    from engine.loader.findings import Finding

T = TypeVar("T")
Effect: TypeAlias = Literal["read", "idempotent", "write"]


@dataclass(frozen=True)
class Difference:
    """One record in a plan: `record` names it ("lead 3f2…"), `changes` gives by field its value now and then."""

    record: str
    action: Literal["create", "update", "delete", "leave"]
    changes: Mapping[str, tuple[JSON, JSON]] = field(default_factory=dict)
    unchanged: int = 0


@dataclass(frozen=True, kw_only=True)
class Result(Generic[T]):
    """What an operation gives back.

    `body` is what the flow sees as steps.NAME.body. `changed` says whether anything outside was altered, `summary` is
    the sentence of the live view ("created lead 3f2…"). `outputs` is steps.NAME.outputs (http: status_code, headers,
    body). `differences` are what a plan shows: records as they are and as they would become.
    """

    body: T
    changed: bool = False
    summary: str = ""
    outputs: Mapping[str, JSON] = field(default_factory=dict)
    differences: Sequence[Difference] = ()


@dataclass(frozen=True)
class Request:
    """A call that came in at a webhook: header names in lower case, the body's raw bytes."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""


@dataclass(frozen=True)
class Event:
    """A verified and normalised event. `subject` is the record it is about, `time` RFC 3339, `data` the rest."""

    id: str
    subject: str
    type: str
    time: str
    data: Mapping[str, JSON] = field(default_factory=dict)


class Clock(Protocol):
    """Time and sleep, handed in so that tests never wait."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    def sleep(self, seconds: float, woken: threading.Event | None = None) -> None:
        """Returns early when `woken` is set."""


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float, woken: threading.Event | None = None) -> None:
        (woken or threading.Event()).wait(seconds)


@dataclass(frozen=True)
class Call:
    """The step on whose behalf a connector runs. `deadline` is monotonic seconds; `wanted` is asked before writes."""

    idempotency_key: str = ""
    deadline: float | None = None
    planning: bool = False
    wanted: Callable[[], bool] = lambda: True


CURRENT_CALL: ContextVar[Call] = ContextVar("call", default=Call())  # noqa: B039 - Call is frozen


class TokenStore(Protocol):
    """Keeps a connection's tokens between processes (encrypted), or for this process only."""

    def load(self) -> str | None: ...
    def save(self, text: str) -> None: ...
    def lock(self) -> Any: ...


@dataclass(frozen=True)
class Context:
    """What the engine gives a connection: everything it may touch."""

    session: Session
    clock: Clock
    log: logging.Logger
    tokens: TokenStore
    folder: str = "."  # where relative paths in settings start: beside connections.yaml, in the sandbox its state

    @property
    def call(self) -> Call:
        return CURRENT_CALL.get()

    @property
    def deadline(self) -> float | None:
        """Monotonic seconds by which the step must be done."""
        return self.call.deadline

    @property
    def idempotency_key(self) -> str:
        """Run and step path: the same on every repeat of this step, and of no other."""
        return self.call.idempotency_key

    @property
    def planning(self) -> bool:
        """True while `flowrun plan` looks: nothing may be changed."""
        return self.call.planning


@dataclass(frozen=True)
class Operation:
    """One thing that a connector can do, as declared by a method."""

    name: str
    function: Callable[..., Result[Any]]
    effect: Effect | Callable[[Mapping[str, JSON]], Effect]
    probe: str | None
    plans: bool

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def inputs(self) -> dict[str, tuple[Any, bool]]:
        """Input name → (type, required)."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        return {p.name: (self._hints[p.name], p.default is p.empty) for p in parameters}

    @cached_property
    def body_type(self) -> Any:
        """The T of the declared Result[T]."""
        return get_args(self._hints["return"])[0]

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.function) or ""

    def effect_of(self, inputs: Mapping[str, JSON]) -> Effect:
        return self.effect(inputs) if callable(self.effect) else self.effect

    @cached_property
    def _converters(self) -> dict[str, Callable[[JSON, str], Any]]:
        return {name: converter(tp) for name, (tp, _) in self.inputs.items()}

    def arguments(self, inputs: Mapping[str, JSON]) -> dict[str, Any]:
        """Typed arguments out of rendered inputs. Raises DataError naming the input, what it should be, what it is.

        Null for an input that has a default and doesn't take null means "not given".
        """
        out = {}
        for name, value in inputs.items():
            if name not in self._converters:
                hint = did_you_mean(name, set(self._converters))
                raise DataError(f"{self.name} has no input '{name}'", code="UnknownInput", hint=hint)
            try:
                out[name] = self._converters[name](value, name)
            except DataError:
                if value is None and not self.inputs[name][1]:
                    continue
                raise
        if missing := [name for name, (_, required) in self.inputs.items() if required and name not in out]:
            raise DataError(f"{self.name} needs {', '.join(missing)}", code="MissingInput")
        return out


F = TypeVar("F", bound=Callable[..., Result[Any]])


def operation(
    *,
    effect: Effect | Callable[[Mapping[str, JSON]], Effect],
    probe: str | None = None,
    plans: bool = False,
) -> Callable[[F], F]:
    """Marks a connector's method as an operation.

    `effect`: `read` changes nothing; `idempotent` may be repeated freely (the connector sees to it); `write` must not
    be repeated blindly, and when its answer is lost the operation named by `probe` is asked, with the same inputs,
    what became of it (body null = it didn't happen). A function of the inputs where it depends on them.
    `plans` says that it looks at `ctx.planning`: then it changes nothing and gives what would come of it, as a body
    (with UNKNOWN for what nobody can know) and as differences.
    """

    def mark(function: F) -> F:
        function.__flowrun__ = Operation(function.__name__, function, effect, probe, plans)  # type: ignore[attr-defined]
        return function

    return mark


class Connector:
    """Base of all connectors. One instance serves one connection and is used by several threads at once.

    Subclasses set `Settings` (a dataclass; secret fields have the type Secret), mark methods with `@operation`, and may
    override the rest. They never read the environment and make no session of their own.
    """

    @dataclass(frozen=True)
    class Settings:
        """No settings."""

    status_kinds: ClassVar[Mapping[int, type[FlowrunError]]] = {}  # additions to STATUS_KINDS
    functions: ClassVar[Mapping[str, Callable[..., JSON]]] = {}  # pure functions for expressions, as ALIAS.NAME
    events: ClassVar[Collection[str]] = ()  # types of the events that `receive` gives, where they are known

    def __init__(self, settings: Any, ctx: Context) -> None:
        self.settings = settings
        self.ctx = ctx

    @classmethod
    def operations(cls) -> Mapping[str, Operation]:
        """Its operations by name, in the order of their definition."""
        found = cls.__dict__.get("_operations")
        if found is None:
            methods = (m for base in reversed(cls.__mro__) for m in vars(base).values())
            found = {op.name: op for m in methods if isinstance(op := getattr(m, "__flowrun__", None), Operation)}
            cls._operations = found  # type: ignore[attr-defined]
        return found

    @classmethod
    def hosts(cls, settings: Any) -> frozenset[str]:
        """The hosts that this connection's requests may go to: by default that of its `url` or `base_url`."""
        urls = (getattr(settings, name, None) for name in ("url", "base_url"))
        return frozenset(host for url in urls if url and (host := urlsplit(str(url)).netloc.lower()))

    def invoke(self, name: str, inputs: Mapping[str, JSON]) -> Result[Any]:
        """Calls an operation with rendered inputs. Raises FlowrunError."""
        op = self.operations()[name]
        return op.function(self, **op.arguments(inputs))

    def check(self) -> Iterator[Finding]:
        """Credentials, reach, rights, set-up: yields what is wrong and what to do about it."""
        return iter(())

    def login(self, show: Callable[[str], None]) -> str:
        """Signs a person in: `show` gets what they have to do. Returns the account. Raises ConfigError."""
        raise ConfigError(f"{type(self).__name__} has no sign-in", code="NoLogin")

    def receive(self, request: Request) -> list[Event]:
        """Verified and normalised events out of a webhook call. Raises RemoteError with status 400, 401 or 403."""
        raise RemoteError(f"{type(self).__name__} receives no webhooks", code="NoWebhooks", status=404)

    def parse(self, request: Request) -> list[Event]:
        """Events out of a body that a person gives, which nobody has signed. Raises RemoteError (400)."""
        return self.receive(request)

    def describe(self, response: Response) -> tuple[str, str, str]:
        """Code, message and hint out of a vendor's error answer."""
        return "", response.text[:500], ""

    def failure(self, response: Response) -> FlowrunError:
        """The error that an HTTP answer stands for, sorted by status_kinds and STATUS_KINDS."""
        status = response.status_code
        kind = {**STATUS_KINDS, **self.status_kinds}.get(status, RemoteError if status < 500 else TransientError)
        code, message, hint = self.describe(response)
        where = f"{response.request.method} {urlsplit(response.request.url or '').hostname}"
        return kind(
            f"{where} answered {status}: {message or response.reason or 'no text'}",
            code=code or str(status),
            hint=hint,
            status=status,
            retry_after=retry_after(response.headers.get("Retry-After"), self.ctx.clock.now()),
            answer_lost=kind is TransientError and status not in NOT_CARRIED_OUT,
        )


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds to wait out of a Retry-After header (RFC 9110 §10.2.3: seconds or a date), None without one."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError):
        return None
