"""Secret references in configuration, and the mask that keeps their values out of everything people read."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from engine.errors import ConfigError
from engine.types import JSON, Secret

REFERENCE = re.compile(r"\$\{(\w+):([^}]+)\}")
REMEMBERED = 32  # access tokens
SHORTEST = 8  # masking shorter values would black out innocent text


class Mask:
    """Replaces known secret values in texts: plain, base64, URL- and JSON-escaped; longest first."""

    def __init__(self) -> None:
        self._secrets: dict[str, set[str]] = {}  # with all its forms
        self._passing: deque[str] = deque()
        self._starts: dict[str, list[str]] = {}  # the first characters of a form → the forms, longest first

    def add(self, secret: str, *, passing: bool = False) -> None:
        """Makes a value known. Values under 8 characters are let be.

        Of `passing` ones (access tokens, which live for an hour) the newest are remembered.
        """
        if len(secret) < SHORTEST or secret in self._secrets:
            return
        self._secrets[secret] = {form for form in _forms(secret) if len(form) >= SHORTEST}
        if passing:
            self._passing.append(secret)
            if len(self._passing) > REMEMBERED:
                del self._secrets[self._passing.popleft()]
        starts: dict[str, list[str]] = {}
        for form in sorted(set().union(*self._secrets.values()), key=len, reverse=True):
            starts.setdefault(form[:SHORTEST], []).append(form)
        self._starts = starts

    def __call__(self, text: str) -> str:
        starts, out, at, done = self._starts, list[str](), 0, 0
        last = len(text) - SHORTEST if starts else -1
        while at <= last:
            forms = starts.get(text[at : at + SHORTEST])
            found = next((form for form in forms if text.startswith(form, at)), None) if forms else None
            if found is None:
                at += 1
                continue
            out += [text[done:at], "***"]
            at = done = at + len(found)
        return "".join([*out, text[done:]]) if out else text


def _forms(secret: str) -> set[str]:
    """A secret as it may stand in a text: encoded, and that quoted (also twice) by JSON or by Python."""
    plain = (secret, quote(secret, safe=""), quote(secret), quote_plus(secret))
    forms = set(plain)
    for text in plain:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            for lead in range(3):  # inside a longer text its bytes may begin anywhere in a group of three
                coded = encode(b"\0" * lead + text.encode()).decode().rstrip("=")
                whole = (lead + len(text.encode())) * 8 // 6  # characters that depend on no byte after the secret
                forms.add(coded[-(-lead * 8 // 6) : whole])
    forms |= {re.sub("%..", lambda m: m[0].lower(), form) for form in forms}
    for _ in range(2):
        forms |= {quoted for form in forms for quoted in _quoted(form)}
    return forms


def _quoted(text: str) -> Iterable[str]:
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    for shown in (repr(text), repr(text + "'\"")[:-3], repr(text.encode())[1:], repr(text.encode() + b"'\"")[1:-3]):
        yield shown[1:-1]


def secrets_in(settings: object) -> Iterator[str]:
    """The values of every Secret in typed settings."""
    if isinstance(settings, Secret):
        yield settings.reveal()
    elif dataclasses.is_dataclass(settings):
        for field in dataclasses.fields(settings):
            yield from secrets_in(getattr(settings, field.name))
    elif isinstance(settings, Mapping):
        for value in settings.values():
            yield from secrets_in(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from secrets_in(value)


def resolver(environment: Mapping[str, str], folder: Path) -> Callable[[JSON, str], JSON]:
    """A function that replaces `${env:NAME}`, `${file:path}` and `${keyring:service/name}` in a JSON value.

    Its second argument names the place for errors. Raises ConfigError for what isn't there.
    """

    def look_up(scheme: str, name: str, where: str) -> str:
        match scheme:
            case "env":
                if name not in environment:
                    raise ConfigError(f"{where}: environment variable {name} is not set", code="NoSecret")
                return environment[name]
            case "file":
                try:
                    return (folder / name).read_text(encoding="utf-8").rstrip("\n")
                except OSError as error:
                    raise ConfigError(f"{where}: can't read {name}: {error.strerror}", code="NoSecret") from error
                except UnicodeDecodeError as error:
                    raise ConfigError(f"{where}: {name} is no UTF-8 text", code="NoSecret") from error
            case "keyring":
                return _from_keyring(name, where)
        raise ConfigError(f"{where}: unknown scheme '{scheme}'", code="NoSecret", hint="known: env, file, keyring")

    def resolve(value: JSON, where: str) -> JSON:
        if isinstance(value, str):
            return REFERENCE.sub(lambda match: look_up(match[1], match[2], where), value)
        if isinstance(value, dict):
            return {k: resolve(v, f"{where}.{k}") for k, v in value.items()}
        if isinstance(value, list):
            return [resolve(v, where) for v in value]
        return value

    return resolve


def _from_keyring(name: str, where: str) -> str:
    try:
        import keyring
    except ImportError as error:
        hint = "install the extra: flowrun-engine[keyring]"
        raise ConfigError(f"{where}: ${{keyring:}} needs the keyring package", code="NoSecret", hint=hint) from error
    service, _, user = name.rpartition("/")
    found = keyring.get_password(service or "flowrun", user)
    if found is None:
        raise ConfigError(f"{where}: the keyring has no {name}", code="NoSecret")
    return str(found)
