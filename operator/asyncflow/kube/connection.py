"""The connection to the API server: address, TLS, credentials, and HTTP sessions."""

import logging
import math
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes import config as kubeconfig
from kubernetes.client import Configuration

logger = logging.getLogger(__name__)

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
USER_AGENT = "asyncflow"

TOKEN_SECONDS = 10.0
"""How long a token is cached: loading it costs as much CPU as the rest of a request."""


class ConnectionFailed(Exception):
    """No API server is configured, or no credentials are available; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of one request, in seconds."""

    total: float = 30
    connect: float = 5


class Connection:
    """The connection to one API server: a shared HTTP session, and further ones for kopf.

    The bearer token is reloaded every `TOKEN_SECONDS` by the hook of the configuration; the kubelet renews
    the file of a projected token long before the token expires. A closed shared session is replaced at its
    next use.

    Args:
        settings: the configuration of the Kubernetes client, as loaded by `connect`.
        timeouts: the timeouts of a read request.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        settings: Configuration,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._timeouts = timeouts or Timeouts()
        self._session: aiohttp.ClientSession | None = None
        self._tls = _tls_context(settings)
        self._clock = clock
        self._auth_headers: Mapping[str, str] = {}
        self._auth_headers_until = -math.inf

    @property
    def server(self) -> str:
        """The base URL of the API server."""
        return str(self._settings.host).rstrip("/")

    @property
    def read_timeout(self) -> aiohttp.ClientTimeout:
        """The timeout of a read request."""
        return aiohttp.ClientTimeout(total=self._timeouts.total, sock_connect=self._timeouts.connect)

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared session; its users add `auth_headers` to each request. Needs a running event loop."""
        if self._session is None or self._session.closed:
            self._session = self._open()
        return self._session

    def new_session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """Return another session to the same server, which adds `auth_headers` itself; the caller closes it.

        Args:
            middlewares: applied to each request.
        """
        return self._open(*middlewares, self._authenticate)

    def _open(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, ssl=self._tls or True),
            timeout=self.read_timeout,
            headers={"User-Agent": USER_AGENT},
            middlewares=middlewares,
        )

    def auth_headers(self) -> Mapping[str, str]:
        """Return the headers that authenticate a request, with the current bearer token.

        If the token cannot be reloaded, the cached one is used.

        Raises:
            ConnectionFailed: the token cannot be read, and none is cached.
        """
        if (now := self._clock()) < self._auth_headers_until:
            return self._auth_headers
        try:
            token = self._settings.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
        except (kubeconfig.ConfigException, OSError) as error:
            if not self._auth_headers:
                raise ConnectionFailed(f"failed to read bearer token: {error}") from error
            logger.warning("failed to reload bearer token, using the cached one: %s", error)
        else:
            token = token.split(" ", 1)[-1].strip()
            self._auth_headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._auth_headers_until = now + TOKEN_SECONDS
        return self._auth_headers

    async def close(self) -> None:
        """Close the shared session; no-op if it is closed."""
        if self._session is not None:
            await self._session.close()

    async def _authenticate(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.update(self.auth_headers())
        return await send(request)


def connect(*, kubeconfig_file: str | None = None, context: str | None = None) -> Connection:
    """Return the connection configured by the ServiceAccount of the pod or, failing that, by a kubeconfig.

    Args:
        kubeconfig_file: the kubeconfig to use, also in a pod; by default KUBECONFIG, then ``~/.kube/config``.
        context: the context in the kubeconfig, also in a pod; by default its current context.

    Raises:
        ConnectionFailed: neither is configured.
    """
    settings: Any = Configuration()
    loaders: Any = kubeconfig  # untyped
    try:
        if kubeconfig_file is None and context is None and SERVICE_ACCOUNT_TOKEN.exists():
            loaders.load_incluster_config(client_configuration=settings)
        else:
            loaders.load_kube_config(kubeconfig_file, context, client_configuration=settings)
    except (kubeconfig.ConfigException, OSError) as error:
        problem = str(error).rstrip(".")
        where = kubeconfig_file or os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise ConnectionFailed(
            f"no API server configured: not running in a pod, and {where}: {problem}. "
            "Specify a kubeconfig with --kubeconfig or KUBECONFIG, and a context in it with --context"
        ) from error
    return Connection(settings)


def _tls_context(settings: Configuration) -> ssl.SSLContext | None:
    if not str(settings.host).startswith("https://"):
        return None
    context = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
