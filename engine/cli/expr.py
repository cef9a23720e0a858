"""`flowrun expr`: one expression, tried out; or many, one a line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

import click

from engine.cli.wiring import YES, read
from engine.errors import ConfigError, DataError, FlowrunError

if TYPE_CHECKING:
    from engine.types import JSON
    from engine.wdl.context import Evaluator


@click.command()
@click.argument("expression", required=False)
@click.option(
    "--context", "context_file", metavar="FILE", help="JSON with the values it reads; - reads standard input."
)
@click.option("--wdl", is_flag=True, help="It is written as in Power Automate: @concat('a', 'b'), text @{…}.")
@click.option("--to-jinja", is_flag=True, help="Prints how an expression of Power Automate is written here.")
@click.option("--jsonl", is_flag=True, help="Reads {id, expr, context} from standard input, one a line.")
def expr(expression: str | None, context_file: str | None, wdl: bool, to_jinja: bool, jsonl: bool) -> int:
    """Evaluates EXPRESSION and prints its value as JSON.

    It is the source of an expression, or a text with {{ }}. The context has, as far as they are needed, parameters,
    variables, trigger, actions, item, items, iterationIndexes, results, workflow and now.
    """
    if jsonl != (expression is None):
        raise click.UsageError("either an EXPRESSION, or --jsonl")
    context = _context(context_file)
    if jsonl:
        _lines(sys.stdin, context, wdl=wdl, to_jinja=to_jinja)
    elif to_jinja:
        click.echo(_shown(translated(expression or "", context if context_file else None)))
    else:
        from engine.wdl.context import Evaluator

        click.echo(_json(evaluated(Evaluator(), expression or "", context, wdl=wdl)))
    return YES


def _context(file: str | None) -> JSON:
    if file is None:
        return {}
    try:
        return json.loads(read(file))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is no JSON: {error}", code="Context") from error


def evaluated(evaluator: Evaluator, expression: str, context: JSON, *, wdl: bool) -> JSON:
    """The value of one expression. Raises FlowrunError."""
    from engine.wdl.context import given

    found = given(context)
    return evaluator.wdl(expression, found) if wdl else evaluator.jinja(expression, found)


def translated(expression: str, context: JSON = None) -> JSON:
    """An expression of Power Automate in ours; the names in it are checked where a context is given."""
    from engine.wdl.context import given
    from engine.wdl.jinja import Printer

    return Printer(None if context is None else given(context).names).value(expression)


def _shown(value: JSON) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: JSON) -> str:
    """JSON as people read it; half a character, which JSON can hold, stays escaped."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def _lines(source: TextIO, context: JSON, *, wdl: bool, to_jinja: bool) -> None:
    """Answers each line as soon as it is read. What is wrong with one line is that line's error."""
    from engine.wdl.context import Evaluator

    evaluator = Evaluator()
    for line in source:
        if not line.strip():
            continue
        id: JSON = None
        try:
            asked = _asked(line)
            id, own = asked.get("id"), asked.get("context")
            if to_jinja:
                value = translated(asked["expr"], own)
            else:
                value = evaluated(evaluator, asked["expr"], context if own is None else own, wdl=wdl)
            answer = _json({"id": id, "value": value})
        except FlowrunError as error:
            answer = _json({"id": id, "error": error.message})
        except Exception as error:  # noqa: BLE001 - a bug of ours: the other lines still have their answers
            answer = _json({"id": id, "error": f"this is a bug in flowrun: {type(error).__name__}: {error}"})
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _asked(line: str) -> dict[str, Any]:
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON: {error}", code="Line") from error
    if not isinstance(asked, dict) or not isinstance(asked.get("expr"), str):
        raise DataError('a line is {"id": …, "expr": "…", "context": {…}}', code="Line")
    return asked
