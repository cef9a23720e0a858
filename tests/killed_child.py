"""A flowrun process that dies on demand: `python killed_child.py`, one order a line on standard input.

It imports everything once and forks for each order (JSON: args, cwd, env, kill, trace, output), so a fresh process
costs milliseconds. The fork passes named points: before and after each commit, send and receive; it notes each one in
the file `trace`, and at number `kill` it ends by SIGKILL. It then runs the command line's own `main`. The answer is
one line of JSON with the fork's exit code, negative for a signal. Waiting between retries takes no time in it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests.adapters
import urllib3.connection

WRITERS = ("take_over", "write", "save")  # the last one is a sign-in's


class Points:
    """Counts the points that the process passes, and ends it at one of them."""

    def __init__(self, kill: int | None, trace: str) -> None:
        self.kill = kill
        self.trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.passed = 0

    def __call__(self, name: str) -> None:
        os.write(self.trace, f"{name}\n".encode())
        if self.passed == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1


def watch_commits(point: Points) -> None:
    """Points around each commit of every SQLite database that is opened from now on."""
    connect = sqlite3.connect

    class Watched(sqlite3.Connection):
        name = ""

        def execute(self, sql: str, *more: Any) -> Any:
            return self.around(sql.strip() == "COMMIT", lambda: sqlite3.Connection.execute(self, sql, *more))

        def executescript(self, script: str) -> Any:
            return self.around(True, lambda: sqlite3.Connection.executescript(self, script))

        def __exit__(self, *error: Any) -> Any:
            return self.around(self.in_transaction, lambda: sqlite3.Connection.__exit__(self, *error))

        def around(self, commits: bool, act: Callable[[], Any]) -> Any:
            if not commits:
                return act()
            frame, what = sys._getframe(2), ""
            while frame is not None and not what:  # which of the journal's writes it is
                what = frame.f_code.co_name if frame.f_code.co_name in WRITERS else ""
                frame = frame.f_back
            label = f"commit {self.name} {what}".rstrip()
            point(f"{label}: before")
            result = act()
            point(f"{label}: after")
            return result

    def watched(path: Any, *args: Any, **options: Any) -> Any:
        db = connect(path, *args, factory=Watched, **options)
        db.name = Path(path).name
        return db

    sqlite3.connect = watched


def watch_requests(point: Points) -> None:
    """Points before a request is sent, after its bytes have gone, and after its answer has come."""
    send, put = requests.adapters.HTTPAdapter.send, urllib3.connection.HTTPConnection.request
    now: list[str] = []

    def watched_send(self: Any, request: Any, *args: Any, **options: Any) -> Any:
        now[:] = [f"{request.method} {urlsplit(request.url).netloc}"]
        point(f"send {now[0]}: before")
        answer = send(self, request, *args, **options)
        answer.content  # noqa: B018 - reads the whole of it
        answer.raw = _Read(answer.content, answer.raw)
        point(f"receive {now[0]}: after")
        return answer

    def watched_put(self: Any, *args: Any, **options: Any) -> Any:
        put(self, *args, **options)
        point(f"send {now[0]}: after, nothing received")

    requests.adapters.HTTPAdapter.send = watched_send
    urllib3.connection.HTTPConnection.request = watched_put


class _Read:
    """The raw answer, whose content has been read already."""

    def __init__(self, content: bytes, raw: Any) -> None:
        self.content, self.raw = content, raw

    def read1(self, *_: Any, **__: Any) -> bytes:
        content, self.content = self.content, b""
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def hurry() -> None:
    """Sleeping moves the clock on instead of taking time."""
    from engine.contract import SystemClock

    slept = [0.0]
    now, monotonic = SystemClock.now, SystemClock.monotonic

    def later(self: SystemClock) -> datetime:
        return now(self) + timedelta(seconds=slept[0])

    def sleep(_: SystemClock, seconds: float, woken: object = None) -> None:
        slept[0] += seconds

    SystemClock.now = later
    SystemClock.monotonic = lambda self: monotonic(self) + slept[0]
    SystemClock.sleep = sleep


def carry_out(order: dict[str, Any]) -> None:
    """In the fork: becomes the process that was ordered. Never returns."""
    from engine.cli import main

    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for fd in (1, 2):
        os.dup2(output, fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    point = Points(order["kill"], order["trace"])
    watch_commits(point)
    watch_requests(point)
    hurry()
    sys.argv = ["flowrun", *order["args"]]
    code = 70
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def warm() -> None:
    """Imports what any command needs and checks a flow, for what is cached by it; leaves nothing open."""
    import importlib

    for name in ("local.driver", "local.journal", "local.starts",
                 "loader", "decider", "functions", "connections.config", "connections.tokens",
                 "cli.run", "cli.runs", "cli.check"):  # fmt: skip
        importlib.import_module(f"engine.{name}")
    for name in ("partner_center", "dynamics365", "sqlite", "http"):
        importlib.import_module(f"connectors.{name}.connector")
    for name in ("msal", "cryptography.fernet", "jsonschema"):
        importlib.import_module(name)
    sys.argv = ["flowrun", "check", str(Path(__file__).parent.parent / "flows" / "referral_to_dynamics.yaml")]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        importlib.import_module("engine.cli").main()


def main() -> None:
    warm()
    for line in sys.stdin:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            carry_out(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
