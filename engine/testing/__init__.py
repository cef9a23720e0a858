"""For tests of connectors: a clock that never waits, and a connector on emulators, without files or network."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from engine import Connector, Context, MemoryTokens, Session, TokenStore, Transport
from engine.sandbox import Emulator, Faults, WSGIAdapter
from engine.types import convert

C = TypeVar("C", bound=Connector)


class FakeClock:
    """Time that moves only when somebody sleeps or calls `advance`."""

    def __init__(self, start: datetime = datetime(2026, 11, 24, 12, tzinfo=UTC)) -> None:
        self._start = start
        self._passed = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float, woken: threading.Event | None = None) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._passed += seconds


def connect(
    connector: type[C],
    settings: Mapping[str, Any],
    *apps: Emulator | Faults,
    clock: FakeClock | None = None,
    tokens: TokenStore | None = None,
    folder: str = ".",
) -> C:
    """A connector with these settings whose hosts are answered by `apps`."""
    clock = clock or FakeClock()
    typed = convert(connector.Settings, dict(settings), "settings")
    mounted: dict[str, WSGIAdapter] = {}
    for app in apps:
        inner = app.app if isinstance(app, Faults) else app
        assert isinstance(inner, Emulator)
        mounted |= {host: WSGIAdapter(app) for host in inner.hosts}
    log = logging.getLogger(f"flowrun.{connector.__name__}")
    session = Session(connector.hosts(typed), Transport(mounted=mounted), clock, log)
    return connector(typed, Context(session, clock, log, tokens or MemoryTokens(), folder))
