"""How the sandbox's Partner Center posts events: signed by its own authority, up to ten times, to loopback only.

On the machine's clock a thread posts what is due; on any other clock whoever moves it calls `deliver()`. What waits is
in the store: what a process leaves behind, the next one posts.

Not documented, and chosen here: the second try comes a second after the first, then the wait doubles up to a minute;
any answer of 2xx counts as delivered. Faults on demand are in the store under ("partner_center", "delivery"), as an
object with the fields of Delivery.

Sources: Partner Center developer pages on webhooks (receiving events, delivery, authenticating the callback).
"""

from __future__ import annotations

import atexit
import base64
import ipaddress
import random
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import requests

from engine import JSON, Clock, SystemClock
from engine.sandbox import Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

CERTIFICATES = "3psostorageacct.blob.core.windows.net"
LEAF, ISSUING, ROOT = "pcnotifications-dispatch.microsoft.com.cer", "sandbox-issuing.cer", "sandbox-root.cer"
ELSEWHERE = f"https://certificates.example/cert/{LEAF}"
QUEUE, OFFLINE = "partner_center.event", "partner_center.offline"
TRIES = 10
CLAIM = 60.0  # seconds that a process has for what it has taken from the queue
BATCH = 100
LONGEST_WAIT = 60.0  # seconds between two tries
IN_TIME = 10.0  # seconds for an answer
AT_EXIT = 2.0  # seconds that the process stays for posts that are under way
VALID = timedelta(days=365)
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Delivery:
    """Faults on demand, as rates from 0 to 1.

    `duplicates` posts an event once more; `forged` also posts a copy about another referral with the same signature,
    `foreign` a copy signed with another key, whose certificate lies elsewhere. `shuffle` posts what is due in any
    order. `wait` is seconds until the second try.
    """

    duplicates: float = 0.0
    forged: float = 0.0
    foreign: float = 0.0
    shuffle: bool = False
    seed: int | None = None
    wait: float = 1.0


class Post(NamedTuple):
    """One call to the hook, and the status that it was answered with (0: none)."""

    kind: Literal["event", "duplicate", "forged", "foreign"]
    event: str
    status: int


class Authority:
    """A certificate authority of the sandbox's own, and the key that it vouches for; kept in the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self._loaded: tuple[str, RSAPrivateKey] | None = None

    def certificate(self, name: str) -> bytes | None:
        """A certificate in DER, by its file's name."""
        return base64.b64decode(self._issued()[name]) if name in (LEAF, ISSUING, ROOT) else None

    def headers(self, body: bytes, header: str = "authorization") -> dict[str, str]:
        """What an event is sent with; the signature stands in `header`."""
        return _headers(self._key(), body, header, f"https://{CERTIFICATES}/cert/{LEAF}")

    def foreign_headers(self, body: bytes, header: str = "authorization") -> dict[str, str]:
        """The same by somebody else: another key, and a certificate that lies elsewhere."""
        return _headers(self._foreign, body, header, ELSEWHERE)

    def _key(self) -> RSAPrivateKey:
        from cryptography.hazmat.primitives.serialization import load_der_private_key  # noqa: PLC0415 - slow to import

        text = self._issued()["key"]
        if self._loaded is None or self._loaded[0] != text:
            key: Any = load_der_private_key(base64.b64decode(text), None)
            self._loaded = text, key
        return self._loaded[1]

    @cached_property
    def _foreign(self) -> RSAPrivateKey:
        from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key  # noqa: PLC0415

        return generate_private_key(65537, 2048)

    def _issued(self) -> Mapping[str, str]:
        """Certificates by name and the key, base64; made when first needed, and anew before they expire."""
        now = self.clock.now()
        with self.store.transaction():
            found = self.store.get("partner_center", "signing")
            if found is None or datetime.fromisoformat(found["until"]) < now + timedelta(days=1):
                found = {**_issue(now), "until": (now + VALID).isoformat()}
                self.store.put("partner_center", "signing", found)
        return found  # type: ignore[no-any-return]


class Dispatcher:
    """Posts events to the registered hook. See the module's text."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.authority = Authority(store, clock)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._idle = threading.Event()  # nothing is due now

    def queue(self, body: str, test: str = "", *, duplicate: bool = False) -> None:
        """Has a body posted. `test` is the id of the test event that it belongs to."""
        number = self.store.next_number(QUEUE)
        event = {"body": body, "test": test, "duplicate": duplicate, "attempts": 0, "due": self._now(), "claimed": 0}
        self.store.put(QUEUE, f"{number:09}", event)
        self.wake()

    def wake(self) -> None:
        """Makes sure that what waits is posted, where time passes by itself."""
        if not isinstance(self.clock, SystemClock):
            return
        with self._lock:
            self._news.set()
            self._idle.clear()
            if self._thread is None:
                atexit.unregister(self._last)
                atexit.register(self._last)
                self._thread = threading.Thread(target=self._run, name="partner-center-events", daemon=True)
                self._thread.start()

    def deliver(self) -> list[Post]:
        """Posts everything that is due, once each."""
        options = Delivery(**(self.store.get("partner_center", "delivery") or {}))
        dice, out = self._dice(options.seed), list[Post]()
        while due := self._claim(options, dice):
            for id, event in due:
                out += self._one(id, event, options, dice)
        return out

    def waiting(self) -> list[tuple[str, JSON]]:
        """What is still to be posted."""
        return self.store.all(QUEUE)

    def _run(self) -> None:
        """Until nothing waits any more."""
        try:
            while True:
                self._news.clear()
                self.deliver()
                times = [max(event["due"], event["claimed"]) for _, event in self.waiting()]
                with self._lock:
                    if not self._news.is_set():
                        self._idle.set()
                    if not times and not self._news.is_set():
                        self._thread = None
                        return
                self._news.wait(max(0.0, min(times, default=0.0) - self._now()))
        except sqlite3.Error:
            self._thread = None  # the sandbox's state is gone
            self._idle.set()

    def _last(self) -> None:
        self._idle.wait(AT_EXIT)

    def _claim(self, options: Delivery, dice: random.Random) -> list[tuple[str, Any]]:
        now = self._now()
        with self.store.transaction():
            due = [(id, e) for id, e in self.waiting() if e["due"] <= now and e["claimed"] <= now]
            if options.shuffle:
                dice.shuffle(due)
            for id, event in due[:BATCH]:
                self.store.put(QUEUE, id, {**event, "claimed": now + CLAIM})
        return due[:BATCH]

    def _one(self, id: str, event: Any, options: Delivery, dice: random.Random) -> Iterator[Post]:
        registration = self.store.get("partner_center", "webhook") or {}
        url = str(registration.get("WebhookUrl") or "")
        header = "x-ms-signature" if registration.get("SignatureTokenToMsSignatureHeader") else "authorization"
        body = event["body"].encode()
        headers = self.authority.headers(body, header)
        status, said = self._post(url, headers, body)
        self._note(id, event, status, said, options)
        yield Post("duplicate" if event["duplicate"] else "event", id, status)
        if event["duplicate"] or event["test"]:
            return
        if status // 100 == 2 and dice.random() < options.duplicates:
            self.queue(event["body"], duplicate=True)
        if dice.random() < options.forged:
            forged = GUID.sub(str(UUID(int=dice.getrandbits(128), version=4)), event["body"]).encode()
            yield Post("forged", id, self._post(url, headers, forged)[0])
        if dice.random() < options.foreign:
            yield Post("foreign", id, self._post(url, self.authority.foreign_headers(body, header), body)[0])

    def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """Status, and what went wrong where there is none."""
        try:
            near = ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback
        except ValueError:
            near = False
        if not near:
            return 0, "the sandbox posts to loopback addresses only"
        try:
            answer = self._session.post(url, data=body, headers=headers, timeout=IN_TIME, allow_redirects=False)
        except requests.RequestException as error:
            return 0, type(error).__name__
        return answer.status_code, ""

    def _note(self, id: str, event: Any, status: int, said: str, options: Delivery) -> None:
        tried, now = event["attempts"] + 1, self.clock.now()
        done = status // 100 == 2
        with self.store.transaction():
            if done or tried >= TRIES:
                self.store.delete(QUEUE, id)
                if not done:
                    self.store.put(OFFLINE, id, {**event, "attempts": tried})
            else:
                wait = min(LONGEST_WAIT, options.wait * 2 ** (tried - 1))
                later = {"attempts": tried, "due": now.timestamp() + wait, "claimed": 0}
                self.store.put(QUEUE, id, {**event, **later})
            if test := self.store.get("partner_center.test", event["test"]):
                result = {
                    "responseCode": HTTPStatus(status).phrase.replace(" ", "") if status else "",
                    "responseMessage": said,
                    "systemError": not status,
                    "dateTimeUtc": f"{now:%Y-%m-%dT%H:%M:%S.%f}0",
                }
                state = "completed" if done or tried >= TRIES else "inProgress"
                test |= {"status": state, "results": [*test["results"], result]}
                self.store.put("partner_center.test", event["test"], test)

    def _dice(self, seed: int | None) -> random.Random:
        if seed is None:
            return random.Random()  # noqa: S311 - chooses faults, guards nothing
        if seed not in self._dices:
            self._dices[seed] = random.Random(seed)  # noqa: S311
        return self._dices[seed]

    @cached_property
    def _dices(self) -> dict[int, random.Random]:
        return {}

    @cached_property
    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        return session

    def _now(self) -> float:
        return self.clock.now().timestamp()


def _headers(key: RSAPrivateKey, body: bytes, header: str, url: str) -> dict[str, str]:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    signature = base64.b64encode(key.sign(body, PKCS1v15(), SHA256())).decode()
    return {
        "Content-Type": "application/json",
        "x-ms-signature" if header == "x-ms-signature" else "Authorization": f"Signature {signature}",
        "X-MS-Certificate-Url": url,
        "X-MS-Signature-Algorithm": "rsa-sha256",
    }


def _issue(now: datetime) -> dict[str, str]:
    """A root, an issuing authority under it and under that one the signing certificate, which says where the issuing
    one lies; all as Microsoft's are made. The authorities' keys are forgotten."""
    from cryptography import x509  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID  # noqa: PLC0415

    def name(common: str) -> x509.Name:
        parts = {NameOID.COMMON_NAME: common, NameOID.ORGANIZATION_NAME: "Microsoft Corporation"}
        return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts.items()])

    def begun(subject: str, issuer: str, own: Any, issuers: Any) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(name(issuer), name(subject), own.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + VALID)
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers.public_key())
        me = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
        return builder.add_extension(by, critical=False).add_extension(me, critical=False)

    def authority(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
        uses = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "encipher_only", "decipher_only"), False)  # fmt: skip
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, **uses)
        builder = builder.add_extension(usage, critical=True)
        return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)

    root, issuing = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    own = rsa.generate_private_key(65537, 2048)
    r, i, me = "flowrun sandbox root", "flowrun sandbox issuing", LEAF.removesuffix(".cer")
    where = x509.UniformResourceIdentifier(f"http://{CERTIFICATES}/cert/{ISSUING}")
    access = x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)])
    leaf = begun(me, i, own, issuing).add_extension(access, critical=False)
    leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(me)]), critical=False)
    made = {
        ROOT: authority(begun(r, r, root, root)).sign(root, SHA256()),
        ISSUING: authority(begun(i, r, issuing, root)).sign(root, SHA256()),
        LEAF: leaf.sign(issuing, SHA256()),
    }
    key = own.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    out = {file: base64.b64encode(one.public_bytes(form.Encoding.DER)).decode() for file, one in made.items()}
    return {**out, "key": base64.b64encode(key).decode()}
