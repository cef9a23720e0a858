"""The sandbox: every installed emulator, with its state beside the journal, failing on demand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from requests.adapters import BaseAdapter

from engine.errors import ConfigError, did_you_mean
from engine.local.database import prepare
from engine.model import seconds
from engine.sandbox import FAULTS, WSGI, Emulator, Faults, Store, WSGIAdapter
from engine.types import JSON


@cache
def emulators() -> tuple[type[Emulator], ...]:
    """The installed emulators."""
    return tuple(ep.load() for ep in entry_points(group="flowrun.emulators"))


def sandbox_settings(connector: str) -> Mapping[str, JSON]:
    """The settings that reach a connector's emulator."""
    return next((e.connections[connector] for e in emulators() if connector in e.connections), {})


def apps(state: Path, options: Mapping[str, JSON]) -> dict[str, WSGI]:
    """Host → application, over the state folder. `options`: latency, faults (rate by name), seed.

    Raises ConfigError for an unknown fault.
    """
    rates = options.get("faults") or {}
    for name, rate in rates.items():
        if name not in FAULTS:
            raise ConfigError(f"emulate: unknown fault '{name}'", code="Emulate", hint=did_you_mean(name, set(FAULTS)))
        if not 0 <= rate <= 1:
            raise ConfigError(f"emulate: {name} takes a rate from 0 to 1, not {rate}", code="Emulate")
    prepare(state)
    store = Store(state / "sandbox.db")
    latency = seconds(options["latency"]) if options.get("latency") else 0.0
    plain = not rates and not latency
    out: dict[str, WSGI] = {}
    for kind in emulators():
        emulator = kind(store)
        app = emulator if plain else Faults(emulator, rates, latency, options.get("seed"))
        out |= dict.fromkeys(kind.hosts, app)
    return out


def mounted(state: Path, options: Mapping[str, JSON]) -> Mapping[str, BaseAdapter]:
    """The sandbox's applications as adapters for sessions."""
    return {host: WSGIAdapter(app) for host, app in apps(state, options).items()}
