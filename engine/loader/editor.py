"""The schema of flow documents as editors want it: the loader's own, with explanations, snippets and known names.

Keywords beyond JSON Schema are those of VS Code's YAML support: `markdownDescription`, `defaultSnippets`,
`patternErrorMessage`, `errorMessage`. What fits the loader's schema fits this one; operations have to be there, too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from engine.contract import Operation
from engine.loader.schema import CALLS, TEMPLATE, flow_schema, input_schema, schema
from engine.loader.snippets import INSIDE, KEYS, NAMES, STEPS, TRIGGERS, example
from engine.model import STEP_KINDS, TRIGGER_KINDS, Step, Trigger

Piece: TypeAlias = dict[str, Any]
NULL = {"type": "null"}
ANY = ["string", "number", "boolean", "object", "array", "null"]  # said in full, or completion leaves the colon out
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "array": "list"}
EFFECTS = {
    "read": "changes nothing",
    "idempotent": "may be repeated freely",
    "write": "is never repeated blindly",
}
FORMS = {"type", "enum", "const", "anyOf", "allOf", "$ref", "if"}
LEAST = 150  # characters from which a part that stands twice is worth a definition


def editor_schema(
    operations: Mapping[str, Operation], entries: Mapping[str, str] | None = None, flows: Iterable[str] = ()
) -> Piece:
    """The schema for editors, of draft 2020-12.

    `operations` are known as alias.operation, `entries` are connections with a sentence about each, `flows` the names
    of other flows. Aliases, entries and flows that are not known are not refused.
    """
    out = flow_schema({name: _inputs(op) for name, op in operations.items()})
    definitions: Piece = out["$defs"]
    calls = [_call_snippet(name, op) for name, op in operations.items()]
    _kinds(definitions, "step", STEP_KINDS, STEPS, Step, calls)
    _kinds(definitions, "trigger", TRIGGER_KINDS, TRIGGERS, Trigger, [])
    out["properties"]["alerts"] = {"$ref": "#/$defs/alerts"}
    definitions["alerts"]["type"] = ["object", "null"]
    for (name, key), more in INSIDE.items():
        member = definitions[name]["properties"][key]
        member.get("anyOf", [member])[0].update(more)
    for key, (name, words) in NAMES.items():
        member = out["properties"][key]
        member["propertyNames"] = {**member.get("propertyNames", {}), "title": name, "description": words}
        member["title"] = f"{key} by name"
    entry = out["properties"]["connections"]["additionalProperties"]
    entry["description"] = "Entry of connections.yaml"
    _offer(entry, entries or {})
    aliases = dict.fromkeys(name.partition(".")[0] for name in operations)
    _offer(definitions["webhook_trigger"]["properties"]["webhook"], aliases)
    for kind in ("run", "start"):
        _offer(definitions[f"{kind}_step"]["properties"][kind], dict.fromkeys(flows))
    if operations:
        _operations(definitions, operations)
    return shared(explained(out))


def _kinds(
    definitions: Piece, what: str, kinds: Mapping[str, type], texts: Mapping[str, str], base: type, more: list[Piece]
) -> None:
    """Snippets where no kind is chosen yet; each kind's is its example as well."""
    last = definitions[what]
    while "else" in last:
        last = last["else"]
    snippets = []
    for kind in kinds:
        piece, text = definitions[f"{kind}_{what}"], texts.get(kind, f"{kind}: $1")
        piece["properties"][kind]["x-example"] = example(text)
        words = f"{piece['description']}\n\n```yaml\n{example(text)}\n```"
        snippets.append({"label": kind, "bodyText": text, "markdownDescription": words})
    message = f"No key says what the {what} is: {', '.join(kinds)}."
    last["anyOf"] = [{**option, "errorMessage": message} for option in last["anyOf"]]
    last |= {"properties": schema(base)["properties"], "defaultSnippets": snippets + more}


def _offer(piece: Piece, names: Mapping[str, str | None]) -> None:
    """Names that are completed, with words about them; others may stand there, too."""
    if names:
        piece["defaultSnippets"] = [{"label": n, "body": n, "markdownDescription": words} for n, words in names.items()]


# Operations


def _inputs(operation: Operation) -> Piece:
    """The schema of the inputs; one without words of its own has the sentences of the docstring that name it."""
    sentences = re.split(r"(?<=[.:;])\s+", " ".join(operation.doc.split()))

    def said(key: str, piece: Piece) -> str:
        own, about = piece.get("description", ""), " ".join(s for s in sentences if re.search(rf"`{key}\b", s))
        about = re.sub("[;:]$", ".", about)
        return f"{about} {own}".strip() if "title" in piece else own or about  # a class's own words say what it is

    whole = input_schema(operation)
    return {**whole, "properties": {k: {**p, "description": said(k, p)} for k, p in whole["properties"].items()}}


def _said(name: str, operation: Operation) -> str:
    """An operation in markdown."""
    effect = operation.effect if isinstance(operation.effect, str) else ""
    return f"**{name}**: {EFFECTS.get(effect, 'what it changes depends on the inputs')}\n\n{operation.doc}"


def _summary(operation: Operation) -> str:
    return " ".join(operation.doc.split("\n\n", 1)[0].split())


def _operations(definitions: Piece, operations: Mapping[str, Operation]) -> None:
    """Wherever an operation is called, its name is completed, explained and held against those of its connection."""
    first: dict[Operation, str] = {}
    for name, operation in operations.items():
        if (same := first.setdefault(operation, name)) != name:
            definitions[name] = {"$ref": f"#/$defs/{same}", "title": f"inputs of {name}"}
        definitions[name]["x-said"] = _said(name, operation)
    for (name, operation), branch in zip(operations.items(), definitions["call_step"]["allOf"], strict=True):
        branch["then"] |= {"title": name, "x-said": _said(name, operation)}  # shown on the step's own name
    aliases: dict[str, list[Piece]] = {}
    for name, operation in operations.items():
        one = {"const": name, "title": name, "markdownDescription": _said(name, operation)}
        aliases.setdefault(name.partition(".")[0], []).append(one)
    known = [
        {"if": {"title": "operation", "type": "string", "pattern": rf"^{alias}\."}, "then": {"anyOf": names}}
        for alias, names in aliases.items()
    ]
    of_another = {"type": "string", "pattern": rf"^(?!(?:{'|'.join(aliases)})\.)"}
    for holder, key in CALLS.items():
        members = definitions[holder]["properties"]
        listing = holder == "poll_trigger"
        _offer(members[key], {n: _summary(op) for n, op in operations.items() if not listing or "cursor" in op.inputs})
        members[key]["allOf"] = known
        definitions[holder]["allOf"].append(
            {"if": {"properties": {key: of_another}}, "then": {"properties": {"with": members["with"]}}}
        )
        members["with"] = True  # the branches complete and explain it: here it would be offered a second time


def _call_snippet(name: str, operation: Operation) -> Piece:
    """A whole step that calls the operation, with the inputs that it needs."""
    inputs = input_schema(operation)
    lines = [f"call: {name}"] + ["with:"] * bool(inputs.get("required"))
    for number, key in enumerate(inputs.get("required", ()), 1):
        piece = inputs["properties"][key]
        kinds = {o.get("type") for o in (piece, *piece.get("anyOf", ()))}
        lines += [f"  {key}:", f"    ${number}"] if "object" in kinds else [f"  {key}: ${number}"]
    return {"label": f"call {name}", "bodyText": "\n".join(lines), "markdownDescription": _summary(operation)}


# Words


def explained(piece: Any) -> Any:
    """A schema with every key explained in markdown, and without the keywords that only the loader reads."""
    if not isinstance(piece, dict):
        return piece
    piece = _plain(piece)
    out = {k: v for k, v in piece.items() if not k.startswith("x-")}
    if "x-words" in piece:
        out["patternErrorMessage"] = f"Expected {piece['x-words']}."
    if "x-said" in piece or "`" in piece.get("description", ""):
        out["markdownDescription"] = piece.get("x-said") or piece["description"]
    if "pattern" in (names := piece.get("propertyNames", {})):
        message = "Expected a name of a-z, 0-9 and _, beginning with a letter."
        out["propertyNames"] = {"title": "step_name", **names, "patternErrorMessage": message}
        out.setdefault("title", "steps by name")
    if "anyOf" in out:
        out |= _choices(out.pop("anyOf"))
    members = out.pop("properties", None)
    condition = {"if": out.pop("if")} if "if" in out else {}  # is asked, never shown
    out = inside(out, explained) | condition
    if members is not None:
        words, required = KEYS.get(piece.get("title", ""), {}), piece.get("required", ())
        out["properties"] = {k: _key(member, words.get(k, ""), k in required) for k, member in members.items()}
    return out


def _key(piece: Any, words: str, required: bool) -> Any:
    """One key: what it is, of which form, whether it has to be there, and an example."""
    if not isinstance(piece, dict):
        return piece
    piece = _plain(piece)
    if "$ref" in piece and not words and "description" not in piece:
        return piece  # what it leads to has words
    objects = [o for o in piece.get("anyOf", ()) if "properties" in o]
    parts = [piece.get("description") or words]
    if len(objects) == 1:  # else the words of the object alone are shown
        parts.append(objects[0].get("description", ""))
        piece["anyOf"] = [{k: v for k, v in o.items() if k != "description"} for o in piece["anyOf"]]
    said = " ".join(p if p[-1] in ".:!?`" else f"{p}." for p in parts if p)
    form = _form(piece)
    facts = ["" if form == "object" and said else form, "required" if required else ""]
    if "default" in piece:
        facts.append(f"default `{json.dumps(piece['default']).strip(chr(34))}`")
    shown = [said, f"*{'; '.join(filter(None, facts))}*" if any(facts) else ""]
    if "x-example" in piece:
        shown.append(f"```yaml\n{piece['x-example']}\n```")
    out: Piece = explained(piece if piece.keys() & FORMS else {**piece, "type": ANY})
    if said:
        out["description"] = said
    if any(shown):
        out["markdownDescription"] = "\n\n".join(filter(None, shown))
    return out


def _form(piece: Piece) -> str:
    """In words what a value may be; empty where the editor lists it or there is nothing to say."""
    if piece.get("x-holds") == "expression":
        return "expression or list" if "array" in json.dumps(piece) else "expression"
    texts = ", texts may hold `{{ … }}`" if "x-holds" in piece else ""
    if "anyOf" in piece:
        one_each = {form.removeprefix("a "): form for form in map(_form, piece["anyOf"]) if form}
        return " or ".join(one_each.values()) + texts
    if piece.keys() & {"enum", "const", "$ref"} or piece == NULL or piece.get("pattern") == TEMPLATE:
        return ""
    if piece.get("format") == "password":
        return "secret, such as `${env:NAME}`"
    if "x-words" in piece:
        return str(piece["x-words"]) + texts
    kinds = piece.get("type", [])
    forms = [TYPES.get(k, k) for k in ([kinds] if isinstance(kinds, str) else kinds) if k != "null"]
    inner = piece.get("items" if forms == ["list"] else "additionalProperties")
    if len(forms) == 1 and isinstance(inner, dict) and (of := _form(inner)):
        forms = [f"{forms[0]} of {of}"]
    if not forms and not texts:
        return ""
    bounds = [f"{word} {piece[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in piece]
    return " ".join([" or ".join(forms) or "any value", *bounds]) + texts


# Choices


def _plain(piece: Piece) -> Piece:
    """Choices in one list, objects first (an editor's message is about the first of equals), and null as a type."""
    options: list[Piece] = []
    for option in piece.get("anyOf", ()):
        if nested := option.keys() <= {"anyOf", "description"}:
            piece = {"description": option.get("description", ""), **piece}
        options += option["anyOf"] if nested else [option]
    options = sorted(_tagged(options), key=lambda o: "properties" not in o)
    rest = {k: v for k, v in piece.items() if k != "anyOf"}
    one = options[0] if len(options) == 2 and options[1] == NULL else {}
    if "type" in one and "enum" not in one:
        kinds = [one["type"]] if isinstance(one["type"], str) else one["type"]
        return {**one, **rest, "type": [*kinds, "null"]}
    return {**rest, "anyOf": options} if options else rest


def _tagged(options: list[Piece]) -> list[Piece]:
    """Objects told apart by one key, as if/then on that key: it is completed, and messages are about one kind."""
    objects = [o for o in options if "properties" in o]
    for key in objects[0]["properties"] if len(objects) > 1 else ():
        if all(len(o["properties"].get(key, {}).get("enum", ())) == 1 for o in objects):
            tags = {str(o["properties"][key]["enum"][0]): o for o in objects}
            chain = [
                {"if": {"required": [key], "properties": {key: {"type": "string", "pattern": f"^{tag}$"}}}, "then": o}
                for tag, o in tags.items()
            ]
            words = [o.get("description", "") for o in objects]
            member = {"description": "Which kind it is", "enum": list(tags), "markdownEnumDescriptions": words}
            one = {"type": "object", "properties": {key: member}, "required": [key], "allOf": chain}
            return [one, *(o for o in options if o not in objects)]
    return options


def _choices(options: list[Piece]) -> Piece:
    """Alternatives so that messages are about the form at hand, and hover doesn't take them for one another."""
    texts = [{k: v for k, v in o.items() if k != "type"} for o in options if o.get("type") == "string"]
    of_a_form = any(o.get("pattern", TEMPLATE) != TEMPLATE for o in texts)
    if of_a_form and options[0].get("properties") and len(texts) == len(options) - 1:
        rest = _choices(texts) if len(texts) > 1 else texts[0]
        return {"type": ["string", "object"], "if": {"type": "object"}, "then": options[0], "else": rest}
    return {"anyOf": [o if {"title", "$ref", "required"} & o.keys() else {"properties": {}, **o} for o in options]}


# Size


def shared(whole: Piece) -> Piece:
    """The same schema with the parts that stand in it more than once as definitions."""
    counts: Counter[str] = Counter()
    names: dict[str, str] = {}
    own: Piece = whole.get("$defs", {})
    definitions: Piece = {}

    def count(piece: Any) -> Any:
        text = json.dumps(piece)
        counts[text] += 1
        return inside(piece, count) if counts[text] == 1 else piece

    def swap(piece: Any) -> Any:
        text = json.dumps(piece)
        # An untitled object stays where it is: an editor's messages would call it by the definition's name.
        if counts[text] < 2 or len(text) < LEAST or (piece.get("type") == "object" and "title" not in piece):
            return inside(piece, swap)
        if text not in names:
            title = re.sub(r"\W", "_", piece.get("title", "part"))
            taken = definitions.keys() | own.keys()
            names[text] = next(n for n in (title, *(f"{title}_{i}" for i in range(2, 999))) if n not in taken)
            definitions[names[text]] = {}
            definitions[names[text]] = inside(piece, swap)
        return {"$ref": f"#/$defs/{names[text]}"}

    inside(whole, count)
    swapped = {name: inside(piece, swap) for name, piece in own.items()}
    rest = inside({k: v for k, v in whole.items() if k != "$defs"}, swap)
    return {**rest, "$defs": swapped | definitions}


def inside(piece: Any, change: Callable[[Any], Any]) -> Any:
    """A schema with each of the schemas directly in it changed."""
    if not isinstance(piece, dict):
        return piece
    out = dict(piece)
    for key in ("properties", "$defs"):
        if key in out:
            out[key] = {name: change(inner) for name, inner in out[key].items()}
    for key in ("items", "additionalProperties", "if", "then", "else"):
        if key in out:
            out[key] = change(out[key])
    for key in ("anyOf", "allOf"):
        if key in out:
            out[key] = [change(inner) for inner in out[key]]
    return out
