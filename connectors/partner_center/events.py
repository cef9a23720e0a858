"""Partner Center's webhook events: a pointer to a referral, in several spellings, made into one form. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from urllib.parse import urlsplit

from engine import JSON, DataError, Event, RemoteError

EVENTS = (
    "referral-created",
    "referral-updated",
    "related-referral-created",
    "related-referral-updated",
    "test-created",
)
HOSTS = frozenset({"api.partner.microsoft.com", "api.partnercenter.microsoft.com"})
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
PATH = re.compile(r"/(?:v1(?:\.0)?/engagements|engagements/v1(?:\.0)?)/referrals/([^/]+)/?", re.IGNORECASE)
FRACTION = re.compile(r"\.(\d+)")
NAMES = {
    name.lower(): name for name in ("eventName", "resourceUri", "resourceName", "auditUri", "resourceChangeUtcDate")
}


def referral_id(resource: str) -> str:
    """The id, in lower case, of the referral that an event's ResourceUri (or an id) names. Raises DataError.

    Both forms are read: /v1.0/engagements/referrals/ID on api.partner.microsoft.com and /engagements/v1/referrals/ID on
    api.partnercenter.microsoft.com.
    """
    text = resource.strip() if isinstance(resource, str) else ""
    if GUID.fullmatch(text):
        return text.lower()
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in ("http", "https") or (url.hostname or "") not in HOSTS or "@" in url.netloc:
        raise DataError(f"'{text[:200]}' isn't a referral on {' or '.join(sorted(HOSTS))}", code="ResourceUri")
    match = PATH.fullmatch(url.path)
    if match is None or port not in (None, 80, 443):
        raise DataError(f"'{text[:200]}' isn't the address of a referral", code="ResourceUri")
    if not GUID.fullmatch(match[1]):
        raise DataError(f"'{match[1][:80]}' is no referral id: they are GUIDs", code="ReferralId")
    return match[1].lower()


def events(body: bytes) -> list[Event]:
    """The events in a call's body: one object, or a list of them. Raises RemoteError with status 400."""
    try:
        sent = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise RemoteError("the event isn't JSON in UTF-8", code="BadEvent", status=400) from None
    return [_event(item) for item in (sent if isinstance(sent, list) else [sent])]


def _event(item: JSON) -> Event:
    if not isinstance(item, dict):
        raise RemoteError("the event isn't a JSON object", code="BadEvent", status=400)
    data = {NAMES.get(str(key).lower(), str(key)): value for key, value in item.items()}
    missing = [
        name
        for name in ("eventName", "resourceUri", "resourceChangeUtcDate")
        if not isinstance(data.get(name), str) or not data[name].strip()
    ]
    if missing:
        raise RemoteError(f"the event has no {', no '.join(missing)}", code="BadEvent", status=400)
    name = data["eventName"].strip().lower()
    try:
        subject = _subject(name, data["resourceUri"])
        time = _time(data["resourceChangeUtcDate"].strip())
    except DataError as error:
        raise RemoteError(f"the event can't be used: {error.message}", code=error.code, status=400) from None
    key = hashlib.sha256("\n".join((name, subject, time)).encode()).hexdigest()[:32]
    return Event(key, subject, name, time, data)


def _subject(name: str, resource: str) -> str:
    """The referral's id. Of an event about something else, which nobody here can ask for, the end of its address.

    A test-created event names a resource of the webhook service itself, which stands for nothing.
    """
    if name == "test-created":
        return "test"
    if name.startswith(("referral-", "related-referral-")):
        return referral_id(resource)
    return resource.strip().rstrip("/").rpartition("/")[2][:200]


def _time(text: str) -> str:
    """RFC 3339 in UTC with all digits of the fraction that say something (Microsoft sends seven, Python keeps six)."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"'{text[:60]}' is no time", code="Time") from None
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    found = FRACTION.search(text)
    fraction = found[1].rstrip("0") if found else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"
