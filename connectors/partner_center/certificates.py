"""The certificate that an event is signed with: fetched from where it may lie, traced to a trusted root, kept a while.

The event names its certificate's URL, so the URL is checked first (signature.py). Nothing of the connection goes to
that host: no token, no cookie. A certificate comes without those of its issuers; they are fetched from where each
certificate says that its issuer's lies (RFC 5280 §4.2.2.1), over https and from listed hosts alone.
Revocation isn't looked at; instead a certificate is fetched anew every hour.
"""

from __future__ import annotations

import base64
import copy
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import certifi
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from connectors.partner_center.registration import Webhook
from engine import ConfigError, Context, FlowrunError, RemoteError, TransientError

KEPT = 3600.0  # seconds that a verified certificate is used
REFUSED = 60.0  # seconds that a refusal is remembered; a newer certificate isn't sought sooner either
TROUBLE = 5.0  # seconds that trouble on the way is remembered
REMEMBERED = 64  # URLs
LARGEST = 64 * 1024  # bytes of a certificate with its issuers'
IN_TIME = 15.0  # seconds for one download
ISSUERS = 4  # that are fetched for one certificate
SMALLEST = 2048  # bits of an RSA key
T = TypeVar("T")
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class Kept:
    """A verified certificate's key; times are Unix seconds."""

    key: RSAPublicKey
    since: float
    until: float


class Certificates:
    """Verified keys by URL. Safe for several threads; one of them fetches at a time."""

    def __init__(self, ctx: Context, settings: Webhook) -> None:
        self.ctx = ctx
        self.settings = settings
        self._kept: dict[str, Kept] = {}
        self._refused: dict[str, tuple[float, FlowrunError]] = {}
        self._lock = threading.Lock()

    def key(self, url: str, *, newer: bool = False) -> RSAPublicKey:
        """The key at a checked URL. With `newer` it is fetched anew, unless that has just been done.

        Raises RemoteError (403) for a certificate that isn't to be trusted, TransientError or ConfigError where it
        can't be fetched.
        """
        kept = self._usable(url, newer)
        if kept is not None:
            return kept.key
        with self._lock:
            kept = self._usable(url, newer)  # another thread may have been first
            if kept is not None:
                return kept.key
            error = self._fetch(url)
            kept = self._usable(url, newer=False)  # fetched, or where that failed the one from before
            if kept is not None:
                return kept.key
            raise copy.copy(error) if error is not None else _untrusted(url, "it expires this moment")

    def check(self) -> None:
        """Raises ConfigError where a file of `roots` can't be used."""
        for root in self.settings.roots:
            if not root.startswith("https://"):
                self._root(root)

    def _now(self) -> float:
        return self.ctx.clock.now().timestamp()

    def _usable(self, url: str, newer: bool) -> Kept | None:
        kept, now = self._kept.get(url), self._now()
        if kept is None or kept.until <= now or (newer and kept.since + REFUSED <= now):
            return None
        return kept

    def _fetch(self, url: str) -> FlowrunError | None:
        """Keeps the key, or remembers for a while what was wrong."""
        until, error = self._refused.get(url, (0.0, None))
        if error is not None and self._now() < until:
            return error
        try:
            _remember(self._kept, url, self._verified(url))
        except FlowrunError as refusal:
            lasts = REFUSED if isinstance(refusal, RemoteError) else TROUBLE
            _remember(self._refused, url, (self._now() + lasts, refusal))
            return refusal
        return None

    def _verified(self, url: str) -> Kept:
        data = self._download(url)
        try:
            return self._judged(url, *read(data))
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
            raise _untrusted(url, "it can't be read as a certificate") from None

    def _judged(self, url: str, leaf: x509.Certificate, *given: x509.Certificate) -> Kept:
        now = self.ctx.clock.now()
        roots = [root for entry in self.settings.roots for root in self._root(entry)]
        chain = self._chain(url, leaf, self._issuers(leaf, given, roots), roots, now)
        wanted = {self.settings.organization}
        if _organizations(leaf.issuer) != wanted or _organizations(leaf.subject) not in (wanted, set()):
            raise _untrusted(url, f"it isn't {self.settings.organization}'s: {leaf.subject.rfc4514_string()[:200]}")
        key = leaf.public_key()
        if not isinstance(key, RSAPublicKey) or key.key_size < SMALLEST:
            raise _untrusted(url, f"its key isn't RSA of {SMALLEST} bits or more")
        ends = min(certificate.not_valid_after_utc for certificate in chain)
        self.ctx.log.info("certificate %s of %s: good", url, leaf.subject.rfc4514_string()[:200])
        return Kept(key, now.timestamp(), min(now.timestamp() + KEPT, ends.timestamp()))

    def _chain(
        self, url: str, leaf: x509.Certificate, between: list[x509.Certificate], roots: list[x509.Certificate],
        now: datetime,
    ) -> list[x509.Certificate]:  # fmt: skip
        """From the certificate to a root (RFC 5280 §6). What it may be used for, and for which name, isn't asked:
        it is no TLS server here."""
        usage, either = x509.ExtendedKeyUsage, Criticality.AGNOSTIC
        ca = ExtensionPolicy.webpki_defaults_ca().may_be_present(usage, either, None)
        own = ExtensionPolicy.webpki_defaults_ee().may_be_present(usage, either, None)
        own = own.may_be_present(x509.SubjectAlternativeName, either, None)
        builder = PolicyBuilder().store(Store(roots)).time(now).extension_policies(ca_policy=ca, ee_policy=own)
        try:
            return builder.build_client_verifier().verify(leaf, between).chain
        except VerificationError as error:
            issuer = leaf.issuer.rfc4514_string()[:200]
            hint = f"if that is Microsoft's, add its root's certificate to `webhook.roots`: {issuer}"
            raise _untrusted(url, f"of issuer {issuer}: {str(error)[:300]}", hint) from None

    def _issuers(
        self, leaf: x509.Certificate, given: Iterable[x509.Certificate], roots: list[x509.Certificate]
    ) -> list[x509.Certificate]:
        """The certificates between it and a root: those that came with it, then those that they point to."""
        found, anchors, at = list(given), {root.subject for root in roots}, leaf
        for _ in range(ISSUERS):
            if at in roots or at.issuer in anchors or at.issuer == at.subject:
                break
            issuer = next((one for one in found if one.subject == at.issuer), None) or self._issuer(at)
            if issuer is None:
                break
            found.append(issuer)
            at = issuer
        return found

    def _issuer(self, certificate: x509.Certificate) -> x509.Certificate | None:
        hosts = {host.lower() for host in (*self.settings.issuer_hosts, *self.settings.certificate_hosts)}
        for text in _pointers(certificate):
            parts = urlsplit(text)
            if parts.scheme not in ("http", "https") or parts.netloc.lower() not in hosts:
                continue
            try:
                found = read(self._download(f"https://{parts.netloc.lower()}{parts.path}"))
            except ValueError:
                continue
            if issuer := next((one for one in found if one.subject == certificate.issuer), None):
                return issuer
        return None

    def _root(self, entry: str) -> list[x509.Certificate]:
        """The certificates of an entry of `roots`. Raises ConfigError."""
        try:
            if entry == "default":
                data = Path(certifi.where()).read_bytes()
            elif entry.startswith("https://"):
                data = self._download(entry)
            else:
                data = (Path(self.ctx.folder) / entry).read_bytes()
            return list(_each(PEM.findall(data))) or read(data)
        except (OSError, ValueError, RemoteError) as error:
            what = (error.strerror if isinstance(error, OSError) else None) or "it holds no certificate"
            raise ConfigError(f"webhook.roots: can't use {entry}: {what}", code="Roots") from None

    def _download(self, url: str) -> bytes:
        """Raises RemoteError (403) for anything but one plain answer of moderate size."""
        session = self.ctx.session.bound({urlsplit(url).netloc})
        session.transport = replace(session.transport, max_bytes=LARGEST)
        try:
            answer = session.request("GET", url, headers={"Accept": "*/*"}, timeout=IN_TIME)
        except RemoteError as error:  # a redirect to elsewhere, too large
            raise _untrusted(url, error.message) from error
        status = answer.status_code
        if status in (408, 429) or status >= 500:
            raise TransientError(f"certificate {url}: the host answered {status}", code="Certificate")
        if answer.url != url:
            raise _untrusted(url, "the host redirects")
        if status != 200 or not 0 < len(answer.content) <= LARGEST:
            raise _untrusted(url, f"the host answered {status} with {len(answer.content)} bytes")
        return answer.content


def read(data: bytes) -> list[x509.Certificate]:
    """Certificates in PEM, DER or bare base64. Raises ValueError."""
    if found := PEM.findall(data):
        return [x509.load_pem_x509_certificate(one) for one in found]
    try:
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        bare = b"".join(data.removeprefix(b"\xef\xbb\xbf").split())
        return [x509.load_der_x509_certificate(base64.b64decode(bare, validate=True))]


def _each(found: Iterable[bytes]) -> Iterator[x509.Certificate]:
    """Those that can be read: public lists hold some that break the rules."""
    for one in found:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield x509.load_pem_x509_certificate(one)
            except ValueError:
                continue


def _pointers(certificate: x509.Certificate) -> Iterator[str]:
    """Where it says that its issuer's certificate lies."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return
    for one in access:
        location = one.access_location
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS and isinstance(
            location, x509.UniformResourceIdentifier
        ):
            yield location.value


def _organizations(name: x509.Name) -> set[str | bytes]:
    return {attribute.value for attribute in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}


def _remember(kept: dict[str, T], url: str, what: T) -> None:
    kept.pop(url, None)
    kept[url] = what
    while len(kept) > REMEMBERED:
        del kept[next(iter(kept))]


def _untrusted(url: str, why: str, hint: str = "") -> RemoteError:
    return RemoteError(f"certificate {url}: {why}", code="Certificate", hint=hint, status=403)
