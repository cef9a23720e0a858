"""Access tokens of Microsoft Entra ID for a connection, by msal over the connection's own transport.

Grants: client credentials (secret or certificate), refresh token (Secure Application Model), device code, and for
imported flows only the password grant. Tokens are kept in memory until five minutes before they expire, msal's cache
in the connection's TokenStore. msal is imported when a token is first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from engine.contract import Context
from engine.errors import ConfigError, TransientError
from engine.types import Secret

PUBLIC_CLOUD = "https://login.microsoftonline.com"
EARLY = 300  # seconds before its end from which a token counts as expired

# AADSTS codes that a person can act on at once.
EXPLANATIONS: Mapping[str, str] = {
    "50034": "the user doesn't exist in this tenant",
    "50076": "multi-factor sign-in is demanded: run `flowrun login` and sign in with MFA",
    "50079": "multi-factor sign-in is demanded: run `flowrun login` and sign in with MFA",
    "65001": "the application has no consent: an administrator has to grant it",
    "70008": "the refresh token has expired: run `flowrun login`",
    "700016": "the client id isn't known in this tenant: check `client_id` and `tenant`",
    "700082": "the refresh token has expired: run `flowrun login`",
    "7000215": "the client secret is wrong: use the secret's value, not its id",
    "7000222": "the client secret has expired: create a new one in the app registration",
    "90002": "the tenant doesn't exist: check `tenant`",
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
    """Tokens for one application in one tenant."""

    def __init__(
        self,
        ctx: Context,
        *,
        tenant: str,
        client_id: str,
        credential: Secret | Certificate | None = None,
        authority: str = PUBLIC_CLOUD,
    ) -> None:
        self.ctx = ctx
        self.tenant = tenant
        self.client_id = client_id
        self.credential = credential
        self.authority = authority
        self.http = ctx.session.bound({urlsplit(authority).netloc})
        self._lock = threading.RLock()
        self._tokens: dict[tuple[str, str], Token] = {}
        self._msal: Any = None
        self._cache: Any = None

    def client_token(self, scope: str, *, renew: bool = False) -> Token:
        """Client credentials, RFC 6749 §4.4. `scope` is the resource followed by `/.default`."""
        return self._token(("client", scope), renew, lambda app: app.acquire_token_for_client([scope]))

    def user_token(self, scope: str, refresh_token: Secret | None, *, renew: bool = False) -> Token:
        """A token of the user behind `refresh_token`, or of the user who signed in by `flowrun login`.

        The newest refresh token wins: Entra rotates it at each use, and the rotated one is kept.
        """

        def acquire(app: Any) -> Mapping[str, Any]:
            for account in app.get_accounts():
                result = app.acquire_token_silent_with_error([scope], account, force_refresh=renew)
                if result and "access_token" in result:
                    return result  # type: ignore[no-any-return]
                if refresh_token is None and result:
                    return result  # type: ignore[no-any-return]
            if refresh_token is None:
                raise ConfigError(
                    "nobody has signed in for this connection", code="NoSignIn", hint="run `flowrun login`"
                )
            return app.acquire_token_by_refresh_token(refresh_token.reveal(), [scope])  # type: ignore[no-any-return]

        return self._token(("user", scope), renew, acquire)

    def password_token(self, scope: str, username: str, password: Secret, *, renew: bool = False) -> Token:
        """The resource owner password grant. It can't satisfy MFA; only imported flows use it."""
        return self._token(
            ("password", scope),
            renew,
            lambda app: app.acquire_token_by_username_password(username, password.reveal(), [scope]),
        )

    def device_login(self, scope: str, show: Callable[[str], None]) -> Token:
        """Device code sign-in, RFC 8628: `show` gets the sentence for the person; waits until it is done."""
        with self._lock:
            app = self._application(public=True)
            flow = app.initiate_device_flow([scope])
            if "user_code" not in flow:
                raise self._failure(flow)
            show(flow["message"])
            while True:
                # One poll a call: the wait between polls is ours, so that it follows the clock we were given.
                result = app.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
                if result.get("error") not in ("authorization_pending", "slow_down"):
                    break
                self.ctx.clock.sleep(flow.get("interval", 5) + (5 if result["error"] == "slow_down" else 0))
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
            if renew:
                self._drop_access_tokens()
            return self._keep(key, acquire(app))

    def _keep(self, key: tuple[str, str], result: Mapping[str, Any]) -> Token:
        if self._cache.has_state_changed:
            self.ctx.tokens.save(self._cache.serialize())
            self._cache.has_state_changed = False
        if "access_token" not in result:
            raise self._failure(result)
        claims = result.get("id_token_claims") or {}
        token = Token(
            Secret(str(result["access_token"])),
            self.ctx.clock.now().timestamp() + float(result.get("expires_in", 0)),
            tuple(str(result.get("scope", key[1])).split()),
            str(claims.get("preferred_username") or claims.get("oid") or self.client_id),
        )
        self._tokens[key] = token
        return token

    def _drop_access_tokens(self) -> None:
        kind = self._cache.CredentialType.ACCESS_TOKEN
        for entry in list(self._cache.search(kind)):
            self._cache.remove_at(entry)

    def _application(self, *, public: bool = False) -> Any:
        import msal

        if self._msal is not None and not public:
            return self._msal
        if self._cache is None:
            self._cache = msal.SerializableTokenCache()
            if stored := self.ctx.tokens.load():
                self._cache.deserialize(stored)
        options: dict[str, Any] = {
            "authority": f"{self.authority}/{self.tenant}",
            "http_client": self.http,
            "token_cache": self._cache,
        }
        try:
            if public or self.credential is None:
                app = msal.PublicClientApplication(self.client_id, **options)
            else:
                app = msal.ConfidentialClientApplication(
                    self.client_id, client_credential=self._client_credential(), **options
                )
        except ValueError as error:
            # msal: bad authority, tenant that discovery doesn't know, unreadable certificate key
            raise ConfigError(f"sign-in of tenant {self.tenant}: {str(error)[:300]}", code="Authority") from error
        if not public:
            self._msal = app
        return app

    def _client_credential(self) -> Any:
        if isinstance(self.credential, Certificate):
            return {"private_key": self.credential.private_key.reveal(), "thumbprint": self.credential.thumbprint}
        return self.credential.reveal() if self.credential else None

    def _failure(self, result: Mapping[str, Any]) -> ConfigError | TransientError:
        code = str(result.get("error", "no_token"))
        description = str(result.get("error_description") or "").split("\r\n")[0].split("Trace ID")[0].strip()
        numbers = [str(n) for n in result.get("error_codes") or []]
        hint = next((EXPLANATIONS[n] for n in numbers if n in EXPLANATIONS), "")
        hint = hint or next((text for n, text in EXPLANATIONS.items() if f"AADSTS{n}:" in description), "")
        if code in ("temporarily_unavailable", "server_error"):
            return TransientError(f"sign-in: {description or code}", code=code)
        return ConfigError(f"sign-in refused: {description or code}", code=code, hint=hint)


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
