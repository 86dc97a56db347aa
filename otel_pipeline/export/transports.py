"""What the SDK's exporter over gRPC calls through: it calls what that calls, and sees what is answered."""

from __future__ import annotations

from typing import Any

from otel_pipeline.export import attempt
from otel_pipeline.export.causes import ForkedError
from otel_pipeline.export.grpc_calls import calls


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
