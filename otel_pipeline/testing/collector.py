"""A Collector for tests: it keeps what arrives, and fails in every way that networks and servers do."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from otel_pipeline.dev.receiver import Answer, Receiver, Request
from otel_pipeline.dev.requests_as_json import as_json
from otel_pipeline.export.otlp_reader import LogRecord, MetricRecord, SpanRecord, parse
from otel_pipeline.testing.collector_faults import CollectorError, CollectorFault

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self, Unpack

    from otel_pipeline.dev.grpc_receiver import GrpcReceiver
    from otel_pipeline.export.destination import Signal
    from otel_pipeline.testing.collector_faults import CollectorFaultOptions, Kind

_Record = TypeVar("_Record", SpanRecord, MetricRecord, LogRecord)
_FAULT_OVER_GRPC = Answer(503, b"a fault of the test")


class Collector:
    """Takes OTLP on free ports of 127.0.0.1 while its `with` lasts. Safe in any thread.

        with Collector() as collector:
            exporter = OTLPSpanExporter(f"{collector.endpoint}/v1/traces")
            with collector.fault(503, retry_after=1):
                ...
            assert [span.name for span in collector.spans()] == ["a"]

    Args:
        grpc: whether it speaks gRPC too, on a port of its own; that takes grpcio.
        certificate: a file with a certificate and its key: over HTTP it speaks TLS then.
        keep: told of each request that arrives, in place of keeping it: an hour's requests fit in no memory.

    Raises:
        ModuleNotFoundError: for `grpc` without grpcio.
    """

    def __init__(
        self,
        *,
        grpc: bool = False,
        certificate: Path | None = None,
        keep: Callable[[Request], object] | None = None,
    ) -> None:
        self.arrived: list[Request] = []
        """What was taken."""
        self.requests: list[Request] = []
        """All that came, whatever became of it; empty where something else keeps them."""
        self._keeps = keep
        self._lock = threading.Lock()
        self._faults: list[CollectorFault] = []
        self._http = Receiver(self._take, certificate=certificate)
        self._grpc: GrpcReceiver | None = None
        if grpc:
            from otel_pipeline.dev.grpc_receiver import GrpcReceiver

            self._grpc = GrpcReceiver(self._take_over_grpc)
        self._is_open = False

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_error: object) -> None:
        self.recover()
        self._close()

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT, over HTTP."""
        return self._http.endpoint

    @property
    def grpc_endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT, over gRPC. Raises CollectorError where it speaks none."""
        if self._grpc is None:
            raise CollectorError("it speaks no gRPC: make it by Collector(grpc=True)")
        return self._grpc.endpoint

    @property
    def connections(self) -> int:
        """How many connections over HTTP there have been."""
        return self._http.connections

    def fault(
        self,
        kind: Kind | int,
        *,
        signal: Signal | None = None,
        when: Callable[[Request], bool] | None = None,
        times: int | None = None,
        **options: Unpack[CollectorFaultOptions],
    ) -> CollectorFault:
        """Fail from now on: until the fault's `with` ends, `end()` or `recover()`.

        Of several that meet a request one acts: those with `times` come first, in the order in which they were set; of
        the others the one that was set last.

        Args:
            kind: a status, 200 to 599; `refuse` (nobody listens, connections are ended), `hang` (no answer), `reset`,
                `close` (the connection ends without an answer), `slow`, `drip`, `redirect`, `huge`, `partial`,
                `too_large`. Over gRPC a status is the one that OTLP has in its place, and what only a connection can do
                is UNAVAILABLE.
            signal: `traces`, `metrics` or `logs` alone.
            when: told of each request, with `path`, `headers` and `body`; the fault meets those that it returns true
                for.
            times: it meets so many requests, and is over.
            options: see `CollectorFaultOptions`.

        Raises:
            CollectorError: where that is no fault; it says what is.
        """
        made = CollectorFault(kind, signal, when, times, options).ends_with(self._ended)
        with self._lock:
            self._faults.append(made)
        if made.kind == "refuse":
            self._close()
        return made

    def recover(self) -> None:
        """End all faults."""
        with self._lock:
            faults = list(self._faults)
        for each in faults:
            each.end()

    def _ended(self, fault: CollectorFault) -> None:
        with self._lock, suppress(ValueError):
            self._faults.remove(fault)
            opens = fault.kind == "refuse" and all(each.kind != "refuse" for each in self._faults)
        if fault.kind == "refuse" and opens:
            self._open()

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._http.open()
            if self._grpc is not None:
                self._grpc.open()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._http.close()
            if self._grpc is not None:
                self._grpc.close()

    def spans(self) -> list[SpanRecord]:
        """Return the spans that have arrived, in the order in which they came."""
        return self._records(SpanRecord, "/v1/traces")

    def metrics(self) -> list[MetricRecord]:
        """Return the metrics that have arrived, one record for each that a request has."""
        return self._records(MetricRecord, "/v1/metrics")

    def logs(self) -> list[LogRecord]:
        """Return the log records that have arrived."""
        return self._records(LogRecord, "/v1/logs")

    def _records(self, kind: type[_Record], path: str) -> list[_Record]:
        with self._lock:
            arrived = [each for each in self.arrived if each.path == path]
        found = [record for each in arrived for record in parse(as_json(path, each.body))]
        return [record for record in found if isinstance(record, kind)]

    def _take(self, request: Request, connection: socket.socket) -> Answer | None:
        fault = self._met(request)
        return self._arrive(request) if fault is None else fault.act(request, connection, self._arrive)

    def _take_over_grpc(self, request: Request) -> Answer:
        fault = self._met(request)
        answer = self._arrive(request) if fault is None else fault.act(request, None, self._arrive)
        return _FAULT_OVER_GRPC if answer is None else answer

    def _met(self, request: Request) -> CollectorFault | None:
        with self._lock:
            if self._keeps is None:
                self.requests.append(request)
            timed = [each for each in self._faults if each.left is not None]
            lasting = [each for each in reversed(self._faults) if each.left is None]
            return next((each for each in (*timed, *lasting) if each.meets(request)), None)

    def _arrive(self, request: Request) -> Answer:
        """Take a request; raises ValueError where it is none."""
        if self._keeps is not None:
            self._keeps(request)
            return Answer()
        as_json(request.path, request.body)
        with self._lock:
            self.arrived.append(request)
        return Answer()
