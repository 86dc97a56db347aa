"""`otel_pipeline.inject` and `.extract`: the context of what is sent and received by any client, written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from otel_pipeline.engine.carrier import carrier_in_force, plain_copy
from otel_pipeline.engine.current_context import get_current
from otel_pipeline.engine.delivery import back_to, give_up
from otel_pipeline.engine.guard import step_aside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from otel_pipeline.engine.carrier import Carrier
    from otel_pipeline.engine.delivery import OpenDelivery


@overload
def inject(headers: None = None, *, destination: str | None = None) -> dict[str, str]: ...
@overload
def inject(headers: Mapping[str, str], *, destination: str | None = None) -> dict[str, str]: ...
@overload
def inject(headers: Sequence[tuple[str, bytes]], *, destination: str | None = None) -> list[tuple[str, bytes]]: ...
def inject(headers: Any = None, *, destination: str | None = None) -> Any:
    """Return a copy of the headers with the context of what is sent now: for any client, HTTP and gRPC.

        requests.post(url, headers=otel_pipeline.inject({"accept": "*/*"}))
        producer.produce("orders", value, headers=otel_pipeline.inject([], destination="orders"))

    It carries the current trace, its baggage, and where the data in hand began. Where no span is current one is made,
    so that a trace begins here.

    Args:
        headers: a mapping, of which a dict is made with texts, or pairs, of which a list is made with bytes. Names that
            are bytes get ours as bytes.
        destination: the topic, queue or service that it is sent to; part of the data's path.

    Without `instrument()` it is a plain copy. Never raises; safe in any thread and task.
    """
    copy = None
    try:
        copy = plain_copy(headers)
        carrier = carrier_in_force()
        if copy is not None and carrier is not None and not carrier.injecting.off:
            return carrier.write(copy, destination)
    except Exception:
        step_aside("inject")
    return headers if copy is None else copy  # What are no headers: the client will say so in its own words.


class Extracting:
    """One use of `extract`."""

    __slots__ = ("_adopted", "_carrier", "_delivery", "_destination", "_headers")

    def __init__(self, headers: Any, destination: str | None) -> None:
        self._headers, self._destination = headers, destination
        self._carrier: Carrier | None = None
        self._delivery: OpenDelivery | None = None
        self._adopted = False

    def __enter__(self) -> Extracting:  # noqa: PYI034 - Self is not in Python 3.10
        before = None
        try:
            before = get_current()
            carrier = carrier_in_force()
            if carrier is not None and not carrier.extracting.off:
                self._carrier = carrier
                self._delivery, self._adopted = carrier.begin(self._headers, self._destination)
        except BaseException:
            step_aside("extract", back_to, before)
        self._headers = None  # The application's data is not kept.
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        delivery, carrier = self._delivery, self._carrier
        if delivery is None or carrier is None:
            return
        try:
            self._delivery = None
            if self._adopted:
                delivery.error = error  # The client's own adapter ends this span; it could not have seen the exception.
            else:
                carrier.processor.finish(delivery, error)
        except BaseException:
            step_aside("extract", *(() if self._adopted else (give_up, delivery)))

    async def __aenter__(self) -> Extracting:  # noqa: PYI034
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


def extract(headers: Any, *, destination: str | None = None) -> Extracting:
    """Process a message that came with these headers: for any client, HTTP and gRPC; a context manager.

        with otel_pipeline.extract(message.headers(), destination="orders"):
            handle(message)

    One process span, child of what sent the message; what is done inside belongs to its trace. The message is counted,
    and the age and origin of its data are known: `current()`, `inject`, model calls and `require_fresh` rest on them.
    Nothing is judged of order and pace, because the message's place in its log is not known.

    Args:
        headers: a mapping or pairs, with texts or bytes, names in any case; None is none.
        destination: the topic, queue or service that it was sent to; without one it is counted under `_other`.

    What the block raises is recorded on the span and raised on, unchanged; nothing of ours is raised. Safe in any
    thread and task (`async with` too). Without `instrument()` it does nothing.
    """
    return Extracting(headers, destination)
