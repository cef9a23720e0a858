"""What emulators are made of. Connectors need none of it; emulators import it beside `engine`."""

from engine.sandbox.emulator import (
    FAULTS,
    Emulator,
    Faults,
    Incoming,
    Refusal,
    Reply,
    Store,
    read_token,
    route,
    sign_token,
)
from engine.sandbox.wsgi import WSGI, Dropped, WSGIAdapter, serve

__all__ = [
    "FAULTS",
    "WSGI",
    "Dropped",
    "Emulator",
    "Faults",
    "Incoming",
    "Refusal",
    "Reply",
    "Store",
    "WSGIAdapter",
    "read_token",
    "route",
    "serve",
    "sign_token",
]
