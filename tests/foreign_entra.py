"""A foreign Entra ID: discovery, client credentials and refresh tokens, by Microsoft's pages on the v2.0 endpoints."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from foreign_wire import Answer, Ask, Now, refuse

LOGIN = "login.microsoftonline.com"
TENANT = "c7f3a1de-52b4-4c0e-9f3e-7a1d5e2b9a44"
DOMAIN = "fabrikam-partner.onmicrosoft.com"
USER = "integration@fabrikam-partner.onmicrosoft.com"
ALIASES = [LOGIN, "login.windows.net", "login.microsoft.com", "sts.windows.net"]
TOKEN = re.compile(rb"EwB[\w-]{48}|1\.A[\w-]{48}")  # what an access or a refresh token looks like
LIFE = 3599  # seconds, as Entra says it
# The first word of the refusal, and its status.
REFUSALS = {
    50011: ("invalid_request", 400), 65001: ("invalid_grant", 400), 70000: ("invalid_grant", 400),
    70003: ("unsupported_grant_type", 400), 70008: ("invalid_grant", 400), 70011: ("invalid_scope", 400),
    90002: ("invalid_request", 400), 90014: ("invalid_request", 400), 500011: ("invalid_resource", 400),
    700016: ("unauthorized_client", 400), 7000215: ("invalid_client", 401), 900144: ("invalid_request", 400),
}  # fmt: skip


@dataclass(frozen=True)
class Application:
    """An app registration: for which resources it may have tokens of its own, and for which ones of a user."""

    id: str
    secret: str
    own: frozenset[str] = frozenset()
    delegated: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Token:
    """An access token. `user` is empty where the application itself has signed in."""

    text: str
    resource: str
    client: str
    user: str
    mfa: bool
    expires: float


@dataclass(frozen=True)
class Refresh:
    """A refresh token; `older` are the earlier ones of the same sign-in."""

    text: str
    client: str
    mfa: bool
    older: tuple[str, ...] = ()


class SignIn:
    """The tenant's sign-in service.

    As the real one, it gives a new refresh token at each use and leaves the old ones alone; with `one_time` those
    that are older than one in use are dead (as after a person has revoked them).
    """

    def __init__(self, now: Now, applications: Mapping[str, Application], one_time: bool = False) -> None:
        self.now = now
        self.applications = applications
        self.one_time = one_time
        self.life = LIFE
        self.issued: dict[str, Token] = {}
        self.refresh_tokens: dict[str, Refresh] = {}
        self.dead: set[str] = set()

    def signed_in(self, client: str, *, mfa: bool = True) -> str:
        """A refresh token of the user, who has just signed in."""
        return self._refresh(client, mfa).text

    def valid(self, text: str, resource: str) -> Token | None:
        """The token, where it is one for this resource, and still good."""
        token = self.issued.get(text)
        if token is None or text in self.dead or token.resource != resource or token.expires <= self.now():
            return None
        return token

    def revoke_all(self) -> None:
        """Kills every access token."""
        self.dead |= self.issued.keys()

    @property
    def secrets(self) -> set[str]:
        """Every text that nobody but its owner may see."""
        return {*self.issued, *self.refresh_tokens, *(app.secret for app in self.applications.values())}

    def answer(self, ask: Ask) -> Answer:
        tenant, _, rest = ask.path.removeprefix("/").partition("/")
        if rest == "discovery/instance":
            return self._instance(ask)
        if tenant.lower() not in (TENANT, DOMAIN):
            self._refuse(90002, f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.")
        match ask.method, rest:
            case "GET", "v2.0/.well-known/openid-configuration":
                return Answer(200, self._configuration(tenant))
            case "POST", "oauth2/v2.0/token":
                return self._token(ask)
        return Answer(404, "<html><body>not found</body></html>", kind="text/html")

    def _instance(self, ask: Ask) -> Answer:
        asked = ask.query
        if asked.get("api-version") not in ("1.0", "1.1") or "authorization_endpoint" not in asked:
            self._refuse(900144, "The request must contain the following parameter: 'authorization_endpoint'.")
        if not any(asked["authorization_endpoint"].startswith(f"https://{alias}/") for alias in ALIASES):
            self._refuse(50011, "Unknown or invalid instance.")
        here = f"https://{LOGIN}/{TENANT}/v2.0/.well-known/openid-configuration"
        metadata = [{"preferred_network": LOGIN, "preferred_cache": "login.windows.net", "aliases": ALIASES}]
        return Answer(200, {"tenant_discovery_endpoint": here, "api-version": "1.1", "metadata": metadata})

    def _configuration(self, tenant: str) -> dict[str, Any]:
        base = f"https://{LOGIN}/{tenant}"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"https://{LOGIN}/{TENANT}/v2.0",
            "request_uri_parameter_supported": False,
            "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "http_logout_supported": True,
            "frontchannel_logout_supported": True,
            "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "preferred_username", "name", "tid", "ver"],
            "kerberos_endpoint": f"{base}/kerberos",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
            "cloud_graph_host_name": "graph.windows.net",
            "msgraph_host": "graph.microsoft.com",
            "rbac_url": "https://pas.windows.net",
        }

    def _token(self, ask: Ask) -> Answer:
        if ask.header("Content-Type").partition(";")[0] != "application/x-www-form-urlencoded":
            self._refuse(900144, "The request body must contain the following parameter: 'grant_type'.")
        form = dict(parse_qsl(ask.body.decode(), keep_blank_values=True, strict_parsing=True))
        for name in ("client_id", "grant_type", "scope"):
            if not form.get(name):
                self._refuse(900144, f"The request body must contain the following parameter: '{name}'.")
        app = self.applications.get(form["client_id"].lower())
        if app is None:
            self._refuse(700016, f"Application with identifier '{form['client_id']}' was not found in the directory.")
        if form.get("client_secret") != app.secret:
            self._refuse(7000215, "Invalid client secret provided. Ensure the secret being sent is the secret value.")
        resources = [s.removesuffix("/.default") for s in form["scope"].split() if s.endswith("/.default")]
        if len(resources) != 1:
            self._refuse(70011, f"The provided value for the input parameter 'scope' is not valid: {form['scope']}")
        if form["grant_type"] not in ("client_credentials", "refresh_token"):
            self._refuse(70003, f"The app requested an unsupported grant type '{form['grant_type']}'.")
        if form["grant_type"] == "client_credentials":
            if form["scope"] != f"{resources[0]}/.default":
                self._refuse(70011, "The scope of client credentials is the resource and /.default alone.")
            if resources[0] not in app.own:
                self._refuse(500011, f"The resource principal named {resources[0]} was not found in the tenant.")
            return self._grant(app, resources[0], None, form)
        known = self.refresh_tokens.get(form.get("refresh_token", ""))
        if known is None or known.client != app.id:
            self._refuse(70000, "The provided value for the input parameter 'refresh_token' is not valid.")
        if known.text in self.dead:
            self._refuse(70008, "The provided authorization code or refresh token has expired due to inactivity.")
        if resources[0] not in app.delegated:
            self._refuse(65001, f"The user or administrator has not consented to use {resources[0]}.")
        if self.one_time:
            self.dead |= {*known.older}
        return self._grant(app, resources[0], known, form)

    def _grant(self, app: Application, resource: str, known: Refresh | None, form: Mapping[str, str]) -> Answer:
        user, mfa = (USER, known.mfa) if known else ("", False)
        text = f"EwB{secrets.token_urlsafe(36)}"  # a client may not look into an access token
        self.issued[text] = Token(text, resource, app.id, user, mfa, self.now() + self.life)
        scope = f"{resource}/user_impersonation {resource}/.default" if user else form["scope"]
        body: dict[str, Any] = {"token_type": "Bearer", "expires_in": self.life, "ext_expires_in": self.life}
        body |= {"access_token": text}
        if known:
            asked = form["scope"].split()
            body["scope"] = scope
            if "offline_access" in asked:
                body["refresh_token"] = self._refresh(app.id, known.mfa, (*known.older, known.text)).text
            if "openid" in asked:
                body["id_token"] = _signed(self._id_claims(app))
            if form.get("client_info") == "1":
                body["client_info"] = _base64({"uid": _uuid("user"), "utid": TENANT})
        return Answer(200, body, {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"})

    def _id_claims(self, app: Application) -> dict[str, Any]:
        now = int(time.time())  # libraries look at an id token with the machine's clock
        return {
            "aud": app.id, "iss": f"https://{LOGIN}/{TENANT}/v2.0", "iat": now, "nbf": now, "exp": now + LIFE,
            "name": "Integration", "oid": _uuid("user"), "preferred_username": USER, "sub": _uuid("sub"),
            "tid": TENANT, "ver": "2.0",
        }  # fmt: skip

    def _refresh(self, client: str, mfa: bool, older: tuple[str, ...] = ()) -> Refresh:
        made = Refresh(f"1.A{secrets.token_urlsafe(36)}", client, mfa, older)
        self.refresh_tokens[made.text] = made
        return made

    def _refuse(self, number: int, text: str) -> NoReturn:
        word, status = REFUSALS[number]
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self.now()))
        said = f"AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"
        body = {"error": word, "error_description": said, "error_codes": [number], "timestamp": at}
        body |= {"trace_id": trace, "correlation_id": correlation}
        refuse(status, {**body, "error_uri": f"https://{LOGIN}/error?code={number}"})


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{DOMAIN}"))


def _base64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _signed(claims: Mapping[str, Any]) -> str:
    """A JWT by its looks; its signature says nothing to anyone but us."""
    return f"{_base64({'typ': 'JWT', 'alg': 'RS256', 'kid': 'foreign'})}.{_base64(claims)}.{secrets.token_urlsafe(30)}"
