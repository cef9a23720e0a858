"""Answers of Partner Center's services: whether it was done, their JSON, and what an error says. For the connector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import JSON, TransientError

if TYPE_CHECKING:
    from requests import Response


def done(answer: Response) -> bool:
    """Whether it was done. A redirect, which is followed for reads alone, isn't."""
    return 200 <= answer.status_code < 300


def json_of(answer: Response) -> JSON:
    """The body's JSON, None where it is none. It is in UTF-8 whatever the header says, and may begin with a mark."""
    answer.encoding = "utf-8-sig"
    try:
        return answer.json()
    except ValueError:
        return None


def object_of(answer: Response) -> dict[str, JSON]:
    """Its JSON object. Raises TransientError for anything else."""
    body = json_of(answer)
    if isinstance(body, dict):
        return body
    write = answer.request.method == "POST"
    raise TransientError(
        f"{answer.request.method} answered {answer.status_code} with no JSON object",
        code="Malformed",
        answer_lost=write,
    )


def error_in(body: JSON) -> tuple[list[str], str]:
    """Codes, outermost first, and the message, of an error in any of the three forms."""
    codes, message = list[str](), ""
    if not isinstance(body, dict):
        return codes, message
    found = {str(key).lower(): value for key, value in body.items()}
    node = found["error"] if isinstance(found.get("error"), dict) else found
    while isinstance(node, dict):
        level = {str(key).lower(): value for key, value in node.items()}
        codes += [str(level[name]) for name in ("code", "statuscode") if level.get(name)]
        message = message or str(level.get("message") or level.get("description") or "")
        node = level.get("innererror")
    return codes, message
