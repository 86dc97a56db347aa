"""What TLS connections of the exporters are made with."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_pipeline.export.causes import CertificateFileError

if TYPE_CHECKING:
    from otel_pipeline.export.otlp.variables import HttpSettings

_contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}


def context(settings: HttpSettings) -> ssl.SSLContext:
    """Return what a TLS connection is made with; made again when a file of it was replaced."""
    files = (settings.certificate, settings.client_certificate, settings.client_key)
    try:
        key = (*files, *(Path(file).stat().st_mtime_ns if file else 0 for file in files))
        made = _contexts.get(key)
        if made is None:
            made = _trusting(settings.certificate) if settings.certificate else _trusting_the_system()
            if settings.client_certificate is not None:
                made.load_cert_chain(settings.client_certificate, settings.client_key)
            _contexts.clear()
            _contexts[key] = made
    except (OSError, ValueError) as error:
        raise CertificateFileError(type(error).__name__) from None
    return made


def _trusting(path: str) -> ssl.SSLContext:
    folder = Path(path).is_dir()
    return ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)


def _trusting_the_system() -> ssl.SSLContext:
    made = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and (paths.capath is None or not any(Path(paths.capath).iterdir())):
        # A machine without authorities of its own, as small images are: those that `requests` brings, where it is.
        try:
            import certifi
        except ImportError:
            return made
        made.load_verify_locations(certifi.where())
    return made
