"""Where in a flow the things are that a definition's expressions refer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal as Choice

from engine.wdl.definition import STATUSES, Action, key_of
from engine.wdl.names import Kind, Names, Place
from engine.wdl.pieces import path_to, quoted
from engine.wdl.syntax import Call, Expression, Literal, Member, WdlError

RAW = "status, as flowrun has it"  # a member's key: the status itself, not the word for it there
WORDS = {own: word for word, own in {"Succeeded": "succeeded", "Failed": "failed", "Skipped": "skipped",
                                     "TimedOut": "timed_out", "Cancelled": "cancelled"}.items()}  # fmt: skip
# What an action of each type gives: `value` (its body, no record of an answer), `answer` (status, headers, body) …
FORMS: Mapping[str, str] = {
    **dict.fromkeys(("compose", "expression", "table", "join", "select", "query", "parsejson"), "value"),
    **dict.fromkeys(("if", "switch", "scope", "foreach", "until"), "container"),
    **dict.fromkeys(("initializevariable", "setvariable", "incrementvariable", "decrementvariable"), "variable"),
    **dict.fromkeys(("appendtoarrayvariable", "appendtostringvariable"), "variable"),
    **{"response": "respond", "workflow": "child", "terminate": "none", "wait": "none"},
}


def by_hand(message: str, offset: int, hint: str = "") -> WdlError:
    """The error for what is right there, and has nothing like it here."""
    return WdlError(message, offset=offset, code="ByHand", hint=hint)


@dataclass(frozen=True)
class Document:
    """What all expressions of a definition share.

    `trigger` is where the trigger's body is; `outputs` says by the record's key where else something of it is.
    """

    actions: Mapping[str, Action]
    variables: Mapping[str, str]  # as the definition has them → path, such as variables.x
    parameters: Mapping[str, str]
    kinds: Mapping[str, str]  # path → what it surely holds
    forms: Mapping[str, str] = field(default_factory=dict)  # action → FORMS, where it isn't that of its type
    trigger: str = "trigger.inputs"
    event: Callable[[tuple[Member, ...]], Place] | None = None  # where the trigger's body is, if it depends
    outputs: Mapping[str, str] = field(default_factory=dict)
    settings: Callable[[str], str] | None = None  # app setting → path
    items: Mapping[str, str] = field(default_factory=dict)  # loop → name of its item
    results: Mapping[str, list[Action]] = field(default_factory=dict)  # loop → actions in it that others read
    title: str = ""
    cloud: bool = True


@dataclass(frozen=True)
class DocumentNames(Names):
    """The names at one place of a document: in the action `here`, or nowhere; in a select's expressions or not."""

    document: Document = field(default_factory=lambda: Document({}, {}, {}, {}))
    here: Action | None = None
    selecting: bool = False

    @property
    def slash(self) -> Choice["either", "path", "key"]:
        return "path" if self.document.cloud else "key"

    def known(self, kind: Kind) -> Mapping[str, str] | None:
        document = self.document
        if kind in ("variable", "parameter"):
            return document.variables if kind == "variable" else document.parameters
        if kind == "items":
            return document.items
        if kind == "setting":
            return None
        return {name: action.own for name, action in document.actions.items()}

    def adjusted(self, tree: Call) -> Call:
        """A comparison of a status with a word for one: with our own word."""
        if tree.name.lower() != "equals" or len(tree.arguments) != 2:
            return tree
        for one, other in (tree.arguments, tree.arguments[::-1]):
            word = STATUSES.get(str(key_of(other)).lower()) if isinstance(key_of(other), str) else None
            if word and isinstance(one, Call) and one.name.lower() == "actions" and one.members:
                last = one.members[-1]
                if key_of(last.key) == "status":
                    raw = Member(Literal(RAW, last.key.offset), last.safe, last.offset)
                    return replace(tree, arguments=(replace(one, members=(*one.members[:-1], raw)), Literal(word)))
        return tree

    def place(self, kind: Kind, name: str, members: tuple[Member, ...], offset: int = 0) -> Place:
        document = self.document
        match kind:
            case "variable" | "parameter":
                path = self.find(kind, name, offset)
                return Place(path, members, document.kinds.get(path, ""))
            case "action" | "outputs" | "body" | "result":
                action = self._action(name, offset)
                if kind == "result":
                    return Place(_records(action), members, "list")
                return self._of_action(kind, action, members, offset)
            case "trigger_body" if document.trigger == "null":  # a time table brings nothing
                return Place("null", tuple(m for m in members if not m.safe))
            case "trigger_body":
                return document.event(members) if document.event else Place(document.trigger, members)
            case "trigger_outputs" | "trigger":
                return self._of_trigger(kind, members, offset)
            case "item":
                if self.selecting or self.here is None:
                    return Place("item", members)
                loop = next((a for a in self.here.loops if a.type == "foreach"), None)
                if loop is None:
                    raise by_hand("item() outside of a loop", offset)
                return Place(document.items[loop.name], members)
            case "items":
                return Place(self._item(name, offset), members)
            case "index":
                return self._index(name, members, offset)
            case "workflow":
                return self._of_run(members, offset)
            case "setting" if document.settings is not None:
                return Place(document.settings(name), members, "text")
        raise by_hand("action() has nothing like it here", offset, "read the step by its name")

    def _action(self, name: str, offset: int) -> Action:
        found = self.document.actions.get(name)
        if found is None:
            own = self.find("action", name, offset)
            found = next(a for a in self.document.actions.values() if a.own == own)
        return found

    def _item(self, name: str, offset: int) -> str:
        loop = self._action(name, offset)
        around = list(self.here.around) if self.here else []
        if loop.type != "foreach" or (loop not in around and loop is not self.here):
            raise by_hand(f"items('{name}') outside of that loop", offset)
        return self.document.items[loop.name]

    def _index(self, name: str, members: tuple[Member, ...], offset: int) -> Place:
        loop = self._action(name, offset)
        inside = [self.here, *self.here.around] if self.here else []
        loops = [a for a in inside if a is not None and a.type in ("foreach", "until")]
        if not loops or loops[0] is not loop:
            raise by_hand(f"the number of passes of '{name}' inside of another loop", offset, "count with a variable")
        return Place("index", members, "number")

    # Actions

    def _of_action(self, kind: Kind, action: Action, members: tuple[Member, ...], offset: int) -> Place:
        record = f"steps.{action.own}"
        outside = [loop for loop in action.loops if not self._within(loop)]
        if outside and kind != "action":
            return self._of_loop(action, outside, members, offset)
        form = self.document.forms.get(action.name) or FORMS.get(action.type, "answer")
        first = key_of(members[0].key) if members else None
        if kind == "action":
            return self._of_record(record, form, first, members, offset)
        if form == "variable":
            return self._of_variable(action, kind, members, offset)
        if form in ("container", "none"):
            raise by_hand(f"'{action.name}' gives nothing that could be read", offset)
        if form == "child":
            return self._answer(f"{record}.body", kind, members, ("status", "headers", "body"))
        if form == "respond":
            return self._answer(f"{record}.body", kind, members, ("status", "headers", "body"))
        if form == "value":
            return Place(f"{record}.body", members, self.document.kinds.get(f"{record}.body", ""))
        if kind == "body":
            return Place(f"{record}.body", members, self.document.kinds.get(f"{record}.body", ""))
        return self._answer(f"{record}.outputs", kind, members, ("status_code", "headers", "body"))

    def _within(self, loop: Action) -> bool:
        return self.here is not None and (self.here is loop or loop in self.here.around)

    def _answer(self, path: str, kind: Kind, members: tuple[Member, ...], keys: tuple[str, str, str]) -> Place:
        """Of an answer with a status, headers and a body, under the keys that it has here."""
        own = dict(zip(("statusCode", "headers", "body"), keys, strict=True))
        if kind == "body":
            return Place(f"{path}.{own['body']}", members)
        first = key_of(members[0].key) if members else None
        if not members:
            pairs = ", ".join(f"'{there}': {path}.{here}" for there, here in own.items())
            return Place(f"{{{pairs}}}")
        if first == "headers" and len(members) > 1 and isinstance(header := key_of(members[1].key), str):
            lower = Member(Literal(header.lower(), members[1].offset), members[1].safe, members[1].offset)
            return Place(f"{path}.{own['headers']}", (lower, *members[2:]))
        if isinstance(first, str) and first in own:
            return Place(f"{path}.{own[first]}", members[1:], "number" if first == "statusCode" else "")
        return Place(path, members)

    def _of_record(self, record: str, form: str, first: object, members: tuple[Member, ...], offset: int) -> Place:
        match first:
            case "status":
                words = ", ".join(f"'{own}': '{word}'" for own, word in WORDS.items())
                return Place(f"{{{words}}}[{record}.status]", members[1:])
            case str() if first == RAW:
                return Place(f"{record}.status", members[1:], "text")
            case "error":
                return Place(f"{record}.error", members[1:])
            case "code":
                return Place(f"{record}.error.code", members[1:])
            case "name":
                return Place(quoted(record.removeprefix("steps.")), members[1:], "text")
            case None if not members:
                return Place(_record(record))
        raise by_hand(f"'{first}' of an action's record", offset, "status, error and outputs are there")

    def _of_variable(self, action: Action, kind: Kind, members: tuple[Member, ...], offset: int) -> Place:
        inputs = action.inputs if isinstance(action.inputs, dict) else {}
        name = inputs.get("name")
        first = key_of(members[0].key) if members else None
        if kind == "body" and first == "value" and isinstance(name, str):
            path = self.find("variable", name, offset)
            return Place(path, members[1:], self.document.kinds.get(path, ""))
        raise by_hand(f"'{action.name}' changes a variable: read the variable", offset)

    def _of_loop(self, action: Action, loops: list[Action], members: tuple[Member, ...], offset: int) -> Place:
        """What the steps in a loop gave, read from outside: the loop's result."""
        (loop, *more) = loops
        read = self.document.results.get(loop.name, [])
        if more or action not in read:
            raise by_hand(
                f"'{action.name}' is inside of a loop, and read from outside", offset, "give the loop a `result`"
            )
        if len(read) == 1:
            path = f"steps.{loop.own}.body"
        elif loop.type == "until":
            path = f"steps.{loop.own}.body.{action.own}"
        else:
            path = f"(steps.{loop.own}.body | map(attribute='{action.own}'))"
        return Place(path, members, "list" if loop.type == "foreach" else "")

    # Trigger and run

    def _of_trigger(self, kind: Kind, members: tuple[Member, ...], offset: int) -> Place:
        first = key_of(members[0].key) if members else None
        outputs = self.document.outputs
        if kind == "trigger_outputs" and isinstance(first, str) and first in outputs:
            rest = members[1:]
            if first == "headers" and rest and isinstance(header := key_of(rest[0].key), str):
                rest = (Member(Literal(header.lower(), rest[0].offset), rest[0].safe, rest[0].offset), *rest[1:])
            return Place(outputs[first], rest)
        if kind == "trigger_outputs" and not members:
            pairs = [f"'{key}': {path}" for key, path in {**outputs, "body": self.document.trigger}.items()]
            return Place(f"{{{', '.join(pairs)}}}")
        if kind == "trigger" and first == "name":
            return Place("trigger.name", members[1:], "text")
        if kind == "trigger" and first in ("scheduledTime", "startTime") and self.document.trigger == "null":
            return Place("trigger.time", members[1:])
        what = f"'{first}' of the trigger" if members else "the trigger's record"
        raise by_hand(f"{what} isn't known to a flow", offset)

    def _of_run(self, members: tuple[Member, ...], offset: int) -> Place:
        keys = tuple(key_of(m.key) for m in members)
        match keys:
            case ("run", "name" | "id", *_):
                return Place("run.id", members[2:], "text")
            case ("name", *_):
                return Place("run.flow", members[1:], "text")
            case ("tags", "flowDisplayName" | "logicAppName" | "xrmWorkflowId", *_):
                return Place(quoted(self.document.title), members[2:], "text")
            case ("tags", "environmentName", *_):
                return Place("run.environment", members[2:], "text")
        what = "".join(path_to(str(k)) for k in keys)
        raise by_hand(f"workflow(){what} isn't known to a flow", offset, "run.id, run.flow and run.environment are")


def _record(record: str) -> str:
    """A step's record in the words of the other language."""
    words = ", ".join(f"'{own}': '{word}'" for own, word in WORDS.items())
    name = record.removeprefix("steps.")
    return (
        f"{{'name': '{name}', 'status': {{{words}}}[{record}.status], 'code': {record}.error.code, "
        f"'error': {record}.error, 'outputs': {{'body': {record}.body}}}}"
    )


def _records(scope: Action) -> str:
    """result('Scope'): the records of what is directly in it."""
    inner = [action for block in scope.blocks.values() for action in block]
    return f"[{', '.join(_record(f'steps.{action.own}') for action in inner)}]"


__all__ = ["RAW", "Document", "DocumentNames", "Expression", "by_hand"]
