"""From a definition of Power Automate or Logic Apps to a flow document, and a report of what became of each action."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from engine.wdl import calls, dataverse, partner, steps, triggers
from engine.wdl.common import dressed, usual
from engine.wdl.declarations import Declarations
from engine.wdl.defects import DEFECTS
from engine.wdl.definition import Action, named_by, tree
from engine.wdl.definition import calls as calls_of
from engine.wdl.names import named, snake
from engine.wdl.order import ordered, run_after
from engine.wdl.outcome import Bound, Defect, Entry
from engine.wdl.package import Source
from engine.wdl.pieces import KINDS
from engine.wdl.scope import Document
from engine.wdl.secrets import Secrets
from engine.wdl.syntax import WdlError
from engine.wdl.work import Steps, Work

ROOTS = ("steps", "trigger", "parameters", "variables", "run", "item", "index")
KNOWN = {"http": "http", "partner_center": "partner_center", **dict.fromkeys(dataverse.APIS, "dynamics365")}


class Conversion:
    """One definition on its way into a flow called `name`.

    `connect` binds connections: key or alias → entry; `children` are the flows of the same package: id or title → name;
    `sample` is an event for the trigger of a flow that takes Partner Center's. With `faithful` nothing is mended.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        *,
        faithful: bool = False,
        connect: Mapping[str, str] | None = None,
        children: Mapping[str, str] | None = None,
        sample: str | None = None,
    ) -> None:
        self.source = source
        self.name = name
        self.faithful = faithful
        self.connect = connect or {}
        self.children = children or {}
        self.sample = sample
        self.entries: list[Entry] = []
        self.defects: list[Defect] = []
        self.bound: dict[str, Bound] = {}
        self.remarks: list[str] = [f"Azure works this out, and nothing else: {note}" for note in source.notes]
        self.loosened: list[str] = []  # where a member that has to be there is read as null if it isn't
        self.secured: dict[str, set[str]] = {}
        declared = source.definition.get("parameters")
        self.secrets = Secrets(taken=frozenset(declared if isinstance(declared, dict) else ()))
        self.definition = self.secrets.cleaned(source.definition)
        self.roots = tree(self.definition.get("actions"))
        self.actions = {a.name: a for root in self.roots for a in root.walk()}
        self.taken: set[str] = set()
        for action, own in named(self.actions, "step", self.taken).items():
            self.actions[action].own = own
            self.taken.add(own)
        self.declarations = Declarations(self)
        self.recipe = partner.Recipe(self, mends=not faithful)
        self.declarations.settle()
        self.document = Document({}, {}, {}, {})

    # What the converters ask for

    def free(self, wanted: str) -> str:
        """A name that no step has yet."""
        (own,) = named([wanted], "step", self.taken).values()
        self.taken.add(own)
        return own

    def api(self, key: str) -> str:
        """The API behind a connection's key: by the package, else by the key itself."""
        return self.source.apis.get(key) or re.sub(r"[_-]\d+$", "", key)

    def connection(self, key: str, api: str) -> Bound:
        """The connection that calls of an API go by; made when it is first asked for."""
        if key not in self.bound:
            plain, known = api.removeprefix("shared_") or key.removeprefix("shared_"), KNOWN.get(api)
            others = {b.alias for b in self.bound.values()}
            (alias,) = named([snake(known or plain, "connection")], "connection", others).values()
            entry = next((self.connect[k] for k in (key, alias, api, plain) if k in self.connect), None)
            is_known = known is not None or entry is not None
            self.bound[key] = Bound(key, api, alias, entry or known or alias, is_known)
        return self.bound[key]

    def secure(self, action: Action, *parts: str) -> None:
        """Keeps an action's inputs or outputs out of the journal."""
        self.secured.setdefault(action.name, set()).update(parts)

    def child(self, id: str) -> str | None:
        """The flow that an id or name of another workflow stands for, None if it isn't in the package."""
        return self.children.get(id.lower()) or self.children.get(id.rstrip("/").rpartition("/")[2].lower())

    def defect(self, code: str, action: Action, **values: str) -> bool:
        """Notes a defect of the package by its name. Whether it is mended: not where its behaviour is to be kept."""
        problem, mended = DEFECTS[code]
        mended = "" if self.faithful else mended
        found = Defect(code, problem.format(**values), action.name, mended)
        if found not in self.defects:
            self.defects.append(found)
        return bool(mended)

    # The whole

    def convert(self) -> dict[str, Any]:
        """The flow as data. `entries`, `defects`, `bound` and `remarks` say what became of what."""
        shape, declarations = triggers.shape(self), self.declarations
        self.document = Document(
            actions=self.actions,
            variables=declarations.variables,
            parameters=declarations.parameters,
            kinds=declarations.kinds,
            forms=self.recipe.forms(),
            trigger=shape.body,
            event=shape.event,
            outputs=shape.outputs,
            settings=declarations.setting,
            items=self._items(),
            results=self._results(),
            title=self.source.title,
            cloud=self.source.cloud,
        )
        self._kinds()
        note = self.source.definition.get("description")
        made = triggers.convert(self, shape)
        body = self.block(self.roots) or {self.free("nothing"): dict(steps.EMPTY)}
        outputs = self._outputs()
        if self.loosened:
            times = "once" if len(self.loosened) == 1 else f"{len(self.loosened)} times"
            missing = "where it is missing the action failed, and it is null here, except in addresses"
            self.remarks.append(f"{times} a member is read without `?`: {missing} (--faithful keeps the failure)")
        flow = {
            "flow": self.name,
            "title": self.source.title,
            "note": note if isinstance(note, str) else None,
            "triggers": made,
            "connections": {b.alias: b.entry for b in self.bound.values()},
            "parameters": declarations.written_parameters(json.dumps([made, body, outputs])),
            "variables": declarations.written_variables(),
            "steps": body,
            "outputs": outputs,
        }
        return {key: value for key, value in flow.items() if value}

    def _items(self) -> dict[str, str]:
        """What each loop calls its item: `item`, unless loops or selects in each other need several names."""
        loops = [a for a in self.actions.values() if a.type == "foreach"]
        taken = set(ROOTS)
        out = {}
        for loop in loops:
            nested = any(a.type == "foreach" for a in loop.around) or any(
                a is not loop and a.type in ("foreach", "select", "query", "table") for a in loop.walk()
            )
            if not nested:
                out[loop.name] = "item"
                continue
            (out[loop.name],) = named([f"{loop.own}_item"], "item", taken).values()
            taken.add(out[loop.name])
        return out

    def _results(self) -> dict[str, list[Action]]:
        """The actions in each loop that something outside of it reads."""
        out: dict[str, list[Action]] = {}
        for reader in [*self.actions.values(), None]:
            value = (
                self.definition.get("outputs")
                if reader is None
                else {k: v for k, v in reader.raw.items() if k not in ("actions", "else", "cases", "default")}
            )
            for call in calls_of(value):
                read = (
                    self.actions.get(named_by(call) or "")
                    if call.name.lower() in ("body", "outputs", "actions")
                    else None
                )
                if read is None:
                    continue
                around = [reader, *reader.around] if reader is not None else []
                outside = [loop for loop in read.loops if loop not in around]
                if len(outside) == 1 and read not in out.setdefault(outside[0].name, []):
                    out[outside[0].name].append(read)
        return out

    def _kinds(self) -> None:
        """What some steps surely give."""
        kinds = self.declarations.kinds
        sure = {"query": "list", "select": "list", "join": "text", "table": "text"}
        for action in self.actions.values():
            path = f"steps.{action.own}.body"
            if action.type in sure:
                kinds[path] = sure[action.type]
            elif action.type == "expression":
                kinds[path] = KINDS.get(steps.function_of(action), "")
            elif action.type == "compose":
                kinds[path] = Work(self, action).kind(action.inputs)

    def block(self, actions: list[Action]) -> dict[str, Any]:
        """The steps of a list of actions, in an order in which each has what it waits for before it."""
        made = {action.name: (action, self._action(action)) for action in ordered(actions)}
        out: dict[str, Any] = {}
        previous: str | None = None
        for action, found in made.values():
            after = run_after(self._waits(action, made), previous)
            for own, step in found.items():
                out[own] = dressed(action, own, step, after if own == next(iter(found)) else None)
                previous = own
        return out

    def _waits(self, action: Action, made: Mapping[str, tuple[Action, Steps]]) -> dict[str, list[str]]:
        """Step → the statuses of it to wait for. What left no step stands for what it waited for itself."""
        out: dict[str, list[str]] = {}
        for name, statuses in action.after.items():
            before, found = made.get(name) or next(
                (m for n, m in made.items() if n.casefold() == name.casefold()), (None, {})
            )
            if before is None or before is action:
                self.remarks.append(f"'{action.name}' waits for '{name}', which isn't there: left out")
            elif found:
                last = list(found)[-1]
                several = len(found) > 1 and "failed" in statuses and "skipped" not in statuses
                wanted = [*statuses, "skipped"] if several else statuses
                out[last] = [*out.get(last, []), *(s for s in wanted if s not in out.get(last, []))]
            else:
                for own, inner in self._waits(before, made).items():
                    out.setdefault(own, inner)
        return out

    def _action(self, action: Action) -> Steps:
        w = Work(self, action)
        convert = steps.OWN.get(action.type) or calls.CALLS.get(action.type) or calls.unknown
        try:
            found = self.recipe.steps.get(action.name, convert)(w)
        except WdlError as error:
            found = {action.own: {"compose": None}}
            w.hand.append(f"{error.message}{f' ({error.hint})' if error.hint else ''}")
            w.notes.append(f"Power Automate: {json.dumps(action.raw, ensure_ascii=False)}")
        self.recipe.finish(w, found)
        if found:
            usual(w, found)
        home, own = self.declarations.home(action)
        form = _form({action.own: found[action.own]} if action.own in found else found) or home
        own = action.own if action.own in found else next(iter(found), own)
        said = (*w.changes, *(f"to do: {h}" for h in w.hand))
        self.entries.append(Entry("action", action.name, own, w.status, form, said))
        return found

    def _outputs(self) -> dict[str, Any]:
        given = self.definition.get("outputs")
        out: dict[str, Any] = {}
        for name, about in given.items() if isinstance(given, dict) else ():
            w = Work(self, Action(name, {}))
            out[snake(name, "output")] = w.value(about.get("value") if isinstance(about, dict) else about)
            self.remarks += [f"output '{name}': {h}" for h in w.hand]
        return out


def _form(found: Steps) -> str:
    """What a step does, in a word or two."""
    for step in reversed(list(found.values())):
        if "call" in step:
            return str(step["call"])
        kind = next((k for k in step if k not in ("title", "note", "run_after", "retry", "timeout", "secure")), "")
        return f"{kind} {step[kind]}" if kind in ("run", "terminate") else kind
    return ""
