"""What OpenTelemetry's variables say of an OTLP exporter over HTTP."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from opentelemetry.util.re import parse_env_headers

from otel_pipeline.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from otel_pipeline.export.destination import Signal

TIMEOUT_S = 10.0
COMPRESSIONS = ("gzip", "deflate", "none")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class HttpSettings:
    """One exporter's. Raises ValueError, without quoting it, for an endpoint that is none."""

    endpoint: str = field(repr=False)
    """The whole address, which may hold `user:password@`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """In lower case; with the credentials of the address."""
    timeout_s: float = TIMEOUT_S
    """For all attempts at a request."""
    compression: str = "gzip"
    certificate: str | None = None
    """File or folder of authorities; None for the system's."""
    client_certificate: str | None = None
    client_key: str | None = None
    proxy: str | None = field(default=None, repr=False)
    """Address of a proxy; None for none."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.scheme not in PORTS or not parts.hostname or not _has_port(parts):
            raise ValueError("its endpoint is no address that begins with http:// or https:// and names a host")
        if self.proxy is not None:
            proxy = urlsplit(self.proxy)
            if proxy.scheme != "http" or not proxy.hostname or not _has_port(proxy):
                raise ValueError("its proxy is no address that begins with http:// and names a host")

    @property
    def parts(self) -> SplitResult:
        """The address in parts."""
        return urlsplit(self.endpoint)


def read(signal: Signal, endpoint: str, *, loopback: bool, environ: Mapping[str, str] = os.environ) -> HttpSettings:
    """Return what the variables say; those of the signal before those of all.

    Args:
        signal: what is exported.
        endpoint: the whole address, path included.
        loopback: whether the address is on this machine, where no proxy is asked.
        environ: the variables.
    """

    def of(name: str) -> str | None:
        return (
            environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}")
        ) or None

    compression = (of("COMPRESSION") or "gzip").strip().lower()
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or None
    return HttpSettings(
        endpoint,
        _headers(endpoint, of("HEADERS") or ""),
        _seconds(of("TIMEOUT")),
        compression if compression in COMPRESSIONS else "none",
        of("CERTIFICATE") or bundle,
        of("CLIENT_CERTIFICATE"),
        of("CLIENT_KEY"),
        None if loopback else _proxy(endpoint, environ),
    )


def address(signal: Signal, environ: Mapping[str, str] = os.environ) -> str:
    """Return the whole address that the variables give: a signal's own as it is, the others' with the signal's path."""
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    if own:
        return own
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318"
    return f"{base.removesuffix('/')}/v1/{signal}"


def basic(parts: SplitResult) -> str | None:
    """Return the header's value for `user:password@` of an address."""
    if parts.username is None:
        return None
    named = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(named.encode()).decode()}"


def _headers(endpoint: str, given: str) -> dict[str, str]:
    found = {
        "content-type": "application/x-protobuf",
        "user-agent": f"otel_pipeline/{VERSION} OTel-OTLP-Exporter-Python/{VERSION}",
        "accept-encoding": "identity",
    }
    credentials = basic(urlsplit(endpoint))
    if credentials is not None:
        found["authorization"] = credentials
    read = parse_env_headers(given, liberal=True)
    return found | {name: value for name, value in read.items() if not any(each in name + value for each in "\r\n\0")}


def _seconds(given: str | None) -> float:
    try:
        found = float(given) if given else TIMEOUT_S
    except ValueError:
        return TIMEOUT_S
    return found if 0 < found < float("inf") else TIMEOUT_S


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _proxy(endpoint: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy for this address, as the variables that all programs read have it."""
    if not any(name.lower().endswith("_proxy") and value for name, value in environ.items()):
        return None
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    parts = urlsplit(endpoint)
    proxies = {
        kind: environ.get(f"{kind}_proxy") or environ.get(f"{kind.upper()}_PROXY") or ""
        for kind in (*PORTS, "all", "no")
    }
    if "REQUEST_METHOD" in environ:
        proxies["http"] = environ.get("http_proxy") or ""  # In CGI the other one comes from a request's header.
    found = proxies[parts.scheme] or proxies["all"]
    host = parts.hostname or ""
    aside = proxy_bypass_environment(f"{host}:{parts.port or PORTS[parts.scheme]}", {"no": proxies["no"]})
    if not found or aside or _in_network(host, proxies["no"]):
        return None
    return found if "//" in found else f"http://{found}"


def _in_network(host: str, aside: str) -> bool:
    """Tell whether `NO_PROXY` names a network that the host, an address, is in."""
    from ipaddress import ip_address, ip_network

    try:
        found = ip_address(host)
    except ValueError:
        return False
    for each in aside.split(","):
        try:
            if found in ip_network(each.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False
