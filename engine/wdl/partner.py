"""Flows that carry Partner Center's referrals, as Microsoft's own package does: what they do by HTTP is done by the
partner_center connector, and their known defects are reported by name.

What such a flow does by hand: it asks for a token by password, has the event's signature checked by somebody, gets the
referral at the address in the event, and puts it back with the lead's ID.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.types import JSON
from engine.wdl.declarations import changes, initialised
from engine.wdl.definition import Action, calls, key_of, named_by
from engine.wdl.names import Place
from engine.wdl.syntax import Call, Interpolation, Member, Template, WdlError, parse

if TYPE_CHECKING:
    from engine.wdl.convert import Conversion
    from engine.wdl.work import Steps, Work

HOSTS = ("api.partner.microsoft.com", "api.partnercenter.microsoft.com")
TOKENS = re.compile(r"(?i)/oauth2?/(?:v[\d.]+/)?token\b")
EVENT = {n.lower(): n for n in ("eventName", "resourceUri", "resourceName", "auditUri", "resourceChangeUtcDate")}
SIGNATURE = "x-ms-signature"


class Recipe:
    """What in a definition is about referrals. `steps` convert such actions, in place of the usual converters."""

    def __init__(self, conversion: Conversion, *, mends: bool = True) -> None:
        self.conversion = conversion
        self.mends = mends
        self.steps: dict[str, Callable[[Work], Steps]] = {}
        self.dropped_variables: dict[str, str] = {}  # variable → why it isn't needed
        self.dropped_parameters: set[str] = set()
        self.stored: dict[str, str] = {}  # action that creates a lead → variable that has to hold its id
        self.webhook = False
        self._initial = self._initial_values()
        self.read = next((a for a in self._http("get") if self._is_referral(a)), None)
        if self.read is None or not self._has_event():
            self.read = None
            return
        self.parsed = {a.name for a in self._of("parsejson") if self._reads(a.inputs, {self.read.name})} | {
            self.read.name
        }
        self._report()
        if mends:
            self.webhook = True
            self._take_over()
            self._let_go()

    # Recognising

    def _of(self, kind: str) -> Iterator[Action]:
        return (a for a in self.conversion.actions.values() if a.type == kind and isinstance(a.inputs, dict))

    def _http(self, *methods: str) -> Iterator[Action]:
        return (a for a in self._of("http") if str(a.inputs.get("method", "")).lower() in methods)

    def _initial_values(self) -> dict[str, JSON]:
        """Variable → its only value."""
        out = {str(v.get("name")): v.get("value") for a in self.conversion.actions.values() for v in initialised(a)}
        for action in self.conversion.actions.values():
            if changes(action):
                out.pop(str(action.inputs.get("name")), None)
        return out

    def _resolved(self, text: JSON, depth: int = 4) -> str:
        """A text with its variables' values in it, as far as they are known before."""
        if not isinstance(text, str) or depth == 0:
            return str(text or "")
        out = text
        for call in calls(text):
            name = named_by(call) if call.name.lower() == "variables" else None
            if name in self._initial:
                value = self._resolved(self._initial[name], depth - 1)
                inner = value[1:] if value.startswith("@") and not value.startswith("@{") else value
                out = re.sub(rf"@?\{{?variables\('{re.escape(name)}'\)\}}?", lambda _: inner, out)  # noqa: B023 - called at once
        return out

    def _is_referral(self, action: Action) -> bool:
        """Whether it calls the address of a referral: the one in the event, or one of the API's own."""
        address = self._resolved(action.inputs.get("uri")).strip()
        return bool(re.search(r"(?i)triggerBody\(\)\??(\[\s*'|\.)ResourceUri", address)) or (
            any(host in address.lower() for host in HOSTS) and "referrals" in address.lower()
        )

    def _has_event(self) -> bool:
        """Whether a call from outside with a ResourceUri starts it."""
        given = self.conversion.definition.get("triggers")
        kinds = (
            [str(t.get("type", "")).lower() for t in given.values() if isinstance(t, dict)]
            if isinstance(given, dict)
            else []
        )
        return kinds == ["request"] and bool(re.search(r"(?i)\bResourceUri\b", json.dumps(self.conversion.definition)))

    def _reads(self, value: JSON, names: set[str]) -> bool:
        return any(c.name.lower() in ("body", "outputs") and named_by(c) in names for c in calls(value))

    def _writers(self) -> list[Action]:
        return [a for a in self._http("put", "patch") if self._is_referral(a)]

    def _validators(self) -> list[Action]:
        return [a for a in self._of("http") if SIGNATURE in {k.lower() for k in _members(a.inputs.get("headers"))}]

    def _tokens(self) -> list[Action]:
        """The requests for a token that only calls about referrals use."""
        out = []
        for action in self._http("post"):
            if not TOKENS.search(self._resolved(action.inputs.get("uri"))):
                continue
            names = {action.name} | {a.name for a in self._of("parsejson") if self._reads(a.inputs, {action.name})}
            users = [a for a in self.conversion.actions.values() if a.name not in names and self._reads(_own(a), names)]
            if users and all(a in (self.read, *self._writers(), *self._validators()) for a in users):
                out.append(action)
        return out

    # Defects

    def _report(self) -> None:
        defect = self.conversion.defect
        writers = self._writers()
        for action in [a for a in (self.read, *writers) if a is not None]:
            address = self._resolved(action.inputs.get("uri"))
            if address != address.strip():
                defect("BlankInUrl", action)
        for token in self._tokens():
            body = self._resolved(token.inputs.get("body"))
            found = {
                "CallerChoosesAudience": re.search(r"(?i)triggerBody|uriHost", body),
                "PasswordGrant": "grant_type=password" in body,
                "FormByHand": "grant_type=" in body,
                "CommonTenant": "/common/" in self._resolved(token.inputs.get("uri")),
            }
            for code in (c for c, there in found.items() if there):
                defect(code, token)
        for check in self._validators():
            if not check.inputs.get("body"):
                defect("UnverifiedEvent", check)
        for writer in writers:
            if isinstance(writer.inputs.get("body"), dict) and writer.inputs.get("method", "").lower() == "put":
                defect("RebuiltReferral", writer)
            defect("SyncLoop", writer)
            defect("StaleTag", writer)
        for loop in self._of_loops():
            defect("LastContact", loop)
        for action in self.conversion.actions.values():
            if self._is_row(action, "get") and self._found_is_asked(action):
                defect("MissingRowFails", action)
        for name, variable in self._unstored():
            if defect("LeadIdNotStored", self.conversion.actions[name], variable=variable):
                self.stored[name] = variable

    def _of_loops(self) -> Iterator[Action]:
        for loop in self.conversion.actions.values():
            inner = [a for block in loop.blocks.values() for a in block]
            if (
                loop.type == "foreach"
                and inner
                and all(a.type == "setvariable" for a in inner)
                and "team" in str(loop.raw.get("foreach"))
            ):
                yield loop

    def _is_row(self, action: Action, method: str) -> bool:
        inputs = action.inputs if isinstance(action.inputs, dict) else {}
        if action.type == "apiconnection":
            return str(inputs.get("method", "")).lower() == method and bool(
                re.search(r"/tables/.*leads.*/items", str(inputs.get("path", "")))
            )
        host = inputs.get("host")
        wanted = {"get": "GetItem", "post": "CreateRecord"}[method]
        return action.type == "openapiconnection" and isinstance(host, dict) and str(host.get("operationId")) == wanted

    def _found_is_asked(self, action: Action) -> bool:
        """Whether something that runs after its success alone asks if there is a row."""
        return any(
            a.type == "if"
            and a.after.get(action.name) == ["succeeded"]
            and self._reads(a.raw.get("expression"), {action.name})
            and "null" in json.dumps(a.raw.get("expression"))
            for a in self.conversion.actions.values()
        )

    def _unstored(self) -> Iterator[tuple[str, str]]:
        """Creations of a lead whose id isn't put into the variable that goes back to the referral."""
        for writer in self._writers():
            body = writer.inputs.get("body")
            value = body.get("externalReferenceId") if isinstance(body, dict) else None
            variable = next((named_by(c) for c in calls(value) if c.name.lower() == "variables"), None)
            if variable is None:
                continue
            setters = [a for a in self._of("setvariable") if a.inputs.get("name") == variable]
            for action in self.conversion.actions.values():
                if (
                    self._is_row(action, "post")
                    and setters
                    and not any(self._reads(s.inputs, {action.name}) for s in setters)
                ):
                    yield action.name, variable

    # Taking over

    def _take_over(self) -> None:
        assert self.read is not None
        self.steps[self.read.name] = self._get
        for writer in self._writers():
            if isinstance(writer.inputs.get("body"), dict | list):
                self.steps[writer.name] = self._write
        tokens = self._tokens()
        for token in tokens:
            self.steps[token.name] = self._token
            for parse_ in self._of("parsejson"):
                if self._reads(parse_.inputs, {token.name}):
                    self.steps[parse_.name] = _left_out("no token comes into the flow: the connection sends it")
        for check in self._validators():
            self.steps[check.name] = _left_out("the connection verifies an event before a run starts")

    def _let_go(self) -> None:
        """Variables, and parameters made for them, that nothing reads any more."""
        live = {
            a.name: _own(a)
            for a in self.conversion.actions.values()
            if a.name not in self.steps and a.type != "initializevariable"
        }
        for name in self.steps:
            action = self.conversion.actions[name]
            if action in self._writers():
                live[name] = self._kept(action)
            elif action is self.read and self._by_event(action) is None:
                live[name] = action.inputs.get("uri")
        read = {
            named_by(c)
            for c in calls([*live.values(), self.conversion.definition.get("outputs")])
            if c.name.lower() == "variables"
        }
        while True:
            more = {
                named_by(c)
                for name in read
                for c in calls(self._initial.get(str(name)))
                if c.name.lower() == "variables"
            } - read
            if not more:
                break
            read |= more
        used = {
            named_by(c)
            for a in self.conversion.actions.values()
            for c in calls(_own(a))
            if c.name.lower() == "variables"
        }
        for name in self._initial:
            if name not in read and name in used:
                self.dropped_variables[name] = "only what the connection does now used it"
            elif name not in read and self._is_blank(name):
                self.dropped_variables[name] = "nothing reads it"
        initial = [v for n, v in self._initial.items() if n not in self.dropped_variables]
        wanted = {
            named_by(c)
            for c in calls([*live.values(), *initial, self.conversion.definition.get("triggers")])
            if c.name.lower() == "parameters"
        }
        self.dropped_parameters = {name for name in self.conversion.secrets.parameters if name not in wanted}

    def _is_blank(self, variable: str) -> bool:
        """Whether all that a variable holds is a blank that somebody was to fill in."""
        names = {named_by(c) for c in calls(self._initial[variable]) if c.name.lower() == "parameters"}
        return bool(names & self.conversion.secrets.parameters.keys())

    def _by_event(self, action: Action) -> str | None:
        """The id of the referral that the event is about, if the address is the event's own."""
        address = self._resolved(action.inputs.get("uri")).strip()
        whole = re.fullmatch(r"(?i)@\{?\s*triggerBody\(\)\??(\['ResourceUri'\]|\.ResourceUri)\s*\}?", address)
        return "{{ trigger.event.subject }}" if whole else None

    def _alias(self) -> str:
        return self.conversion.connection("Partner Center", "partner_center").alias

    def _token(self, w: Work) -> Steps:
        w.changes.append("the connection signs in; what it needs stands in connections.yaml, no password in the flow")
        return {w.action.own: {"call": f"{self._alias()}.get_token"}}

    def _get(self, w: Work) -> Steps:
        alias = self._alias()
        id = self._by_event(w.action)
        if id is None:
            id = f"{{{{ {alias}.referral_id({w.expression(w.action.inputs.get('uri'))}) }}}}"
        w.changes.append("the referral is read by the connector")
        return {w.action.own: {"call": f"{alias}.get_referral", "with": {"id": id}}}

    def _write(self, w: Work) -> Steps:
        assert self.read is not None
        alias = self._alias()
        kept = {path: w.value(value) for path, value in self._kept(w.action).items()}
        w.changes.append("only what differs from the referral is written, under its eTag")
        given: dict[str, Any] = {"referral": f"{{{{ steps.{self.read.own}.body }}}}", "set": kept}
        if "externalReferenceId" in kept:
            given["on_foreign_id"] = "replace"  # as the whole referral was put back
        return {w.action.own: {"call": f"{alias}.update_referral", "with": given}}

    def _kept(self, action: Action) -> dict[str, JSON]:
        """What a write changes, by dotted path: all that isn't the referral's own value put back."""
        body = action.inputs.get("body")
        if isinstance(body, list):
            patches = [p for p in body if isinstance(p, dict) and isinstance(p.get("path"), str)]
            return {p["path"].strip("/").replace("/", "."): p.get("value") for p in patches}
        return dict(self._differing(body, ()))

    def _differing(self, value: JSON, path: tuple[str, ...]) -> Iterator[tuple[str, JSON]]:
        for key, member in value.items() if isinstance(value, dict) else ():
            at = (*path, key)
            if isinstance(member, dict):
                yield from self._differing(member, at)
            elif not self._same(member, at):
                yield ".".join(at), member

    def _same(self, value: JSON, path: tuple[str, ...]) -> bool:
        try:
            tree: Template | None = parse(value) if isinstance(value, str) else None
        except WdlError:
            return False
        if isinstance(tree, Interpolation) and len(tree.parts) == 1 and not isinstance(tree.parts[0], str):
            tree = tree.parts[0]
        if not isinstance(tree, Call) or tree.name.lower() != "body" or named_by(tree) not in self.parsed:
            return False
        return tuple(key_of(m.key) for m in tree.members) == path

    # What the converter asks

    def forms(self) -> Mapping[str, str]:
        return dict.fromkeys(self.steps, "value")

    def event(self, members: tuple[Member, ...]) -> Place:
        """The event's members by the names that the connection gives them."""
        first = key_of(members[0].key) if members else None
        own = EVENT.get(first.lower()) if isinstance(first, str) else None
        return Place(f"trigger.event.data.{own}", members[1:]) if own else Place("trigger.event.data", members)

    def finish(self, w: Work, found: Steps) -> None:
        """Adds what an action should have done."""
        variable = self.stored.get(w.action.name)
        if variable is not None:
            own = self.conversion.declarations.variables[variable].partition(".")[2]
            w.changes.append(f"the new lead's ID is stored in {own}")
            found[self.conversion.free(f"store_{own}")] = {"set": {own: f"{{{{ steps.{w.action.own}.body.leadid }}}}"}}

    def trigger(self, w: Work) -> dict[str, Any]:
        w.changes.append("the connection takes the events: verified, each once, one run at a time for one referral")
        out = {
            "webhook": self._alias(),
            "events": ["referral-created", "referral-updated"],
            "key": "trigger.event.id",
            "lane": "trigger.event.subject",
        }
        return out | ({"sample": self.conversion.sample} if self.conversion.sample else {})


def _left_out(why: str) -> Callable[[Work], Steps]:
    def leave(w: Work) -> Steps:
        w.changes.append(why)
        return {}

    return leave


def _own(action: Action) -> dict[str, JSON]:
    """What an action says itself, without the actions in it."""
    return {k: v for k, v in action.raw.items() if k not in ("actions", "else", "cases", "default")}


def _members(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}
