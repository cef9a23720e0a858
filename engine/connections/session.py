"""HTTP for connectors: one `requests` stack that binds credentials to the hosts a connection names.

No environment (`trust_env` off: proxy and CA are settings), no request to a host that isn't listed, no redirect to
another origin, no private address that isn't listed, a total deadline also while streaming, a size limit, and before
each request that isn't a read the question whether the step is still wanted. Errors are those of engine.errors.
"""

from __future__ import annotations

import io
import ipaddress
import json as jsonlib
import logging
import math
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import Retry, connection, connectionpool
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as UrllibTimeout

from engine.connections.limits import Limiter, Limits
from engine.contract import CURRENT_CALL, Clock
from engine.errors import ConfigError, FlowrunError, RemoteError, TransientError

READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CLEAN_URL = re.compile(r"https?://[a-z0-9.:-]+/[A-Za-z0-9/._~()'=,;%&$?-]*")
BOM = b"\xef\xbb\xbf"  # some services begin their JSON with it
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Masking(Protocol):
    """Knows secrets and replaces them in texts."""

    def __call__(self, text: str) -> str: ...
    def add(self, secret: str, *, passing: bool = False) -> None: ...


class NoMask:
    """For sessions that hold no secrets of a project (tests)."""

    def __call__(self, text: str) -> str:
        return text

    def add(self, secret: str, *, passing: bool = False) -> None:
        pass


@dataclass(frozen=True)
class Transport:
    """How a connection reaches the network.

    `mounted` answers a host by an adapter of its own (the sandbox's emulators), `route` by a loopback server;
    `timeout` is seconds for one request; `max_bytes` bounds an answer; `private` lists hosts that may resolve to a
    private address; `limits` are kept for the connection's own hosts. What a refusing answer (400 and above) quotes of
    known secrets is masked before anyone reads it.
    """

    mounted: Mapping[str, BaseAdapter] = field(default_factory=dict)
    route: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = None
    ca: str | None = None
    private: frozenset[str] = frozenset()
    timeout: float = 120.0
    max_bytes: int = 100 * 1024 * 1024
    limits: Limits = field(default_factory=Limits)
    mask: Masking = field(default_factory=NoMask)


class Session:
    """Requests of one connection. Safe for several threads; connections are kept alive between calls."""

    def __init__(self, hosts: Iterable[str], transport: Transport, clock: Clock, log: logging.Logger) -> None:
        self.hosts = frozenset(h.lower() for h in hosts)
        self.transport = transport
        self.clock = clock
        self.log = log
        self._adapters: dict[str, BaseAdapter] = {}
        self._limiter = Limiter(transport.limits, clock) if transport.limits != Limits() else None

    def bound(self, hosts: Iterable[str]) -> Session:
        """The same transport and connections, bound to other hosts (a token service's, say), without its limits."""
        other = Session(hosts, replace(self.transport, limits=Limits()), self.clock, self.log)
        other._adapters = self._adapters
        return other

    def hide(self, secret: str) -> None:
        """Makes a secret known that came by the wire (an access token), so that no log or error shows it."""
        self.transport.mask.add(secret, passing=True)

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: Any = None,
        timeout: float | None = None,
        read: bool | None = None,
        authorize: Callable[[bool], Mapping[str, str]] | None = None,
        **_: Any,
    ) -> requests.Response:
        """One request, whole answer; any status is an answer.

        `read`: it changes nothing on the other side (default: by method). `authorize(renew)` gives the headers that
        carry the credential; after a 401 it is asked once more with renew=True and the request repeated.
        Raises ConfigError (host not allowed), RemoteError (redirect away, answer too large), TransientError (network,
        deadline; `answer_lost` when the request may have arrived; code Stale when the step is no longer wanted).
        """
        read = method.upper() in READ_METHODS if read is None else read
        sent = CaseInsensitiveDict(headers or {})
        sent.setdefault("Accept", "application/json")
        if json is not None:
            data = jsonlib.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            sent.setdefault("Content-Type", "application/json")
        prepared = requests.PreparedRequest()
        prepared.prepare_method(method)
        if CLEAN_URL.fullmatch(url):  # nothing that requests would have to quote
            prepared.url = f"{url}{'&' if '?' in url else '?'}{urlencode(params)}" if params else url
        else:
            prepared.prepare_url(url, dict(params) if params else None)
        prepared.headers = sent
        prepared.prepare_body(data, None)
        prepared.hooks = {}
        if authorize is None:
            return self._follow(prepared, timeout, read)
        sent.update(authorize(False))
        answer = self._follow(prepared, timeout, read)
        if answer.status_code == 401:
            sent.update(authorize(True))
            answer = self._follow(prepared, timeout, read)
        return answer

    def get(self, url: str, **options: Any) -> requests.Response:
        """A GET; with `post` and `close`, what msal asks of its http_client."""
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> requests.Response:
        return self.request("POST", url, **options)

    def close(self) -> None:
        for adapter in self._adapters.values():
            adapter.close()

    def _follow(self, prepared: requests.PreparedRequest, timeout: float | None, read: bool) -> requests.Response:
        for _ in range(6):
            answer = self._send(prepared, timeout, read)
            location = answer.headers.get("Location")
            if answer.status_code not in REDIRECTS or not location or not read:
                return answer
            target = urljoin(prepared.url or "", location)
            if urlsplit(target)[:2] != urlsplit(prepared.url or "")[:2]:
                host = urlsplit(target).netloc
                raise RemoteError(
                    f"redirect from {urlsplit(prepared.url or '').netloc} to {host} refused", code="Redirect"
                )
            prepared.prepare_url(target, None)
        raise RemoteError("more than 5 redirects", code="Redirect")

    def _send(self, prepared: requests.PreparedRequest, timeout: float | None, read: bool) -> requests.Response:
        if self._limiter is None:
            return self._send_now(prepared, timeout, read)
        deadline = CURRENT_CALL.get().deadline
        with self._limiter.turn(math.inf if deadline is None else deadline - self.clock.monotonic()):
            return self._send_now(prepared, timeout, read)

    def _send_now(self, prepared: requests.PreparedRequest, timeout: float | None, read: bool) -> requests.Response:
        call = CURRENT_CALL.get()
        parts = urlsplit(prepared.url or "")
        host = parts.netloc.lower()
        adapter = self._adapter(parts.scheme, host)
        limit = min(timeout or self.transport.timeout, self.transport.timeout)
        if call.deadline is not None:
            limit = min(limit, call.deadline - self.clock.monotonic())
            if limit <= 0:
                raise TransientError("the step's time is up", code="Timeout")
        if not read and call.planning:
            raise ConfigError("a plan changes nothing: nothing was sent", code="Planning")
        if not read and not call.wanted():
            raise TransientError("the step is no longer wanted: nothing was sent", code="Stale")
        end = self.clock.monotonic() + limit
        proxies = {parts.scheme: self.transport.proxy} if self.transport.proxy else {}
        try:
            answer = adapter.send(
                prepared,
                stream=True,
                timeout=(min(limit, 10), limit),
                verify=self.transport.ca or True,
                proxies=proxies,
            )
        except requests.ConnectTimeout as error:
            raise TransientError(f"{host} can't be reached: no connection in time", code="ConnectTimeout") from error
        except requests.Timeout as error:
            raise TransientError(f"{host} gave no answer in time", code="Timeout", answer_lost=True) from error
        except (requests.RequestException, HTTPError, OSError) as error:
            raise _connection_error(host, error) from error
        t = self.transport
        content = self._read(answer, end, host)
        if answer.status_code >= 400 and content:
            content = t.mask(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        json = "json" in answer.headers.get("Content-Type", "")
        answer._content = content.removeprefix(BOM) if json else content
        return answer

    def _read(self, answer: requests.Response, end: float, host: str) -> bytes:
        raw = answer.raw
        if isinstance(raw, io.BytesIO):
            return raw.getvalue()
        chunks, size = [], 0
        try:
            while chunk := raw.read1(65536, decode_content=True):
                size += len(chunk)
                if size > self.transport.max_bytes:
                    raise RemoteError(f"{host} answered more than {self.transport.max_bytes} bytes", code="TooLarge")
                if self.clock.monotonic() > end:
                    raise TransientError(f"{host} didn't finish its answer in time", code="Timeout", answer_lost=True)
                chunks.append(chunk)
            raw.release_conn()
        except (UrllibTimeout, TimeoutError) as error:
            raise TransientError(
                f"{host} didn't finish its answer in time", code="Timeout", answer_lost=True
            ) from error
        except (HTTPError, OSError) as error:
            raise TransientError(f"{host} broke off its answer", code="Broken", answer_lost=True) from error
        finally:
            if not raw.isclosed():
                answer.close()
        return b"".join(chunks)

    def _adapter(self, scheme: str, host: str) -> BaseAdapter:
        if host not in self.hosts:
            raise ConfigError(
                f"request to {host or 'no host'} refused: this connection may reach "
                f"{', '.join(sorted(self.hosts)) or 'nothing'}",
                code="HostRefused",
                hint="add it to the connection's `hosts` if it belongs there",
            )
        if found := self._adapters.get(f"{scheme}://{host}"):
            return found
        t = self.transport
        adapter = t.mounted.get(host) or (RouteAdapter(t.route[host]) if host in t.route else None)
        if adapter is None:
            if scheme != "https" and not is_loopback(host):
                raise ConfigError(f"{scheme}://{host} refused: plain http goes to loopback only", code="PlainHttp")
            if t.mounted and not is_loopback(host):
                raise ConfigError(
                    f"the sandbox has no emulator for {host}", code="NoEmulator", hint="use another --env"
                )
            adapter = GuardedAdapter(private=host in t.private or is_loopback(host) or bool(t.proxy))
        self._adapters[f"{scheme}://{host}"] = adapter
        return adapter


def _connection_error(host: str, error: BaseException) -> FlowrunError:
    chain: BaseException | None = error
    text = ""
    while chain is not None:
        if isinstance(chain, ConnectionRefusedError | socket.gaierror):
            return TransientError(f"{host} can't be reached: {chain.strerror or chain}", code="Unreachable")
        if isinstance(chain, PrivateAddressError):
            return ConfigError(str(chain), code="PrivateAddress", hint="list the host under `private` if this is meant")
        text = str(chain) or text
        reason = getattr(chain, "reason", None)
        chain = chain.__cause__ or chain.__context__ or (reason if isinstance(reason, BaseException) else None)
    if isinstance(error, requests.exceptions.SSLError):
        return ConfigError(f"{host}: its certificate is not trusted", code="Certificate", hint="see the `ca` setting")
    return TransientError(f"the connection to {host} broke: {type(error).__name__}", code="Reset", answer_lost=True)


def is_loopback(host: str) -> bool:
    """Whether a host[:port] is a loopback literal (127.0.0.0/8 or [::1])."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class PrivateAddressError(OSError):
    """The name led to an address that isn't public."""


class _Guard:
    private_allowed = False

    def _new_conn(self) -> socket.socket:
        sock: socket.socket = super()._new_conn()  # type: ignore[misc]
        peer = sock.getpeername()[0]
        if not self.private_allowed and not ipaddress.ip_address(peer.split("%")[0]).is_global:
            sock.close()
            raise PrivateAddressError(f"{self.host} leads to the private address {peer}: refused")  # type: ignore[attr-defined]
        return sock


class _GuardedHTTPS(_Guard, connection.HTTPSConnection):
    pass


class _GuardedHTTP(_Guard, connection.HTTPConnection):
    pass


class _GuardedHTTPSPool(connectionpool.HTTPSConnectionPool):
    ConnectionCls = _GuardedHTTPS


class _GuardedHTTPPool(connectionpool.HTTPConnectionPool):
    ConnectionCls = _GuardedHTTP


class GuardedAdapter(HTTPAdapter):
    """Requests to one host. Looks at the address that was really connected to, before a byte is sent."""

    def __init__(self, *, private: bool) -> None:
        super().__init__(max_retries=Retry(0, read=False), pool_maxsize=32)
        self._pool: Any = None
        if not private:
            self.poolmanager.pool_classes_by_scheme = {"http": _GuardedHTTPPool, "https": _GuardedHTTPSPool}

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        """The one pool: looked up once, since host, proxy and CA are the same at every request."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        super().close()


class RouteAdapter(HTTPAdapter):
    """Sends requests for a real host name to a loopback server, which sees the name in Host."""

    def __init__(self, base: str) -> None:
        super().__init__(max_retries=Retry(0, read=False), pool_maxsize=32)
        self._pool = self.poolmanager.connection_from_url(base)

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to verify on loopback."""

    def add_headers(self, request: requests.PreparedRequest, **_: Any) -> None:
        request.headers["Host"] = urlsplit(request.url or "").netloc
        request.headers["X-Forwarded-Proto"] = urlsplit(request.url or "").scheme
