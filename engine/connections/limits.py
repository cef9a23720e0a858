"""How fast and how many at once: a vendor's limits kept on this side, so that nobody has to be told 429."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from engine.contract import Clock
from engine.errors import TransientError
from engine.model import Duration, seconds
from engine.types import Doc, Range

LONGEST = 60.0  # seconds that a request waits for its turn; beyond that the step is tried again later


@dataclass(frozen=True)
class Budget:
    """So many requests in any window of time, such as 6000 in 5m."""

    requests: Annotated[int, Range(1, None)]
    window: Duration


@dataclass(frozen=True)
class Limits:
    """What a connection may ask of its service."""

    at_once: Annotated[int | None, Range(1, None), Doc("Requests at the same time")] = None
    per_second: Annotated[float | None, Range(0.001, None), Doc("Requests a second, evenly spread")] = None
    budget: Budget | None = None


class Limiter:
    """Keeps the limits of one connection in this process. Safe for several threads."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        self.clock = clock
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(limits.at_once) if limits.at_once else None
        self._next = 0.0  # when the next request may begin, by the spread
        self._begun: deque[float] = deque(maxlen=limits.budget.requests if limits.budget else 0)

    @contextmanager
    def turn(self, most: float) -> Iterator[None]:
        """A request's turn: waits for it, at most so many seconds.

        Raises TransientError (code Limit, `retry_after`) if it would take longer.
        """
        most = min(most, LONGEST)
        if self._places is not None and not self._places.acquire(timeout=max(0.0, most)):
            raise TransientError("the connection's limit of requests at once is used up", code="Limit", retry_after=1.0)
        try:
            wait = self._reserve(most)
            if wait > 0:
                self.clock.sleep(wait)
            yield
        finally:
            if self._places is not None:
                self._places.release()

    def _reserve(self, most: float) -> float:
        """Takes the next free moment; how many seconds away it is."""
        with self._lock:
            now = self.clock.monotonic()
            moment = max(now, self._next)
            if self.limits.budget and len(self._begun) == self.limits.budget.requests:
                moment = max(moment, self._begun[0] + seconds(self.limits.budget.window))
            if moment - now > most:
                message = f"the connection's limit is used up for {moment - now:.0f} s"
                raise TransientError(message, code="Limit", retry_after=moment - now)
            if self.limits.per_second:
                self._next = moment + 1 / self.limits.per_second
            self._begun.append(moment)
            return moment - now
