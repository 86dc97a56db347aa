"""confluent-kafka's producers: `produce`, and how its messages are answered.

The partition is chosen in C after `produce` has returned, so numbers are given by thread (`thread_sequence.py`).
"""

from __future__ import annotations

import functools
from collections import Counter, deque
from threading import get_ident
from typing import TYPE_CHECKING, Any

from otel_pipeline.brokers.kafka.acknowledgements import Delivered
from otel_pipeline.brokers.kafka.client import failed
from otel_pipeline.brokers.kafka.confluent_kafka_clients import PRODUCES, Handle, with_lifetime
from otel_pipeline.engine.client_objects import ClientObjects
from otel_pipeline.engine.patching import Around
from otel_pipeline.engine.send import sender
from otel_pipeline.engine.thread_sequence import ThreadSequences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_pipeline.brokers.kafka.client import KafkaProducers
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.patching import Patches
    from otel_pipeline.engine.send import Sending
    from otel_pipeline.engine.thread_sequence import Given

    _Message = tuple[Any, Any, Any, Any, Any, Any]
    """Topic, value, key, partition, callback, headers."""
    _Prepared = tuple[Given | None, "_Delivered | None"] | None
    """Its number, and what ends its span; None where that could not be made."""

_CALLBACK, _HEADERS = 4, 7
"""Where `produce` has them, after `self`."""
_VALUES = frozenset({str, bytes, type(None)})


class ProducerHandle(Handle):
    """What is known of one producer."""

    __slots__ = ("callback", "callers", "later", "only_errors", "sequences")

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.sequences = ThreadSequences(engine.guard)
        self.callback: Any = None
        """What answers messages that have no callback of their own."""
        self.only_errors = False
        """Whether it is told nothing of messages that are delivered."""
        self.callers: Counter[int] = Counter()
        """Which threads are inside of its calls that call back."""
        self.later: deque[Callable[[], None]] = deque()
        """What ends sends once the cluster is known, or at least asked for."""

    def announce(self, conf: Mapping[Any, Any], usual: Mapping[str, Any]) -> None:
        """Note what it was made with."""
        super().announce(conf, usual)
        self.callback = conf.get("on_delivery")
        self.only_errors = self.settings.get("delivery_report_only_error") is True


class Handles(ClientObjects[ProducerHandle]):
    """What is known of each producer, and what those that are gone had left without an answer."""

    __slots__ = ("_left",)

    def __init__(self, engine: Engine) -> None:
        self._left: Counter[str] = Counter()
        super().__init__(
            engine.guard, lambda _client: ProducerHandle(engine), ProducerHandle(engine), self._count_what_is_left
        )
        engine.queued.append(self.queued)

    def _count_what_is_left(self, handle: ProducerHandle) -> None:
        self._left.update(handle.sequences.queued())

    def begin_anew(self) -> None:
        """Know nothing of any producer, in a forked child."""
        super().begin_anew()
        self._left.clear()

    def queued(self) -> Mapping[str, int]:
        """Count, by destination, what producers were given and nobody has answered."""
        found = Counter(self._left)
        for handle in list(self.by_id.values()):
            found.update(handle.sequences.queued())
        return found


def _message(
    topic: Any,
    value: Any = None,
    key: Any = None,
    partition: Any = -1,
    callback: Any = None,
    on_delivery: Any = None,
    _timestamp: Any = 0,
    headers: Any = None,
    **_more: Any,
) -> _Message:
    """Read the arguments of `produce`, as the client does: `callback` is before `on_delivery`."""
    return topic, value, key, partition, on_delivery if callback is None else callback, headers


def _pairs(headers: Any) -> Any:
    """Return a dictionary's headers as a list, where the client would take both for the same."""
    if type(headers) is not dict:
        return headers
    plain = all(type(name) is str and type(value) in _VALUES for name, value in headers.items())
    return list(headers.items()) if plain else headers


def _with(
    args: tuple[Any, ...], kwargs: dict[str, Any], callback: Any, headers: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the application's own call with our callback and headers; None leaves what is there."""
    if len(args) <= _CALLBACK and callback is not None and headers is not None:
        return args, {**kwargs, "callback": callback, "headers": headers}
    kwargs = dict(kwargs)
    for at, name, given in ((_CALLBACK, "callback", callback), (_HEADERS, "headers", headers)):
        if given is None:
            continue
        if len(args) > at:
            args = (*args[:at], given, *args[at + 1 :])
        else:
            kwargs[name] = given
    return args, kwargs


class _Delivered(Delivered):
    """The callback of one message, whose answer is counted as well."""

    __slots__ = ("_destination", "_handle")

    def __init__(self, engine: Engine, sending: Sending, theirs: Any, handle: ProducerHandle, destination: str) -> None:
        super().__init__(engine, sending, theirs, failure)
        self._handle, self._destination = handle, destination

    def _tell(self, error: Any, message: Any) -> None:
        handle = self._handle
        handle.sequences.answered(self._destination)
        if handle.cluster_id is None and not handle.is_silent and get_ident() in handle.callers:
            # Whatever is counted of a destination is counted for its cluster, which the client tells when it returns.
            said = (error, message.partition(), message.offset(), message.latency())
            handle.later.append(functools.partial(self._end, *said))
        else:
            super()._tell(error, message)


@functools.cache
def _kind(name: str) -> type[Exception]:
    from confluent_kafka import KafkaException

    names = {"__module__": "confluent_kafka", "__qualname__": f"KafkaError.{name}"}
    return type(name, (KafkaException,), names)


def failure(error: Any) -> Exception:
    """Make an exception of what librdkafka says of a message: its class is named as the error is."""
    return _kind(str(error.name()))(error)


def instrument(patches: Patches, engine: Engine, producers: KafkaProducers, handles: Handles, kind: type) -> None:
    """Patch the producers' class."""
    patches.replace(kind, "__init__", functools.partial(_make_init, producers, handles))
    patches.replace(kind, "produce", functools.partial(_make_produce, engine, producers, handles))
    for name in ("poll", "flush", "close", "__exit__"):
        if hasattr(kind, name):
            patches.replace(kind, name, _calling_back(engine, handles))
    # What was aborted is never delivered: under the old ids its numbers would look lost.
    aborting = producers.aborting(lambda client: handles.of(client).sequences.renew())
    patches.replace(kind, "abort_transaction", aborting)


def _calling_back(engine: Engine, handles: Handles) -> Around:
    """Learn the cluster when the client has called back, and returns."""
    place = engine.guard.place("send.follow")

    def before(client: Any, _args: Any, _kwargs: Any) -> ProducerHandle:
        handle = handles.of(client)
        handle.callers[get_ident()] += 1
        return handle

    def after(client: Any, handle: ProducerHandle, _error: BaseException | None) -> None:
        handle.callers[get_ident()] -= 1
        if handle.callers[get_ident()] > 0:
            return
        del handle.callers[get_ident()]
        if handle.later:
            handle.learn_cluster(client)
        while handle.later:
            place.told(handle.later.popleft())

    return Around(engine.guard.place("client"), before, after)


def _make_init(producers: KafkaProducers, handles: Handles, original: Callable[..., Any]) -> Callable[..., Any]:
    place = producers.engine.guard.place("client")

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        given, options, made = args, kwargs, None
        try:
            made = with_lifetime(place, args, kwargs)
            given, options = made.args, made.kwargs
        except Exception:
            place.failed()
        if options:
            original(self, *given, **options)
        else:  # Even an empty dictionary is something else to it than none.
            original(self, *given)
        try:
            if made is not None and made.lifetime is not None:
                handles.new(self, made.lifetime).announce(made.conf, PRODUCES)
                producers.new(self, made.lifetime)
        except Exception:
            place.failed()

    return __init__


def _make_produce(  # noqa: C901 - what stands around one call, read in one place
    engine: Engine, producers: KafkaProducers, handles: Handles, original: Callable[..., Any]
) -> Callable[..., Any]:
    known, producer_of, begin = producers.by_id.get, producers.of, sender(engine, "produce")
    known_handle, handle_of = handles.by_id.get, handles.of
    beginning, following = engine.guard.place("send"), engine.guard.place("send.follow")

    def prepare(
        handle: ProducerHandle, sending: Sending, topic: str, partition: Any, callback: Any
    ) -> tuple[Given | None, _Delivered | None]:
        """Give it a number, and see whom its answer is for: None where nobody will tell of it."""
        named = partition if type(partition) is int and partition >= 0 else None
        numbered = handle.sequences.stamp(sending.headers, topic, named)
        theirs = handle.callback if callback is None else callback
        told = handle.known or theirs is not None
        if told and handle.only_errors:
            engine.guard.problem(
                "confluent_kafka.only_errors",
                "confluent-kafka: with delivery.report.only.error nothing tells of messages that are delivered: their "
                "spans end when they are queued, and failed ones count as sent",
            )
            told = False
        return numbered, _Delivered(engine, sending, theirs, handle, topic) if told else None

    def refused(handle: ProducerHandle, sending: Sending, prepared: _Prepared, error: BaseException) -> None:
        if prepared is not None:
            handle.sequences.settle(prepared[0], taken=False)
        failed(sending, error)

    def taken(handle: ProducerHandle | None, sending: Sending, prepared: _Prepared) -> None:
        if prepared is None or prepared[1] is None:
            sending.finish(None, None)
        elif handle is not None:
            handle.sequences.settle(prepared[0], taken=True)

    @functools.wraps(original)
    def produce(self: Any, *args: Any, **kwargs: Any) -> Any:
        given, options, handle, sending, prepared = args, kwargs, None, None, None
        try:
            try:
                message = _message(*args, **kwargs)
            except TypeError:
                message = None  # The client will refuse it, in its own words.
            if message is not None:
                topic, value, key, partition, callback, headers = message
                handle, pairs = known_handle(id(self)) or handle_of(self), headers and _pairs(headers)
                producer = known(id(self)) or producer_of(self)
                sending = begin(producer, topic, None if partition == -1 else partition, key, value, pairs)
                if sending is not None:
                    ready, ours = prepare(handle, sending, topic, partition, callback), sending.headers
                    given, options = _with(args, kwargs, ready[1], None if ours is pairs else ours)
                    prepared = ready
        except Exception:
            beginning.failed()
        try:
            result = original(self, *given, **options)
        except BaseException as error:
            if sending is not None:
                beginning.told(refused, handle, sending, prepared, error)
            raise
        try:
            if sending is not None:
                taken(handle, sending, prepared)
        except Exception:
            following.failed()
        return result

    return produce
