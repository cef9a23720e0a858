"""Errors, sorted by what to do next.

An error carries fields; the sentence for the user is made at the edge (command line, journal, page). `kind` decides
what happens next: retry (transient), ask a person (remote, uncertain), mend document or connection (config), mend the
record or mapping (data), report it to us (bug).
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, TypeAlias

Kind: TypeAlias = Literal["config", "data", "transient", "remote", "uncertain", "bug"]


class FlowrunError(Exception):
    """Base of every expected failure.

    `message` is for the user, `code` for machines (the vendor's own code where there is one), `hint` says what to do,
    `retry_after` is seconds, `status` is the HTTP status where the error came out of an answer.
    `answer_lost` is true when the other side may have carried out the request. `outputs` is the failed step's outputs.
    """

    kind: ClassVar[Kind] = "bug"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        answer_lost: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).__name__.removesuffix("Error")
        self.hint = hint
        self.status = status
        self.retry_after = retry_after
        self.answer_lost = answer_lost
        self.outputs: Mapping[str, Any] = {}


class ConfigError(FlowrunError):
    """The document or the connection has to be mended."""

    kind = "config"


class DataError(FlowrunError):
    """The record or the mapping has to be mended."""

    kind = "data"


class TransientError(FlowrunError):
    """May work when tried again."""

    kind = "transient"


class RemoteError(FlowrunError):
    """The other side refuses; a person has to look."""

    kind = "remote"


class UncertainError(FlowrunError):
    """A write whose answer was lost: it may or may not have happened."""

    kind = "uncertain"


# What an HTTP status means for the caller. Connectors extend it as data (Connector.status_kinds).
STATUS_KINDS: Mapping[int, type[FlowrunError]] = {
    400: DataError,
    401: ConfigError,
    403: RemoteError,
    404: RemoteError,
    408: TransientError,
    409: RemoteError,
    412: RemoteError,
    413: DataError,
    422: DataError,
    423: RemoteError,
    425: TransientError,
    428: DataError,
    429: TransientError,
    500: TransientError,
    502: TransientError,
    503: TransientError,
    504: TransientError,
}
# A refusal before any work was begun; after any other transient status the request may have been carried out.
NOT_CARRIED_OUT = frozenset({425, 429})


def did_you_mean(name: str, known: list[str] | set[str] | frozenset[str]) -> str:
    """The nearest known name as a sentence, else the known names, else nothing."""
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(sorted(known)) if 0 < len(known) <= 25 else ""
