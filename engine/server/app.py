"""The WSGI application of `flowrun serve`: hooks, health, metrics, and the API for runs."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from engine.contract import Clock
from engine.contract import Request as Incoming
from engine.effects import SECURED, Record
from engine.errors import ConfigError, DataError, FlowrunError, RemoteError
from engine.local.access import Access
from engine.local.dispatcher import Dispatcher, Outcome
from engine.local.journal import Journal, Queued, Run
from engine.server.hooks import Hook, Refusals
from engine.server.openapi import document

LOG = logging.getLogger("flowrun.server")
MAX_BODY = 1024 * 1024  # bytes of a webhook's or an API call's body
ENDED = frozenset({"succeeded", "failed", "cancelled", "superseded"})

URLS = Map(
    [
        Rule("/hooks/<flow>/<trigger>/<token>", endpoint="hook", methods=["POST", "GET"]),
        Rule("/healthz", endpoint="healthz", methods=["GET"]),
        Rule("/readyz", endpoint="readyz", methods=["GET"]),
        Rule("/metrics", endpoint="metrics", methods=["GET"]),
        Rule("/openapi.json", endpoint="openapi", methods=["GET"]),
        Rule("/api/v1/runs", endpoint="list", methods=["GET"]),
        Rule("/api/v1/runs", endpoint="start", methods=["POST"]),
        Rule("/api/v1/runs/<id>", endpoint="show", methods=["GET"]),
        Rule("/api/v1/runs/<id>/resume", endpoint="resume", methods=["POST"]),
        Rule("/api/v1/runs/<id>/resolve", endpoint="resolve", methods=["POST"]),
        Rule("/api/v1/runs/<id>/cancel", endpoint="cancel", methods=["POST"]),
    ]
)


class App:
    """`hooks` by flow and trigger with their tokens; `hosts` are the names under which it may be called, lower case.

    `start` begins a run by hand: flow name, trigger name or empty, input → run id and whether it is new. `stop_run`
    ends one that is under way. `within` is how many seconds a caller waits for a flow's own response.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        dispatcher: Dispatcher,
        clock: Clock,
        hooks: Mapping[tuple[str, str], tuple[str, Hook]],
        hosts: Set[str],
        start: Callable[[str, str, Any], tuple[str, bool]],
        stop_run: Callable[[str], bool],
        within: float = 10.0,
    ) -> None:
        self.journal = journal
        self.access = Access(journal)
        self.dispatcher = dispatcher
        self.clock = clock
        self.hooks = hooks
        self.hosts = hosts
        self.start_run = start
        self.stop_run = stop_run
        self.within = within
        self.refusals = Refusals(clock)
        self.registry = CollectorRegistry()
        self.events = Counter(
            "flowrun_events_total", "Webhook events by what became of them", ["flow", "trigger", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        for state in ("running", "ready", "in_lanes", "asleep"):
            gauge = Gauge(f"flowrun_runs_{state}", f"Runs that are {state.replace('_', ' ')}", registry=self.registry)
            gauge.set_function(partial(self._load, state))

    def _load(self, state: str) -> float:
        return self.dispatcher.load[state]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.max_content_length = MAX_BODY
        return self._answer(request)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            if request.host.lower() not in self.hosts:
                return _error(421, "Host", f"this server isn't called '{request.host}'")
            origin = request.headers.get("Origin")
            if origin is not None and urlsplit(origin).netloc.lower() not in self.hosts:
                return _error(403, "Origin", "calls from other sites' pages are refused")
            endpoint, values = URLS.bind_to_environ(request.environ).match()
            if endpoint in ("list", "start", "show", "resume", "resolve", "cancel"):
                kind, _, token = request.headers.get("Authorization", "").partition(" ")
                if kind.lower() != "bearer" or self.access.caller(token.strip()) is None:
                    answer = _error(401, "Token", "a token is needed: flowrun serve token add NAME")
                    answer.headers["WWW-Authenticate"] = "Bearer"
                    return answer
            return getattr(self, f"_{endpoint}")(request, **values)  # type: ignore[no-any-return]
        except HTTPException as error:
            return _error(error.code or 500, error.name, error.description or "")
        except DataError as error:
            return _error(400, error.code, error.message)
        except ConfigError as error:
            return _error(404 if error.code == "NoRun" else 409, error.code, error.message)
        except Exception:  # a bug of ours: the caller learns no more than that
            LOG.exception("%s %s", request.method, request.path.rpartition("/")[0])
            return _error(500, "Bug", "something went wrong here; the log says more")

    # Webhooks

    def _hook(self, request: Request, flow: str, trigger: str, token: str) -> Response:
        known, hook = self.hooks.get((flow, trigger), ("", None))
        if not hmac.compare_digest(known.encode(), token.encode()) or hook is None:
            raise NotFound
        address = request.remote_addr or ""
        headers = {name.lower(): value for name, value in request.headers}
        query = request.query_string.decode("latin-1")
        incoming = Incoming(request.method, request.path, headers, request.get_data(cache=False), query)
        told: Future[Outcome] | None = Future() if hook.responds else None
        try:
            started = hook.receive(incoming, told)
        except RemoteError as error:  # what can be verified is never held up by what can't
            self.events.labels(flow, trigger, "refused").inc()
            if self.refusals.too_many(address):
                return _error(429, "Refused", "too many calls that could not be verified")
            self.refusals.note(address, error)
            status = error.status if error.status in (400, 401, 403) else 403
            return _error(status or 403, error.code, error.message)
        except FlowrunError as error:  # we can't tell: the sender is to try again
            LOG.error("hook %s/%s: %s", flow, trigger, error.message)  # noqa: TRY400 - in words
            self.events.labels(flow, trigger, "error").inc()
            return _error(503, error.code, "this hook can't verify events at the moment")
        for one in started:
            self.events.labels(flow, trigger, one.outcome).inc()
        if told is not None and any(one.outcome == "started" for one in started):
            try:
                response = told.result(self.within).response
            except NotInTime:
                response = None
            if isinstance(response, Mapping):
                return _response(response)
        new = {one.run for one in started if one.outcome == "started"}
        runs = [{"run": id, "created": id in new, "status": f"/api/v1/runs/{id}"} for one in started if (id := one.run)]
        return _json({"runs": runs}, 202 if new else 200)

    # Operating

    def _healthz(self, _: Request) -> Response:
        return _json({"status": "ok"})

    def _readyz(self, _: Request) -> Response:
        self.journal.runs(limit=1)
        return _json({"status": "ready", **self.dispatcher.load})

    def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(self.registry), mimetype="text/plain; version=0.0.4")

    def _openapi(self, _: Request) -> Response:
        return _json(document())

    # Runs

    def _list(self, request: Request) -> Response:
        asked = request.args
        limit, before = asked.get("limit", 50, type=int), asked.get("before", type=int)
        runs = self.journal.runs(
            status=asked.get("status"), flow=asked.get("flow"), before=before, limit=max(1, min(limit, 1000))
        )
        return _json({"runs": [run_json(run) for run in runs]})

    def _start(self, request: Request) -> Response:
        body = _body(request)
        if not isinstance(body.get("flow"), str):
            raise DataError("`flow` is missing", code="Missing")
        id, created = self.start_run(body["flow"], str(body.get("trigger") or ""), body.get("input") or {})
        return _json({"run": id, "created": created}, 202 if created else 200)

    def _show(self, _: Request, id: str) -> Response:
        run = self.journal.run(id)
        return _json({**run_json(run), "records": [record_json(r) for r in self.journal.records(run.id)]})

    def _resume(self, _: Request, id: str) -> Response:
        run = self.journal.run(id)
        if run.status not in ("failed", "cancelled", "interrupted", "waiting"):
            return _error(409, "NotResumable", f"the run is {run.status}")
        again = run.status in ("failed", "cancelled")
        self._go_on(run, [Record(path="", attempt=0, status="resumed")] if again else [])
        return _json({"run": run.id}, 202)

    def _resolve(self, request: Request, id: str) -> Response:
        from dataclasses import replace

        run, body = self.journal.run(id), _body(request)
        step, what = str(body.get("step")), body.get("what")
        last = next((r for r in reversed(self.journal.records(run.id)) if r.path == step), None)
        if last is None or last.status not in ("uncertain", "started") or what not in ("done", "repeat"):
            return _error(409, "NotWaiting", f"step {step} doesn't wait for an answer (done or repeat)")
        if what == "done":
            said = replace(last, status="succeeded", output=body.get("body"), error=None, changed=True,
                           summary="done, says a person")  # fmt: skip
        else:
            said = replace(last, status="retrying", summary="to be repeated, says a person")
        self._go_on(run, [said])
        return _json({"run": run.id}, 202)

    def _cancel(self, _: Request, id: str) -> Response:
        run = self.journal.run(id)
        if run.status in ENDED:
            return _error(409, "Ended", f"the run is {run.status}")
        if not self.stop_run(run.id):
            self.dispatcher.drop(run.id)
            ended = {"status": "cancelled", "ended": self.clock.now().isoformat(), "wake": None}
            self.journal.write(run.id, [], ended)
        return _json({"run": run.id}, 202)

    def _go_on(self, run: Run, records: list[Record]) -> None:
        self.dispatcher.drop(run.id)
        self.journal.take_over(run.id, records)
        self.dispatcher.submit(Queued(run.id, run.number, run.lane, fresh=False))


def run_json(run: Run) -> dict[str, Any]:
    """A run as the API shows it."""
    shown = ("number", "id", "flow", "environment", "status", "key", "lane", "business_key", "error", "outputs")
    times = {name: t.isoformat() if (t := getattr(run, name)) else None for name in ("started", "ended", "wake")}
    return {**{name: getattr(run, name) for name in shown}, **times}


def record_json(record: Record) -> dict[str, Any]:
    """A record as the API shows it, without what is secure."""
    return {
        "path": record.path, "attempt": record.attempt, "status": record.status, "kind": record.kind,
        "inputs": SECURED if "inputs" in record.secure else record.inputs,
        "output": SECURED if "outputs" in record.secure else record.output,
        "error": record.error, "changed": record.changed, "summary": record.summary,
        "started": record.started.isoformat() if record.started else None,
        "ended": record.ended.isoformat() if record.ended else None,
    }  # fmt: skip


def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.get_data() or b"{}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body is no JSON: {error}", code="NotJson") from error
    if not isinstance(body, dict):
        raise DataError("the body is no object", code="NotJson")
    return body


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value, ensure_ascii=False, default=str), status, mimetype="application/json")


def _error(status: int, code: str, message: str) -> Response:
    return _json({"error": {"code": code, "message": message}}, status)


def _response(given: Mapping[str, Any]) -> Response:
    """What a flow's `respond` step says."""
    body, headers = given.get("body"), dict(given.get("headers") or {})
    status = int(given.get("status") or 200)
    if isinstance(body, str):
        return Response(body, status, headers, mimetype=None if "Content-Type" in headers else "text/plain")
    answer = _json(body, status)
    answer.headers.update(headers)
    return answer
