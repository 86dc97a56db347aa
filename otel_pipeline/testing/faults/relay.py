"""The relay between two topics, which injects what it is told to.

The relay's client is librdkafka's own class, below whatever instruments Kafka clients in this process: it makes no
spans and counts nowhere. It comes with `pip install 'otel-pipeline[embedded]'`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from otel_pipeline.brokers.kafka.client import OWN_CLIENT
from otel_pipeline.testing.faults.options import Fault, FaultOptions, FaultsError, check, faults_of
from otel_pipeline.testing.faults.plan import Injected, Message, Outgoing, Plan, injected_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self, Unpack

__all__ = ["FaultOptions", "FaultsError", "Injected", "Relay"]

_ANSWER_SECONDS = 4.0
STOP_SECONDS = 5.0
_FLUSH_SECONDS = 3.5
_POLL_SECONDS = 0.05
_PULL = 1_000
_MAX_MESSAGE_BYTES = 1_000_000_000
"""As large as can be, because the broker's own limit is the one that counts."""
_PASSING = {"_ALL_BROKERS_DOWN", "_TRANSPORT", "_RESOLVE", "_TIMED_OUT", "LEADER_NOT_AVAILABLE"}
"""Errors after which the client itself tries again."""
_MAX_WAITING = 100_000
"""Messages that are delayed at one time; more are left in the source."""


class Relay:
    """Reads one topic and writes to another of the same broker, with faults; a thread of its own does the work.

    Partition, key, value, headers and timestamp stay. Numbers that were given for the source are given for the
    destination, so that order and loss can still be judged there. Every method may be called from any thread.

    Args:
        bootstrap_servers: as for any Kafka client.
        source: topic that is read; it needs to be there.
        destination: topic that is written, with at least as many partitions.
        seed: the same seed chooses the same messages, by partition and offset.
        auto_offset_reset: `earliest`, or `latest` for what is sent after `start()` only.
        client_settings: librdkafka's, for example for SASL.
        faults: see `FaultOptions`.

    Example:
        with Relay(address, "orders", "orders-faulty", seed=7, drop=0.01, duplicate=0.01) as relay:
            relay.wait_until_relayed(10_000, timeout=30)
        print(relay.injected)
    """

    def __init__(
        self,
        bootstrap_servers: str,
        source: str,
        destination: str,
        *,
        seed: int = 0,
        auto_offset_reset: Literal["earliest", "latest"] = "earliest",
        client_settings: Mapping[str, str] | None = None,
        **faults: Unpack[FaultOptions],
    ) -> None:
        if source == destination:
            raise FaultsError(f"is {source!r} like source: that would go round for ever; give another", "destination")
        if auto_offset_reset not in {"earliest", "latest"}:
            raise FaultsError(f"{auto_offset_reset!r} is neither earliest nor latest", "auto_offset_reset")
        self._servers = bootstrap_servers
        self._source = source
        self._destination = destination
        self._from_the_beginning = auto_offset_reset == "earliest"
        self._settings = dict(client_settings or {})
        self._plan = Plan(seed, source, destination)
        self._faults: tuple[Fault, ...] = ()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: FaultsError | None = None
        self._counts: Counter[tuple[str, int]] = Counter()
        self._shown = Injected()
        self._awaited: list[int] = []
        self._read = 0
        self._freezes = 0
        self._planned_freezes: list[tuple[int, float]] = []
        self._thawed_at = 0.0
        """Until when it is frozen, monotonic, s."""
        self._pulled: deque[Message] = deque()
        self._waiting: dict[int, deque[tuple[float, float, Outgoing]]] = {}
        """What waits, by partition: when to write it, when it would have been delayed long enough, and the message."""
        self._unacknowledged = 0
        self.add(**faults)

    @property
    def injected(self) -> Injected:
        """What has been done so far, and acknowledged by the broker."""
        with self._changed:
            return self._shown

    @property
    def running(self) -> bool:
        """Between `start()` and `stop()`, unless it failed; then `stop()` raises why."""
        return self._thread is not None and self._thread.is_alive()

    def add(self, **faults: Unpack[FaultOptions]) -> None:
        """Switch faults on, beside those that are; they apply to the messages that are read from now on."""
        check(faults)
        with self._changed:
            self._faults += faults_of(faults, self._faults)
            if faults.get("freeze"):
                self._freeze(faults["freeze"], faults.get("freeze_at"))

    def drop_range(self, first: int, last: int | None = None, partition: int | None = None) -> None:
        """Drop a burst: the source's offsets from `first` to `last`, both included; without `last`, the tail."""
        self.add(drop=1.0, first=first, last=last, partition=partition)

    def clear(self) -> None:
        """Switch all faults off, and thaw; what is held or delayed goes its way."""
        with self._changed:
            self._faults = ()
            self._planned_freezes = []
        self.thaw()

    def freeze(self, seconds: float = float("inf")) -> None:
        """Relay nothing for that time, or until `thaw()`; the messages stay in the source."""
        with self._changed:
            self._freeze(seconds, None)

    def thaw(self) -> None:
        """Go on after `freeze()`."""
        with self._changed:
            self._thawed_at = 0.0
            self._changed.notify_all()

    def start(self) -> Self:
        """Connect and begin; raise FaultsError within 10 s when there is no broker or a topic is missing."""
        if self._thread is not None:
            raise FaultsError("this relay was started already: make another")
        try:
            from confluent_kafka import KafkaException, cimpl
        except ImportError as error:
            raise FaultsError(
                "the relay's client comes with confluent-kafka: pip install 'otel-pipeline[embedded]'"
            ) from error
        # It stands for a broker: what instruments the application leaves it alone.
        common = {**self._settings, "bootstrap.servers": self._servers, "log_level": 0, "client.id": OWN_CLIENT}
        reading = {
            "group.id": f"otel-pipeline-faults-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
        pace = {"fetch.wait.max.ms": 50, "queued.max.messages.kbytes": 65_536}
        writing = {"enable.idempotence": True, "linger.ms": 5, "message.max.bytes": _MAX_MESSAGE_BYTES}
        try:
            # Not `confluent_kafka.Consumer`: other instrumentations put their own class there.
            self._consumer: Any = cimpl.Consumer({**common, **reading, **pace})
            self._producer: Any = cimpl.Producer({**common, **writing})
        except (KafkaException, ValueError, TypeError) as error:
            raise FaultsError(f"the client refuses its settings: {_reason(error)}", "client_settings") from error
        try:
            self._consumer.assign(self._positions(cimpl.TopicPartition, KafkaException))
        except BaseException:
            self._consumer.close()
            raise
        self._thread = threading.Thread(target=self._run, name="otel-pipeline-faults", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Write what is held or delayed and end, within 5 s; raise FaultsError when not all could be written.

        What was cut short is not counted as delayed. A second call does nothing.
        """
        if self._thread is None:
            return
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise FaultsError(f"the client did not end within {STOP_SECONDS:g} s, and ends by itself")
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            with suppress(FaultsError):
                self.stop()

    def wait_until_relayed(self, messages: int, timeout: float = 30.0) -> Injected:
        """Wait until so many messages of the source are written and acknowledged, or dropped; return the counts.

        It also says that no more are coming: once so many were read, those that are held to be passed by others are
        written. Raises TimeoutError, whose text says how far it came.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._awaited.append(messages)
            while self._shown.relayed < messages:
                if self._error is not None:
                    raise self._error
                left = deadline - time.monotonic()
                if left <= 0 or self._thread is None:
                    raise TimeoutError(
                        f"{self._shown.relayed} of {messages} messages were relayed in {timeout:g} s, {self._read} read"
                        + (", the relay is frozen" if self._thawed_at > time.monotonic() else "")
                        + (", it was not started" if self._thread is None else "")
                    )
                self._changed.wait(min(left, 1.0))
            return self._shown

    def _freeze(self, seconds: float, at: int | None) -> None:
        if at is not None:
            self._planned_freezes.append((at, seconds))
            return
        if self._stopping.is_set():
            return
        self._thawed_at = time.monotonic() + seconds
        self._freezes += 1
        self._shown = replace(self._shown, freeze=self._freezes)

    def _positions(self, position: Any, unreachable: type[Exception]) -> list[Any]:
        """Find where each partition of the source is read from; a topic that was just made takes a moment to answer."""
        again_until = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                return [position(self._source, *place) for place in self._places(position, unreachable)]
            except unreachable as error:
                if time.monotonic() < again_until:
                    self._stopping.wait(_POLL_SECONDS)
                    continue
                raise FaultsError(
                    f"no Kafka broker answers at {self._servers} ({_reason(error)}): start it, or give its address",
                    "bootstrap_servers",
                ) from error

    def _places(self, position: Any, unreachable: type[Exception]) -> list[tuple[int, int]]:
        """Return the source's partitions, each with the offset from which it is read."""
        topics = self._consumer.list_topics(timeout=_ANSWER_SECONDS).topics
        for option, name in (("source", self._source), ("destination", self._destination)):
            error = topics[name].error if name in topics else None
            if error is not None and error.name() in _PASSING:
                raise unreachable(error)
            if name not in topics or error is not None:
                raise FaultsError(f"there is no topic {name!r} at {self._servers}: create it first", option)
        read, written = len(topics[self._source].partitions), len(topics[self._destination].partitions)
        if written < read:
            raise FaultsError(
                f"{self._destination!r} has {written} partitions, {self._source!r} has {read}, and a message keeps "
                f"its own: create it with {read}",
                "destination",
            )
        places = []
        for partition in range(read):
            asked = position(self._source, partition)
            first, end = self._consumer.get_watermark_offsets(asked, timeout=_ANSWER_SECONDS)
            places.append((partition, first if self._from_the_beginning else end))
        return places

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._step()
            self._finish()
        except Exception as error:
            failure = error if isinstance(error, FaultsError) else FaultsError(f"the relay failed: {_reason(error)}")
            with self._changed:
                self._error = self._error or failure
        finally:
            with suppress(Exception):
                self._consumer.close()
            with self._changed:
                self._show()

    def _step(self) -> None:
        with self._changed:
            frozen_s = self._thawed_at - time.monotonic()
            if frozen_s > 0:
                self._changed.wait(min(frozen_s, _POLL_SECONDS))
        full = sum(map(len, self._waiting.values())) >= _MAX_WAITING
        if frozen_s <= 0:
            if not self._pulled and not full:
                self._pull()
            self._take()
            self._write(time.monotonic())
        self._producer.poll(_POLL_SECONDS if full else 0)
        with self._changed:
            self._show()

    def _pull(self) -> None:
        """Wait for one message, then take all that are there already: `consume` alone waits for the full number."""
        found = [self._consumer.poll(_POLL_SECONDS)]
        if found[0] is None:
            return
        for message in found + self._consumer.consume(_PULL, 0):
            error = message.error()
            if error is None:
                self._pulled.append(_read(message))
            elif error.name() not in _PASSING:
                raise FaultsError(f"{self._source!r} cannot be read: {error.str()}", "source")

    def _take(self) -> None:
        """Decide about what was pulled, until a freeze begins."""
        now_s = time.monotonic()
        while self._pulled:
            with self._changed:
                faults = self._faults
                for planned in self._planned_freezes:
                    if planned[0] <= self._read + 1:
                        self._planned_freezes.remove(planned)
                        self._freeze(planned[1], None)
                        break
                if self._thawed_at > now_s:
                    return
                self._read += 1
            self._queue(self._plan.take(self._pulled.popleft(), faults), now_s)
            self._release(now_s)
        self._release(now_s)

    def _release(self, now_s: float) -> None:
        """Queue what is held, once all is read that somebody waits for; what is held later waits to be passed again."""
        with self._changed:
            left = [messages for messages in self._awaited if messages > self._read]
            if len(left) == len(self._awaited):
                return
            self._awaited = left
        self._queue(self._plan.release(), now_s)

    def _queue(self, messages: Sequence[Outgoing], now_s: float) -> None:
        for outgoing in messages:
            waiting = self._waiting.setdefault(outgoing.message.partition, deque())
            own_s = now_s + outgoing.delay_s
            # Behind a delayed one: the order is another fault.
            waiting.append((max(own_s, waiting[-1][0]) if waiting else own_s, own_s, outgoing))

    def _write(self, now_s: float) -> None:
        for waiting in self._waiting.values():
            while waiting and waiting[0][0] <= now_s:
                _, own_s, outgoing = waiting[0]
                delayed = ("delay",) if outgoing.delay_s and own_s <= now_s else ()
                try:
                    self._produce(outgoing, (*outgoing.faults, *delayed))
                except BufferError:
                    self._producer.poll(_POLL_SECONDS)
                    return
                waiting.popleft()

    def _produce(self, outgoing: Outgoing, faults: tuple[str, ...]) -> None:
        message = outgoing.message

        def acknowledged(error: Any, _message: Any) -> None:
            self._unacknowledged -= 1
            if error is not None:
                with self._changed:
                    self._error = self._error or FaultsError(
                        f"{self._destination!r} cannot be written: {error.str()}", "destination"
                    )
                return
            counts, partition = self._counts, message.partition
            counts["written", partition] += 1
            if outgoing.settles:
                counts["relayed", partition] += 1
            for name in faults:
                counts[name, partition] += 1

        time_of = {} if message.timestamp_ms is None else {"timestamp": message.timestamp_ms}
        self._producer.produce(
            self._destination,
            value=message.value,
            key=message.key,
            partition=message.partition,
            headers=message.headers,
            on_delivery=acknowledged,
            **time_of,
        )
        self._unacknowledged += 1

    def _finish(self) -> None:
        with self._changed:
            self._thawed_at = 0.0
            self._planned_freezes = []
        now_s = time.monotonic()
        self._take()
        self._queue(self._plan.release(), now_s)
        deadline = now_s + _FLUSH_SECONDS
        for waiting in self._waiting.values():
            # Cut short: written now, but not counted as delayed.
            late = [(now_s, own_s, outgoing) for _, own_s, outgoing in waiting]
            waiting.clear()
            waiting.extend(late)
        while any(self._waiting.values()) and time.monotonic() < deadline:
            self._write(now_s)
        self._producer.flush(max(0.0, deadline - time.monotonic()))
        left = self._unacknowledged + sum(map(len, self._waiting.values()))
        if left:
            raise FaultsError(
                f"{left} messages were not acknowledged within {_FLUSH_SECONDS:g} s of the stop, and are in no count"
            )

    def _show(self) -> None:
        self._shown = injected_of(self._counts + self._plan.counts, self._freezes)
        self._changed.notify_all()


def _read(message: Any) -> Message:
    kind, timestamp_ms = message.timestamp()
    return Message(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.headers() or [],
        timestamp_ms if kind and timestamp_ms > 0 else None,
    )


def _reason(error: BaseException) -> str:
    """Return the reason; a KafkaException holds the client's own error."""
    inner = error.args[0] if error.args else error
    return str(inner.str()) if hasattr(inner, "str") else str(inner)
