"""flowrun's engine. This module is the whole public surface for connectors and emulators."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.connections.session import Session, Transport

# fmt: off
# isort: off
from engine.connections.crm import CRM, NEUTRAL_FIELDS, Change, Lead, LeadResult, LeadStatus, Page, difference
from engine.connections.entra import PUBLIC_CLOUD, Certificate, Entra, MemoryTokens, Token
from engine.contract import (
    Call, Clock, Connector, Context, Difference, Effect, Event, Operation, Request, Result, SystemClock, TokenStore,
    operation, retry_after,
)
from engine.errors import (
    ConfigError, DataError, FlowrunError, Kind, RemoteError, TransientError, UncertainError, did_you_mean,
)
from engine.loader.findings import Finding, Place
from engine.types import JSON, UNKNOWN, Doc, Guid, Key, Pattern, Range, Schema, Secret, plain

__all__ = [
    "CRM", "JSON", "NEUTRAL_FIELDS", "PUBLIC_CLOUD", "UNKNOWN", "Call", "Certificate", "Change", "Clock",
    "ConfigError", "Connector", "Context", "DataError", "Difference", "Doc", "Effect", "Entra", "Event", "Finding",
    "FlowrunError", "Guid", "Key", "Kind", "Lead", "LeadResult", "LeadStatus", "MemoryTokens", "Operation", "Page",
    "Pattern", "Place", "Range", "RemoteError", "Request", "Result", "Schema", "Secret", "Session", "SystemClock",
    "Token", "TokenStore", "TransientError", "Transport", "UncertainError", "did_you_mean", "difference",
    "operation", "plain", "retry_after",
]
# fmt: on


def __getattr__(name: str) -> Any:
    """Session and Transport come when they are asked for: requests takes long to import, and a check needs none."""
    if name in ("Session", "Transport"):
        from engine.connections import session

        return getattr(session, name)
    raise AttributeError(name)
