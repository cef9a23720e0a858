"""Access tokens of Microsoft Entra ID for a connection, by msal over the connection's own transport.

Grants: client credentials (secret or certificate), refresh token (Secure Application Model), device code, and for
imported flows only the password grant. Tokens are kept in memory until five minutes before they expire, msal's cache
in the connection's TokenStore. msal is imported when a token is first needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from engine.contract import Context, retry_after
from engine.errors import ConfigError, FlowrunError, TransientError
from engine.types import Secret

if TYPE_CHECKING:
    from requests import Response

    from engine.connections.session import Session

PUBLIC_CLOUD = "https://login.microsoftonline.com"
EARLY = 300  # seconds before its end from which a token counts as expired

_MFA = "multi-factor sign-in is demanded: run `flowrun login` and sign in with MFA"
_EXPIRED = "the refresh token has expired or was revoked: run `flowrun login`, or put a new one into `refresh_token`"
# AADSTS codes that a person can act on at once.
EXPLANATIONS: Mapping[str, str] = {
    "50034": "the user doesn't exist in this tenant",
    "50076": _MFA,
    "50079": _MFA,
    "50126": "user name or password is wrong",
    "50173": _EXPIRED,
    "53003": "a Conditional Access policy blocks this sign-in: an administrator has to allow it",
    "65001": "the application has no consent: an administrator has to grant it",
    "70000": "the refresh token isn't valid for this client: check `refresh_token` and `client_id`",
    "70008": _EXPIRED,
    "70020": "the code wasn't confirmed in time: run `flowrun login` again",
    "500011": "the service isn't known in this tenant: check the connection's URL and the application's permissions",
    "501051": "the application has no role for this service: it needs a signed-in user, or an administrator's grant",
    "700016": "the client id isn't known in this tenant: check `client_id` and `tenant`",
    "700027": "the certificate isn't registered for this application: check `thumbprint` and the private key",
    "700082": _EXPIRED,
    "900023": "the tenant must be a GUID or a domain: check `tenant`",
    "7000215": "the client secret is wrong: use the secret's value, not its id",
    "7000218": "give a `client_secret`, or turn on 'Allow public client flows' in the app registration",
    "7000222": "the client secret has expired: create a new one in the app registration",
    "90002": "the tenant doesn't exist: check `tenant`",
    "9002313": "what `refresh_token` holds is no refresh token: check it",
    "900421": "the sign-in behind this token was made without MFA: run `flowrun login` with an account that has MFA",
}


@dataclass(frozen=True)
class Certificate:
    """A certificate credential: the private key (PEM) and the certificate's SHA-1 thumbprint in hex."""

    private_key: Secret
    thumbprint: str


@dataclass(frozen=True)
class Token:
    """An access token; `expires_at` is Unix seconds."""

    access_token: Secret
    expires_at: float
    scopes: tuple[str, ...]
    account: str


class Entra:
    """Tokens for one application in one tenant.

    `refresh_token` is where a user's sign-in begins; from then on the store has the newest. A store that began with
    another one, or for another application, is forgotten.
    """

    def __init__(
        self,
        ctx: Context,
        *,
        tenant: str,
        client_id: str,
        credential: Secret | Certificate | None = None,
        refresh_token: Secret | None = None,
        authority: str = PUBLIC_CLOUD,
    ) -> None:
        self.ctx = ctx
        self.tenant = tenant
        self.client_id = client_id
        self.credential = credential
        self.refresh_token = refresh_token
        self.authority = authority.rstrip("/")
        origin = (self.authority, tenant, client_id, refresh_token.reveal() if refresh_token else "")
        self._origin = hashlib.sha256("\n".join(origin).encode()).hexdigest()
        self._wire = _Wire(ctx.session.bound({urlsplit(authority).netloc}))
        self._lock = threading.RLock()
        self._tokens: dict[tuple[str, str], Token] = {}
        self._stored: str | None = None
        self._msal: Any = None
        self._cache: Any = None

    def client_token(self, scope: str, *, renew: bool = False) -> Token:
        """Client credentials, RFC 6749 §4.4. `scope` is the resource followed by `/.default`."""
        if not self.credential:
            raise ConfigError("signing in as an application needs a client secret or certificate", code="NoCredential")
        return self._token(("client", scope), renew, lambda app: app.acquire_token_for_client([scope]))

    def user_token(self, scope: str, *, renew: bool = False) -> Token:
        """A token of the user who signed in by `flowrun login`, or of the one behind `refresh_token`.

        The newest refresh token wins: Entra rotates it at each use, and the rotated one is kept.
        """

        def acquire(app: Any) -> Mapping[str, Any]:
            refused: Mapping[str, Any] | None = None
            for account in app.get_accounts():
                result = app.acquire_token_silent_with_error([scope], account)
                if result and "access_token" in result:
                    return {**result, "username": account["username"]}
                refused = result or refused
            if self.refresh_token:
                return app.acquire_token_by_refresh_token(self.refresh_token.reveal(), [scope])  # type: ignore[no-any-return]
            if refused:
                return refused
            raise ConfigError("nobody has signed in for this connection", code="NoSignIn", hint="run `flowrun login`")

        return self._token(("user", scope), renew, acquire)

    def password_token(self, scope: str, username: str, password: Secret, *, renew: bool = False) -> Token:
        """The resource owner password grant. It can't satisfy MFA; only imported flows use it."""
        return self._token(
            ("password", scope),
            renew,
            lambda app: app.acquire_token_by_username_password(username, password.reveal(), [scope]),
        )

    def device_login(self, scope: str, show: Callable[[str], None]) -> Token:
        """Device code sign-in, RFC 8628: `show` gets the sentence for the person; waits until it is done.

        Who signs in replaces whoever had signed in before.
        """
        clock = self.ctx.clock
        with self._lock:
            app = self._application(public=True)
            with self.ctx.tokens.lock():
                self._take_over()
            with _in_words():
                flow = app.initiate_device_flow([scope])
            if "user_code" not in flow:
                raise _refusal(flow)
            show(str(flow["message"]))
            end = clock.monotonic() + flow["expires_in"]
            while True:
                flow.pop("latest_attempt_at", None)  # msal would warn by the machine's clock
                try:
                    with _in_words():  # one poll a call: the wait between polls follows the clock we were given
                        result = app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
                except TransientError:
                    if clock.monotonic() > end:
                        raise
                    result = {"error": "slow_down"}
                if result.get("error") not in ("authorization_pending", "slow_down"):
                    break
                clock.sleep(flow["interval"])
            name = (result.get("id_token_claims") or {}).get("preferred_username")
            for account in app.get_accounts() if "access_token" in result else ():
                if account["username"] != name:
                    app.remove_account(account)
            with self.ctx.tokens.lock():
                return self._keep(("user", scope), result)

    def authorizer(self, token: Callable[[bool], Token]) -> Callable[[bool], dict[str, str]]:
        """For Session.request(authorize=…): the bearer header (RFC 6750 §2.1) out of a token."""
        return lambda renew: {"Authorization": f"Bearer {token(renew).access_token.reveal()}"}

    def _token(self, key: tuple[str, str], renew: bool, acquire: Callable[[Any], Mapping[str, Any]]) -> Token:
        kept = self._tokens.get(key)
        if kept and not renew and kept.expires_at - EARLY > self.ctx.clock.now().timestamp():
            return kept
        with self._lock, self.ctx.tokens.lock():
            newer = self._tokens.get(key)
            if newer is not None and newer is not kept:
                return newer
            app = self._application()
            self._take_over()
            if renew or kept:  # msal judges age by the machine's clock, and knows no refusal
                self._drop_access_tokens()
            with _in_words():
                result = acquire(app)
            return self._keep(key, result)

    def _keep(self, key: tuple[str, str], result: Mapping[str, Any]) -> Token:
        if self._cache.has_state_changed:
            self._stored = json.dumps({"origin": self._origin, "cache": self._cache.serialize()})
            self.ctx.tokens.save(self._stored)
        if "access_token" not in result:
            raise _refusal(result)
        claims = result.get("id_token_claims") or {}
        account = result.get("username") or claims.get("preferred_username") or claims.get("oid")
        with _in_words():
            token = Token(
                self._hidden(result["access_token"]),
                self.ctx.clock.now().timestamp() + float(result.get("expires_in", 0)),
                tuple(str(result.get("scope", key[1])).split()),
                str(account or self.client_id),
            )
        self._tokens[key] = token
        return token

    def _take_over(self) -> None:
        """Takes what another process, or an earlier one, has stored since we last looked."""
        stored = self.ctx.tokens.load()
        if stored == self._stored:
            return
        try:
            kept = json.loads(stored or "{}")
            self._cache.deserialize(kept["cache"] if kept.get("origin") == self._origin else None)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._cache.deserialize(None)  # not ours to read: sign in anew
        self._stored = stored

    def _hidden(self, token: object) -> Secret:
        self.ctx.session.hide(str(token))
        return Secret(str(token))

    def _drop_access_tokens(self) -> None:
        kind = self._cache.CredentialType.ACCESS_TOKEN
        for entry in list(self._cache.search(kind)):
            self._cache.remove_at(entry)

    def _application(self, *, public: bool = False) -> Any:
        import msal

        if self._msal is not None and not public:
            return self._msal
        if self._cache is None:
            logging.getLogger("msal").setLevel(logging.WARNING)  # below that it prints answers
            self._cache = msal.SerializableTokenCache()
        options: dict[str, Any] = {
            "authority": f"{self.authority}/{self.tenant}",
            "http_client": self._wire,
            "token_cache": self._cache,
            "instance_discovery": False,  # the authority is configured, not taken from an answer
        }
        try:
            with _in_words(ValueError):
                if public or not self.credential:
                    app = msal.PublicClientApplication(self.client_id, **options)
                else:
                    credential = self._client_credential()
                    app = msal.ConfidentialClientApplication(self.client_id, client_credential=credential, **options)
        except ValueError:
            raise ConfigError(
                f"sign-in: {self.authority}/{self.tenant} can't be used",
                code="Authority",
                hint="check `tenant` and `authority`",
            ) from None
        if not public:
            self._msal = app
        return app

    def _client_credential(self) -> Any:
        if not isinstance(self.credential, Certificate):
            return self.credential.reveal() if self.credential else None
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        pem, thumbprint = self.credential.private_key.reveal(), self.credential.thumbprint
        try:
            load_pem_private_key(pem.encode(), None)
            thumbprint = bytes.fromhex(thumbprint.replace(":", "")).hex()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigError(
                "sign-in: the certificate's private key or thumbprint can't be read",
                code="Certificate",
                hint="the key is PEM without a passphrase, the thumbprint SHA-1 in hex",
            ) from None
        return {"private_key": pem, "thumbprint": thumbprint}


class _Wire:
    """The http_client that msal asks for. What msal would raise raw or log whole ends here as an error of ours."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, url: str, **options: Any) -> Response:
        answer = self._ask("GET", url, options)
        if 400 <= answer.status_code < 500 and answer.status_code != 404:
            raise _refusal(answer.json())
        return answer

    def post(self, url: str, **options: Any) -> Response:
        return self._ask("POST", url, options)

    def close(self) -> None:
        """The session belongs to the connection."""

    def _ask(self, method: str, url: str, options: dict[str, Any]) -> Response:
        host = urlsplit(url).hostname
        try:
            answer = self.session.request(method, url, **{**options, "read": True})
        except TransientError as error:
            error.answer_lost = False  # a token may be asked for again, whatever it is wanted for
            raise
        status = answer.status_code
        if status in (408, 425, 429) or status >= 500:
            wait = retry_after(answer.headers.get("Retry-After"), self.session.clock.now())
            raise TransientError(
                f"sign-in: {host} answered {status}", code=str(status), status=status, retry_after=wait
            )
        try:
            readable = isinstance(answer.json(), dict)
        except ValueError:
            readable = False
        if not readable and not (status == 404 and "/userrealm/" in url):  # 404 there: nobody's realm
            kind = ConfigError if status >= 400 else TransientError
            raise kind(f"sign-in: {host} answered {status} with no JSON object", code="Malformed", status=status)
        return answer


@contextmanager
def _in_words(passed: type[Exception] = FlowrunError) -> Iterator[None]:
    """Around msal: an answer that it stumbles over is quoted in no error, for it may hold a token."""
    try:
        yield
    except (FlowrunError, passed):
        raise
    except Exception as error:  # noqa: BLE001 - msal raises whatever an odd answer leads to
        raise TransientError(f"sign-in: the answer makes no sense ({type(error).__name__})", code="Malformed") from None


def _refusal(result: Mapping[str, Any]) -> ConfigError | TransientError:
    code = str(result.get("error") or "NoToken")
    description = str(result.get("error_description") or "").split("\r\n")[0].split("Trace ID")[0].strip()
    description = description or str(result.get("error") or "the answer holds no token")
    codes = result.get("error_codes")
    numbers = [str(n) for n in codes] if isinstance(codes, list) else []
    hint = next((EXPLANATIONS[n] for n in numbers if n in EXPLANATIONS), "")
    hint = hint or next((text for n, text in EXPLANATIONS.items() if f"AADSTS{n}:" in description), "")
    if code in ("temporarily_unavailable", "server_error"):
        return TransientError(f"sign-in: {description}", code=code)
    return ConfigError(f"sign-in refused: {description}", code=code, hint=hint)


class MemoryTokens:
    """A TokenStore that ends with the process."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._lock = threading.RLock()

    def load(self) -> str | None:
        return self._text

    def save(self, text: str) -> None:
        self._text = text

    def lock(self) -> threading.RLock:
        return self._lock
