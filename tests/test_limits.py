"""A connection's limits: spread, budget, at once; what takes too long is tried again later."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from engine import Call, Session, SystemClock, TransientError, Transport
from engine.connections.limits import Budget, Limiter, Limits
from engine.contract import CURRENT_CALL
from engine.sandbox import WSGIAdapter
from engine.testing import FakeClock


def ask(limiter: Limiter, times: int, most: float = 60) -> None:
    for _ in range(times):
        with limiter.turn(most):
            pass


def test_requests_are_spread_over_the_second() -> None:
    clock = FakeClock()
    ask(Limiter(Limits(per_second=4), clock), 9)
    assert clock.monotonic() == 2.0


def test_a_budget_lets_no_window_hold_more() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(budget=Budget(3, "10s")), clock)
    ask(limiter, 3)
    assert clock.monotonic() == 0
    clock.advance(4)
    ask(limiter, 3)
    assert clock.monotonic() == 10
    ask(limiter, 1)
    assert clock.monotonic() == 20


def test_what_would_wait_for_too_long_is_tried_again_later() -> None:
    clock = FakeClock()
    limiter = Limiter(Limits(budget=Budget(1, "5m")), clock)
    ask(limiter, 1)
    with pytest.raises(TransientError) as caught, limiter.turn(600):
        pass
    assert (caught.value.code, caught.value.retry_after, caught.value.answer_lost) == ("Limit", 300, False)
    clock.advance(300)
    ask(limiter, 1)


def test_no_more_at_once_than_allowed() -> None:
    limiter = Limiter(Limits(at_once=2), SystemClock())
    under_way, most = [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with limiter.turn(5):
            with lock:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])
            time.sleep(0.005)
            with lock:
                under_way[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [2]


def test_a_session_keeps_its_limits_and_lets_sign_in_be() -> None:
    clock = FakeClock()

    def app(_: Any, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    mounted = {"a.example": WSGIAdapter(app), "login.example": WSGIAdapter(app)}
    session = Session(
        ["a.example"], Transport(mounted=mounted, limits=Limits(per_second=2)), clock, logging.getLogger()
    )
    for _ in range(3):
        session.get("https://a.example/")
    assert clock.monotonic() == 1.0
    for _ in range(3):
        session.bound(["login.example"]).get("https://login.example/")
    assert clock.monotonic() == 1.0
    token = CURRENT_CALL.set(Call(deadline=clock.monotonic() + 0.3))
    try:
        with pytest.raises(TransientError, match="limit is used up"):
            session.get("https://a.example/")
    finally:
        CURRENT_CALL.reset(token)
