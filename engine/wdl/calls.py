"""Actions that call something: HTTP, connectors, other flows. What isn't known is kept whole, as a call to be bound."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from engine.model import DURATION
from engine.types import JSON
from engine.wdl import dataverse
from engine.wdl.definition import calls, named_by
from engine.wdl.names import snake
from engine.wdl.steps import one, span
from engine.wdl.syntax import Call, Interpolation, Literal, WdlError, parse
from engine.wdl.work import Steps, Work, operand

BODY = "application/x-www-form-urlencoded"
TOKENS = re.compile(r"(?i)/oauth2?/(?:v[\d.]+/)?token\b|/connect/token\b")


def http(w: Work) -> Steps:
    """Any request: `http.request`."""
    inputs = w.inputs
    bound = w.conversion.connection("Http", "http")
    url = inputs.get("uri", inputs.get("url"))
    given: dict[str, Any] = {"method": str(w.value(inputs.get("method", "GET"))).upper(), "url": address(w, url)}
    if given["method"] == "GET":
        del given["method"]
    headers = dict(inputs["headers"]) if isinstance(inputs.get("headers"), dict) else {}
    cookie = inputs.get("cookie")
    headers |= {"Cookie": cookie} if isinstance(cookie, str) else {}
    if inputs.get("queries"):
        given["query"] = w.value(inputs["queries"], strict=True)
    body = _body(w, inputs.get("body"), headers)
    _authentication(w, inputs.get("authentication"), headers, bound)
    if headers:
        given["headers"] = w.value(headers)
    given |= body
    bound.reach(_host(w, url))
    step: dict[str, Any] = {"call": f"{bound.alias}.request", "with": given}
    if isinstance(url, str) and TOKENS.search(url):
        given["idempotent"] = True  # another token does no harm
        w.conversion.secure(w.action, "outputs")
    return one(w, _patient(w, step))


def address(w: Work, url: JSON) -> Any:
    """An address. A hole in it would lead elsewhere, so what it demands stays demanded."""
    found = w.value(url, strict=True)
    if isinstance(found, str) and found != found.strip() and w.defect("BlankInUrl"):
        return found.strip()
    return found


def _host(w: Work, url: JSON) -> str:
    """The host that a request goes to, if it is written there."""
    try:
        tree = parse(url) if isinstance(url, str) else None
    except WdlError:
        return ""
    if isinstance(tree, Interpolation) and isinstance(tree.parts[0], str):
        first = tree.parts[0].strip()
        if re.match(r"https?://[^/?#]+([/?#]|$)", first) and (
            len(tree.parts) == 1 or re.match(r"https?://[^/?#]+[/?#]", first)
        ):
            return urlsplit(first).netloc.lower()
    return ""


def _body(w: Work, body: JSON, headers: dict[str, Any]) -> dict[str, Any]:
    """The body, under the input that sends it as it was sent."""
    if body is None or body == "":
        return {}
    kind = next((str(v) for k, v in headers.items() if k.lower() == "content-type"), "")
    if isinstance(body, dict) and "$content" in body:
        return {"bytes": w.value(body)}
    if isinstance(body, dict) and "$multipart" in body:
        w.hand.append("its body has several parts (multipart): build it in a connector of its own")
    if not isinstance(body, str):
        return {"json": w.value(body)}
    form = _form(body) if kind.startswith(BODY) else None
    if form is not None and w.defect("FormByHand"):
        for name in [n for n in headers if n.lower() == "content-type"]:
            del headers[name]
        return {"form": w.value(form)}
    value, sort = w.value(body), w.kind(body)
    if sort == "text" or (isinstance(value, str) and "{{" not in value):
        return {"text": value}
    return {"json": value}


def _form(body: str) -> dict[str, str] | None:
    """The fields of a form that is written as text, None for text of another form."""
    try:
        tree = parse(body)
    except WdlError:
        return None
    if not isinstance(tree, Interpolation):
        return None
    marks = {f"\0{i}\0": part for i, part in enumerate(tree.parts) if not isinstance(part, str)}
    text = "".join(p if isinstance(p, str) else f"\0{i}\0" for i, p in enumerate(tree.parts))
    fields: dict[str, str] = {}
    for pair in text.split("&"):
        name, equals, value = pair.strip().partition("=")
        if not equals or not re.fullmatch(r"[\w.$%+-]+", name) or name in fields:
            return None
        pieces = tuple(marks[p] if p in marks else unquote_plus(p) for p in re.split("(\0\\d+\0)", value.strip()) if p)
        fields[name] = (
            f"@{pieces[0]}"
            if len(pieces) == 1 and not isinstance(pieces[0], str)
            else str(Interpolation(pieces or ("",)))
        )
    return fields


def _authentication(w: Work, given: JSON, headers: dict[str, Any], bound: Any) -> None:
    """How it proves who it is: by a header if it does so there, else by the connection's own settings."""
    if not isinstance(given, dict) or not given.get("type"):
        return
    kind = str(given["type"]).lower()
    if kind == "basic" and isinstance(given.get("username"), str) and isinstance(given.get("password"), str):
        pair = Call("concat", (operand(given["username"]), Literal(":"), operand(given["password"])))
        headers["Authorization"] = f"@{Call('concat', (Literal('Basic '), Call('base64', (pair,))))}"
    elif kind == "raw" and isinstance(given.get("value"), str):
        headers["Authorization"] = given["value"]
    elif kind == "activedirectoryoauth":
        said = {ours: _setting(w, given.get(theirs)) for theirs, ours in
                (("tenant", "tenant"), ("clientId", "client_id"), ("secret", "client_secret"))}  # fmt: skip
        scope = f"{str(given.get('audience', '')).rstrip('/')}/.default"
        settings = ", ".join(f"{k}: {v}" for k, v in {"type": "microsoft", **said, "scope": scope}.items())
        bound.set(f"auth: {{{settings}}}")
        if "pfx" in given:
            w.hand.append("it signs in by a certificate, which the http connector doesn't have: use a secret")
    elif kind == "managedserviceidentity":
        scope = f"{str(given.get('audience', '')).rstrip('/')}/.default"
        bound.set(f"auth: {{type: microsoft, tenant: …, client_id: …, client_secret: …, scope: {scope}}}")
        w.hand.append("it signs in by its managed identity: make an app registration, and set `auth` of the connection")
    else:
        w.hand.append(f"it signs in by {given['type']}: set `auth` of the connection {bound.alias}")


def _setting(w: Work, value: JSON) -> str:
    """A value as a setting of connections.yaml; a secret is a reference there too."""
    names = [named_by(c) for c in calls(value) if c.name.lower() == "parameters"]
    if names and names[0] in w.conversion.secrets.parameters:
        return f'"${{env:{w.conversion.declarations.environment(str(names[0]))}}}"'
    return json.dumps(value, ensure_ascii=False) if value is not None else "…"


def _patient(w: Work, step: dict[str, Any]) -> dict[str, Any]:
    """With its retry policy, in our words."""
    policy = w.inputs.get("retryPolicy")
    if not isinstance(policy, dict):
        return step
    kind = str(policy.get("type", "")).lower()
    if kind == "none":
        return {**step, "retry": {"count": 0}}
    if kind not in ("fixed", "exponential"):
        return step
    retry: dict[str, Any] = {}
    count = policy.get("count")
    if isinstance(count, int) and not isinstance(count, bool):
        retry["count"] = min(max(count, 0), 90)
    elif isinstance(count, str):
        w.hand.append(f"the retry policy's count is {count}: write a number at `retry`")
    for theirs, ours in (("interval", "interval"), ("maximumInterval", "max_interval")):
        value = policy.get(theirs)
        if isinstance(value, str) and re.fullmatch(DURATION, value):
            retry[ours] = span(value)
        elif value is not None:
            w.hand.append(f"the retry policy's {theirs} is {value}: write a duration at `retry`")
    if kind == "fixed":
        retry["kind"] = "fixed"
    return {**step, "retry": retry} if retry else step


# Connectors


def api_connection(w: Work) -> Steps:
    """A connector by its address: rows of Dynamics 365, or a request to a connection that is to be bound."""
    host = w.inputs.get("host")
    key = _connection_key(host)
    api = w.conversion.api(key)
    if api in dataverse.APIS:
        found = dataverse.by_path(w, w.conversion.connection(key, api))
        if found is not None:
            return one(w, _patient(w, found))
    bound = w.conversion.connection(key, api)
    rest = {k: v for k, v in w.inputs.items() if k not in ("host", "authentication", "retryPolicy")}
    given: dict[str, Any] = {
        "method": str(rest.pop("method", "get")).upper(),
        "url": w.value(rest.pop("path", ""), strict=True),
    }
    if queries := rest.pop("queries", None):
        given["query"] = w.value(queries)
    if headers := rest.pop("headers", None):
        given["headers"] = w.value(headers)
    if "body" in rest:
        given["json"] = w.value(rest.pop("body"))
    given |= w.value(rest)
    operation = _swagger(w)
    if operation:
        w.notes.append(f"Power Automate: {operation} of {api or key}")
    return one(w, _patient(w, {"call": f"{bound.alias}.request", "with": given}))


def _swagger(w: Work) -> str:
    metadata = w.action.raw.get("metadata")
    about = metadata.get("flowSystemMetadata") if isinstance(metadata, dict) else None
    return str(about.get("swaggerOperationId", "")) if isinstance(about, dict) else ""


def _connection_key(host: JSON) -> str:
    """`@parameters('$connections')['shared_x']['connectionId']` → shared_x."""
    connection = host.get("connection") if isinstance(host, dict) else None
    if not isinstance(connection, dict):
        return "connection"
    if isinstance(connection.get("referenceName"), str):
        return str(connection["referenceName"])
    name = str(connection.get("name", ""))
    found = re.search(r"\$connections'\)\)?\??\[\s*'([^']+)'\s*\]", name)
    return found[1] if found else name or "connection"


def open_api(w: Work) -> Steps:
    """A connector's operation by its name."""
    host = w.inputs.get("host")
    host = host if isinstance(host, dict) else {}
    api = str(host.get("apiId", "")).rpartition("/")[2]
    key = str(host.get("connectionName") or host.get("connectionReferenceName") or api or "connection")
    api = w.conversion.api(key) or api
    operation = str(host.get("operationId", "request"))
    parameters = w.inputs.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    bound = w.conversion.connection(key, api)
    if api in dataverse.APIS:
        found = dataverse.by_operation(w, bound, operation, parameters)
        if found is not None:
            return one(w, _patient(w, found))
        w.hand.append(f"{operation} has no operation like it: write it with the ones that there are")
    rest = {k: v for k, v in w.inputs.items() if k not in ("host", "parameters", "authentication", "retryPolicy")}
    own = operation_name(operation)
    if own != operation:
        w.notes.append(f"Power Automate: {operation} of {api or key}")
    given = w.value(nested(parameters)) | w.value(rest)
    return one(w, _patient(w, {"call": f"{bound.alias}.{own}", **({"with": given} if given else {})}))


def operation_name(operation: str) -> str:
    """An operation's id as a name here: SendEmailV2 → send_email_v2."""
    return snake(operation, "do")


def nested(parameters: Mapping[str, JSON]) -> dict[str, Any]:
    """Flat parameters as the objects that they stand for: `item/Title` → item: {Title}."""
    out: dict[str, Any] = {}
    for key, value in parameters.items():
        parts = key.split("/") if not key.startswith("/") and all(p for p in key.split("/")) else [key]
        holder = out
        for part in parts[:-1]:
            held = holder.setdefault(part, {})
            if not isinstance(held, dict):
                holder = out
                parts = [key]
                break
            holder = held
        holder[parts[-1]] = value
    return out


def service_provider(w: Work) -> Steps:
    """A built-in connector of Logic Apps Standard."""
    about = w.inputs.get("serviceProviderConfiguration")
    about = about if isinstance(about, dict) else {}
    key = str(about.get("connectionName") or "connection")
    api = str(about.get("serviceProviderId", "")).rpartition("/")[2]
    operation = str(about.get("operationId", "request"))
    bound = w.conversion.connection(key, w.conversion.api(key) or api)
    rest = {k: v for k, v in w.inputs.items() if k not in ("serviceProviderConfiguration", "parameters", "retryPolicy")}
    parameters = w.inputs.get("parameters")
    given = {**(w.value(parameters) if isinstance(parameters, dict) else {}), **w.value(rest)}
    if operation_name(operation) != operation:
        w.notes.append(f"Logic Apps: {operation} of {api or key}")
    return one(
        w, _patient(w, {"call": f"{bound.alias}.{operation_name(operation)}", **({"with": given} if given else {})})
    )


def function(w: Work) -> Steps:
    """An Azure Function: a request to its app."""
    held = w.inputs.get("function")
    held = held if isinstance(held, dict) else {}
    id = str(held.get("id") or held.get("connectionName") or "functions")
    found = re.search(r"/sites/([^/]+)/functions/([^/]+)", id)
    name = found[2] if found else str(w.inputs.get("functionName", "function"))
    bound = w.conversion.connection(found[1] if found else id.rpartition("/")[2] or "functions", "")
    given: dict[str, Any] = {"method": str(w.value(w.inputs.get("method", "POST"))).upper(), "url": f"/api/{name}"}
    if w.inputs.get("queries"):
        given["query"] = w.value(w.inputs["queries"])
    headers = dict(w.inputs["headers"]) if isinstance(w.inputs.get("headers"), dict) else {}
    body = _body(w, w.inputs.get("body"), headers)
    given |= ({"headers": w.value(headers)} if headers else {}) | body
    rest = {
        k: v
        for k, v in w.inputs.items()
        if k not in ("function", "method", "queries", "headers", "body", "authentication", "retryPolicy")
    }
    given |= w.value(rest)
    return one(w, _patient(w, {"call": f"{bound.alias}.request", "with": given}))


def workflow(w: Work) -> Steps:
    """Another flow, run inside this one."""
    host = w.inputs.get("host")
    host = host if isinstance(host, dict) else {}
    held = host.get("workflow")
    id = str(
        (held.get("id") if isinstance(held, dict) else None)
        or host.get("workflowReferenceName")
        or host.get("workflowId")
        or ""
    )
    name = w.conversion.child(id)
    if name is None:
        name = snake(id.rstrip("/").rpartition("/")[2] or "child", "flow")
        w.hand.append(f"it runs another flow, {id or 'which is not named'}: import that one too, as {name}")
    body = w.inputs.get("body")
    step: dict[str, Any] = {"run": name}
    match body:
        case None | "":
            pass
        case dict():
            step["with"] = w.value(body)
        case _:
            step["with"] = {"body": w.value(body)}
            w.hand.append("what it passes is known in the run only: name the inputs of the other flow at `with`")
    if headers := w.inputs.get("headers"):
        w.changes.append("the other flow sees no headers")
        w.notes.append(f"headers: {json.dumps(headers, ensure_ascii=False)}")
    return one(w, step)


def unknown(w: Work) -> Steps:
    """An action of a type that nothing here carries out: its inputs, whole, as a call that somebody binds."""
    kind = str(w.action.raw.get("type") or "action")
    bound = w.conversion.connection(f"{kind} actions", "")
    inputs = w.action.inputs
    given = w.value(inputs) if isinstance(inputs, dict) else {} if inputs is None else {"inputs": w.value(inputs)}
    more = {k: v for k, v in w.action.raw.items() if k not in KNOWN}
    given |= {f"definition_{snake(k)}": w.value(v) for k, v in more.items()}
    w.hand.append(
        f"nothing here does what {kind} does: bind {bound.alias} to a connector that does, or write other steps"
    )
    return one(w, {"call": f"{bound.alias}.{operation_name(kind)}", **({"with": given} if given else {})})


KNOWN = frozenset(
    {"type", "inputs", "runAfter", "description", "kind", "metadata", "limit", "runtimeConfiguration",
     "operationOptions", "trackedProperties", "correlation"}
)  # fmt: skip


def webhook(w: Work) -> Steps:
    """A call that waits until somebody answers: nothing here waits like that."""
    subscribe = w.inputs.get("subscribe")
    if isinstance(w.inputs.get("host"), dict):
        steps = open_api(w) if "parameters" in w.inputs or "operationId" in w.inputs["host"] else api_connection(w)
    elif isinstance(subscribe, dict):
        steps = unknown(w)
        w.hand.clear()
    else:
        return unknown(w)
    w.hand.append("it waits for a callback, and no connector here does: split the flow where it waits")
    return steps


CALLS: Mapping[str, Callable[[Work], Steps]] = {
    "http": http, "apiconnection": api_connection, "openapiconnection": open_api, "serviceprovider": service_provider,
    "function": function, "workflow": workflow,
    **dict.fromkeys(("apiconnectionwebhook", "openapiconnectionwebhook", "httpwebhook"), webhook),
}  # fmt: skip
