"""Writes the parts of docs/ that are made from the code: `.venv/bin/python docs/reference.py`.

They stand between `<!-- generated: NAME -->` and `<!-- end -->`; tests/test_docs.py fails when one is stale.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from engine import Connector, Doc, Pattern, RemoteError, Secret, TransientError
from engine.cli import cli
from engine.errors import STATUS_KINDS
from engine.functions import FUNCTIONS
from engine.types import key_of

DOCS = Path(__file__).parent
GENERATED = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def connectors() -> Mapping[str, type[Connector]]:
    """The connectors that ship, by name."""
    return {ep.name: ep.load() for ep in sorted(entry_points(group="flowrun.connectors"), key=lambda ep: ep.name)}


def commands(command: click.Command = cli, path: str = "flowrun") -> Iterator[tuple[str, click.Command]]:
    """Every command with what is typed for it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, f"{path} {name}")
    else:
        yield path, command


def settings_tables() -> str:
    """Each connector's settings; a setting that is one of several forms has a table of them."""
    return "\n".join(_settings(name, kind) for name, kind in connectors().items())


def _settings(name: str, kind: type[Connector]) -> str:
    members = list(_members(kind.Settings))
    out = [f"### {name}", "", f"{_first_paragraph(kind.__doc__)}", ""]
    out += ["| setting | form | if not given | what it is |", "|---|---|---|---|"]
    out += [f"| `{key}` | {_form(hint)} | {default} | {_doc(hint)} |" for key, hint, default in members]
    for key, hint, _ in members:
        forms = [part for part in _parts(hint) if is_dataclass(part)]
        if len(forms) == 1:
            out += [
                "",
                f"The keys of `{key}`:",
                "",
                f"| `{key}` | form | if not given | what it is |",
                "|---|---|---|---|",
            ]
            out += [f"| `{k}` | {_form(h)} | {default} | {_doc(h)} |" for k, h, default in _members(forms[0])]
        elif forms:
            out += ["", f"The forms of `{key}`:", "", f"| `{key}` | keys | what it is |", "|---|---|---|"]
            out += [_one_form(part) for part in forms]
    return "\n".join([*out, ""])


def _one_form(kind: Any) -> str:
    """A dataclass whose `type` says which one it is. Keys in brackets may be absent."""
    keys = list(_members(kind))
    tag = next(get_args(hint)[0] for key, hint, _ in keys if key == "type")
    rest = [f"`{key}`" if default == "needed" else f"[`{key}`]" for key, _, default in keys if key != "type"]
    return f"| `type: {tag}` | {', '.join(rest) or '–'} | {_first_paragraph(kind.__doc__)} |"


def _members(kind: Any) -> Iterator[tuple[str, Any, str]]:
    """Key, type and default of a dataclass's fields."""
    hints = get_type_hints(kind, include_extras=True)
    for f in fields(kind):
        default = "needed"
        if f.default is not MISSING:
            default = "–" if f.default in (None, "") else f"`{f.default}`"
        elif f.default_factory is not MISSING:
            made = f.default_factory()
            default = ", ".join(f"`{one}`" for one in made) if made and isinstance(made, list) else "–"
        yield key_of(hints[f.name], f.name), hints[f.name], default


def _parts(hint: Any) -> list[Any]:
    """The types that a hint allows, without null and without what Annotated adds."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _parts(get_args(hint)[0])
    if origin in (Union, UnionType):
        return [inner for part in get_args(hint) if part is not NoneType for inner in _parts(part)]
    return [hint]


def _form(hint: Any) -> str:
    words = [mark.words for mark in _marks(hint) if isinstance(mark, Pattern) and mark.words]
    return words[0] if words else " or ".join(dict.fromkeys(map(_word, _parts(hint))))


def _word(part: Any) -> str:
    if get_origin(part) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(part))
    if get_origin(part) is list:
        return "list"
    if is_dataclass(part):
        return "see below"
    return {str: "text", Secret: "secret", bool: "true or false", int: "whole number", float: "number"}[part]


def _marks(hint: Any) -> list[Any]:
    """What Annotated adds, anywhere in a hint, outermost first."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return [*marks, *_marks(inner)]
    if get_origin(hint) in (Union, UnionType):
        return [mark for part in get_args(hint) for mark in _marks(part)]
    return []


def _doc(hint: Any) -> str:
    return next((mark.text for mark in _marks(hint) if isinstance(mark, Doc)), "")


def lab() -> str:
    """An environment that reaches every emulator of `flowrun sandbox`."""
    emulators = [ep.load() for ep in sorted(entry_points(group="flowrun.emulators"), key=lambda ep: ep.name)]
    out = ["```yaml", "# flows/connections.yaml", "environments:", "  sandbox: {emulate: true}", "  lab:", "    route:"]
    out += [f'      {host}: "http://127.0.0.1:8931"' for kind in emulators for host in kind.hosts]
    out += ["    connections:"]
    for kind in emulators:
        for name, settings in kind.connections.items():
            out += [f"      {name}:", *(f"        {key}: {_yaml(value)}" for key, value in settings.items())]
    return "\n".join([*out, "```", ""])


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def operations_table() -> str:
    """Every operation of every connector."""
    out = ["| operation | effect | what it does |", "|---|---|---|"]
    for name, kind in connectors().items():
        for op in kind.operations().values():
            effect = op.effect if isinstance(op.effect, str) else "by its inputs"
            out.append(f"| `{name}.{op.name}` | {effect} | {_first_paragraph(op.doc)} |")
    return "\n".join([*out, ""])


def statuses_table() -> str:
    """What an HTTP status stands for."""
    out = ["| error | HTTP status | what it means |", "|---|---|---|"]
    for kind in dict.fromkeys(STATUS_KINDS.values()):
        codes = [str(status) for status, found in STATUS_KINDS.items() if found is kind]
        codes += ["any other from 500"] if kind is TransientError else ["any other"] if kind is RemoteError else []
        out.append(f"| `{kind.__name__}` | {', '.join(codes)} | {_first_paragraph(kind.__doc__)} |")
    return "\n".join([*out, ""])


def functions_table() -> str:
    """Every function of the language: signature, first paragraph and example of its docstring."""
    out = ["| function | what it gives | example |", "|---|---|---|"]
    for f in FUNCTIONS.values():
        example = next((line for line in f.doc.splitlines() if " → " in line), "")
        shown = f"`{_cell(example)}`" if example else ""
        out.append(f"| `{f.signature}` | {_first_paragraph(f.doc)} | {shown} |")
    return "\n".join([*out, ""])


def commands_table() -> str:
    """Every command with its arguments and options."""
    out = ["| command | what it does |", "|---|---|"]
    for path, command in commands():
        arguments = [p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)]
        cells = [_first_paragraph(command.help)]
        for option in command.params:
            if isinstance(option, click.Option):
                default = f" (default: {option.default})" if option.show_default else ""
                cells.append(f"`{option.opts[0]}{_value(option)}` {option.help or ''}{default}")
        out.append(f"| `{' '.join([path.removesuffix(' run'), *arguments])}` | {'<br>'.join(map(_cell, cells))} |")
    return "\n".join([*out, ""])


def _value(option: click.Option) -> str:
    return "" if option.is_flag else f" {option.metavar or option.type.name.upper().split()[0]}"


def bench() -> str:
    """The bench that the conformance kit runs over the CRM in a file."""
    source = (DOCS.parent / "tests" / "test_crm_conformance.py").read_text(encoding="utf-8")
    wanted = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    shown = [ast.get_source_segment(source, wanted[name]) for name in ("SqliteBench", "TestSqlite")]
    return "```py\n" + "\n\n\n".join(map(str, shown)) + "\n```\n"


def _first_paragraph(doc: str | None) -> str:
    return _cell(" ".join((doc or "").strip().split("\n\n")[0].split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PARTS: Mapping[str, Callable[[], str]] = {
    "bench": bench,
    "commands": commands_table,
    "functions": functions_table,
    "lab": lab,
    "operations": operations_table,
    "settings": settings_tables,
    "statuses": statuses_table,
}


def renewed(text: str) -> str:
    """A page with its generated parts as they should be."""
    return GENERATED.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[3]}", text)


if __name__ == "__main__":
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
