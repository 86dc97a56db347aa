"""What the OTLP exporters send through: it sends what they send, and sees what is answered.

A `Date` tells of the Collector's clock; status, body and errors tell why something does not arrive, or what of it was
rejected. Over HTTP no redirect is followed, since it could lead headers with credentials elsewhere, and of an answer at
most 64 kB are read, within 5 s.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from otel_pipeline.export import attempt
from otel_pipeline.export.causes import ForkedError
from otel_pipeline.export.grpc_calls import calls

if TYPE_CHECKING:
    from otel_pipeline.export.collector_clock import Answers

MAX_ANSWER_BYTES = 64 * 1024
MAX_ANSWER_S = 5.0
MAX_SAID = 200
_CREDENTIALS = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_{}CREDENTIAL_PROVIDER"


def session(signal: str, answers: Answers, *, loopback: bool) -> Any:
    """Return the session for an exporter; None where it gets its own from the application's credential provider.

    A response hook would be told of the answer, but not when its request was sent.
    """
    import requests

    class WatchedSession(requests.Session):
        """Looks at the clock before and after each request, retries included, and tells the attempt."""

        def send(self, request: Any, **kwargs: Any) -> Any:
            """Send, as the base does, but neither follow nor read more than is needed."""
            trying = attempt.current()
            sent_s = time.time()
            try:
                response = super().send(request, **{**kwargs, "allow_redirects": False, "stream": True})
            except Exception as error:
                if trying is not None:
                    trying.note_failure(error)
                raise
            answers.note(sent_s, time.time(), response)
            body = _read(response)
            if trying is not None:
                trying.answered(response.status_code, body)
            return response

    if loopback:
        made = WatchedSession()
        made.trust_env = False  # HTTP_PROXY is not for this machine.
        return made
    if any(os.environ.get(_CREDENTIALS.format(kind)) for kind in ("", f"{signal.upper()}_")):
        return None
    return WatchedSession()


def _read(response: Any) -> bytes:
    """Read the body, or its beginning: then the connection is given up."""
    body, until_s = bytearray(), time.monotonic() + MAX_ANSWER_S
    whole = False
    try:
        # Byte by byte: a longer read would wait for all of its bytes, and they may come one a second.
        while len(body) < MAX_ANSWER_BYTES and time.monotonic() < until_s:
            byte = response.raw.read(1, decode_content=True)
            if not byte:
                whole = True
                break
            body += byte
    except Exception:
        whole = False  # Cut off: the status is here, and that decides.
    response._content, response._content_consumed = bytes(body), True
    if not whole:
        response.close()
    return bytes(body)


def watch_calls(exporter: Any) -> bool:
    """See the calls of an exporter over gRPC; false where it is not built as we know it."""
    stub, client = getattr(exporter, "_stub", None), getattr(exporter, "_client", None)
    if stub is None or not hasattr(client, "Export"):
        return False
    exporter._client = _WatchedCalls(client)
    # It makes another client when a connection is lost.
    exporter._stub = lambda channel: _WatchedCalls(stub(channel))
    return True


class _WatchedCalls:
    """A gRPC client that tells the attempt how each call went."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def Export(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - the method's name in the protocol
        """Call, and hand on what comes of it."""
        trying = attempt.current()
        try:
            with calls:
                answer = self._client.Export(*args, **kwargs)
        except ForkedError as error:
            if trying is not None:
                trying.note_failure(error)
            raise
        except Exception as error:
            if trying is not None:
                trying.refused(*_said_by(error))
            raise
        if trying is not None:
            trying.taken(answer.SerializeToString())
        return answer


def _said_by(error: Any) -> tuple[str, str]:
    try:
        return error.code().name, str(error.details())
    except Exception:
        return type(error).__name__, ""  # No error of gRPC's own, such as a message that cannot be serialized.


def rejected(body: bytes) -> tuple[int, str]:
    """Return how many items an answer says were not taken, and its reason: the same bytes for each signal."""
    if not body:
        return 0, ""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        found = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception:
        return 0, ""  # Not OTLP's answer, but it was a success.
    said = "".join(sign if sign.isprintable() else "?" for sign in found.error_message[:MAX_SAID])
    return max(found.rejected_spans, 0), said
