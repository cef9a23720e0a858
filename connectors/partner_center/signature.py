"""Whether a call to the hook is from Partner Center, by its signature.

The whole body is signed, and nothing else: RSA, PKCS #1 v1.5, SHA-256. The signature stands in `Authorization:
Signature …`, or in `x-ms-signature` where the registration says so; `x-ms-certificate-url` says where the certificate
lies. Since no time is signed but the one in the body, an event is accepted for a limited time after its change.
Source: Partner Center developer pages on webhooks, "How to authenticate the callback".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from connectors.partner_center.certificates import Certificates
from connectors.partner_center.registration import Webhook
from engine import ConfigError, Context, Event, RemoteError, Request, TransientError

ALGORITHM = "rsa-sha256"
LONGEST = 2048  # characters of a signature or a URL
AHEAD = timedelta(days=1)  # how far an event may be before our clock
PASSED = ("content-type", "x-ms-certificate-url", "x-ms-signature", "x-ms-signature-algorithm")


class Verifier:
    """Verifies calls as a connection's settings say."""

    def __init__(self, ctx: Context, settings: Webhook) -> None:
        self.ctx = ctx
        self.settings = settings
        self.certificates = Certificates(ctx, settings)
        self._hosts = frozenset(host.lower() for host in settings.certificate_hosts)
        if settings.validator and not re.fullmatch(r"https?://[^\s/?#@]+(/\S*)?", settings.validator.reveal()):
            raise ConfigError("webhook.validator is no URL", code="Settings")
        try:
            self._path = re.compile(settings.certificate_path)
        except re.error as error:
            raise ConfigError(f"webhook.certificate_path: {error}", code="Settings") from None

    def verify(self, request: Request) -> None:
        """Raises RemoteError: 400 a header is missing, 401 the signature doesn't fit, 403 the certificate isn't to be
        trusted. Raises TransientError or ConfigError where that can't be found out at the moment."""
        if self.settings.mode == "external":
            self._ask(request)
            return
        signature = signature_in(request.headers)
        url, algorithm = (
            _header(request.headers, f"x-ms-{name}") for name in ("certificate-url", "signature-algorithm")
        )
        if algorithm.lower() != ALGORITHM:
            raise RemoteError(f"events are signed by {ALGORITHM}, not {algorithm[:40]!r}", code="Algorithm", status=401)
        url = self._certificate_url(url)
        key = self.certificates.key(url)
        if fits(key, signature, request.body):
            return
        newer = self.certificates.key(url, newer=True)  # it may have been renewed in its place
        if newer is key or not fits(newer, signature, request.body):
            raise RemoteError("the signature doesn't fit the body", code="Signature", status=401)

    def in_time(self, events: Iterable[Event]) -> None:
        """Raises RemoteError (403) for an event that is too old, by its own time: it may be a replay."""
        now = self.ctx.clock.now()
        for event in events:
            age = now - datetime.fromisoformat(event.time)
            if not -AHEAD <= age <= timedelta(days=self.settings.replay_days):
                raise RemoteError(
                    f"the event is of {event.time}, outside the {self.settings.replay_days:g} days that are accepted",
                    code="Replay",
                    status=403,
                )

    def _certificate_url(self, text: str) -> str:
        """The URL in a canonical form. Raises RemoteError (403) for any that isn't listed."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            parts, host, port = urlsplit(""), "", None
        plain = re.fullmatch(r"[!-~]+", text) and not re.search(r"[@?#\\]", text) and len(text) <= LONGEST
        listed = host in self._hosts and self._path.fullmatch(parts.path)
        if not plain or parts.scheme != "https" or port not in (None, 443) or not listed:
            raise RemoteError(
                f"the certificate lies where none may: {text[:200]!r}",
                code="CertificateUrl",
                hint="see `webhook.certificate_hosts` and `webhook.certificate_path`",
                status=403,
            )
        return f"https://{host}{parts.path}"

    def _ask(self, request: Request) -> None:
        """The verdict of the validator, which gets what it needs to verify the call, and nothing of ours."""
        assert self.settings.validator is not None
        url = self.settings.validator.reveal()
        sent = {name: request.headers[name] for name in PASSED if name in request.headers}
        if _by_scheme(request.headers.get("authorization", "")):
            sent["authorization"] = request.headers["authorization"]
        session = self.ctx.session.bound({urlsplit(url).netloc})
        answer = session.request("POST", url, headers=sent, data=request.body, read=True)
        status = answer.status_code
        if status in (400, 401, 403):
            raise RemoteError("the validator refuses the call", code="Validator", status=status)
        if status in (408, 429) or status >= 500:
            raise TransientError(f"the validator answered {status}", code="Validator")
        if status not in (200, 204):
            hint = "it has to answer 200 when the signature is good, else 401; 202 tells nothing"
            raise ConfigError(f"the validator answered {status}: that is no verdict", code="Validator", hint=hint)


def signature_in(headers: Mapping[str, str]) -> bytes:
    """The signature, out of either header. Raises RemoteError (401)."""
    value = _by_scheme(headers.get("authorization", ""))
    if not value:
        own = headers.get("x-ms-signature", "").strip()
        value = "" if own.lower() == "signature" else _by_scheme(own) or own
    if not value:
        raise RemoteError("the call isn't signed", code="NoSignature", status=401)
    try:
        if len(value) > LONGEST:
            raise ValueError("too long")
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise RemoteError("the signature is no base64", code="Signature", status=401) from None


def fits(key: RSAPublicKey, signature: bytes, body: bytes) -> bool:
    """Whether the key's owner has signed these very bytes."""
    try:
        key.verify(signature, body, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def _by_scheme(value: str) -> str:
    """What stands behind the scheme `Signature`; empty for any other scheme."""
    scheme, _, rest = value.strip().partition(" ")
    return rest.strip() if scheme.lower() == "signature" else ""


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise RemoteError(f"the header {name} is missing", code="NoHeader", status=400)
    return value
