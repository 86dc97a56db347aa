"""A batch that the application loops over: each step of its loop has one message in hand.

What a client returns is handed on as a `DrivenList`. While a `for` goes over it, the step of the loop is the current
OpenTelemetry context, which is filled when somebody looks: a send, a model call, a log line, another instrumentation.
Nobody looks, no span. The step itself is the context, and not a span in it that moves on: a task or a thread that was
started in a step keeps the step, and so its message, when the loop has gone on (docs/design/spans.md, "A loop over a
batch").
"""

from __future__ import annotations

from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, SupportsIndex

from opentelemetry import context as _api
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from otel_pipeline.engine import event_loop
from otel_pipeline.engine.current_context import attach, get_current
from otel_pipeline.engine.delivery import execution, give_up

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from otel_pipeline.engine.clients import Consumer, PartitionState
    from otel_pipeline.engine.delivery import OpenDelivery
    from otel_pipeline.engine.engine import Engine
    from otel_pipeline.engine.guard import Place
    from otel_pipeline.engine.messages import Message, MessageFields
    from otel_pipeline.engine.processor import Processor

    Execution = tuple[int, int]

# What says whether to record at all is asked before anybody looks; a step changes nothing about it.
_ASKED_FIRST = frozenset(
    {_api._SUPPRESS_INSTRUMENTATION_KEY, _api._SUPPRESS_HTTP_INSTRUMENTATION_KEY, "suppress_instrumentation"}
)
_PATIENCE_S = 1.0
"""How long to wait for another thread that looks at the same loop: a hook of the application may hold it up."""


def _setter() -> Callable[[Context], object]:
    """Return what makes a context current: the variable's own `set`, which spares two calls for each step."""
    runtime = _api._RUNTIME_CONTEXT
    variable = getattr(runtime, "_current_context", None)
    return variable.set if type(runtime) is ContextVarsRuntimeContext and variable is not None else attach


class LoopStep(Context):
    """The context of one message in a loop. Its own dictionary stays empty: all is read from what it stands for."""

    __slots__ = ("began_ns", "delivery", "drive", "ended_ns", "here", "message", "own")

    drive: Drive
    message: Message
    own: Context | None
    """What it stands for, once somebody has looked."""
    delivery: OpenDelivery | None
    began_ns: int
    ended_ns: int
    """When the loop went on, monotonic; 0 before."""
    here: Execution | None
    """Where the loop runs; None where it has left the step behind, and what still runs there keeps it."""

    def _context(self) -> Context:
        if self.ended_ns and self.here == execution():
            return self.drive.before  # Left behind by its own loop, as `zip` over two batches does: as if it were gone.
        own = self.own
        return self.drive.look(self) if own is None else own

    @property
    def below(self) -> Context | None:
        """What is current without it, as long as nobody has looked; None after that."""
        return self.drive.before if self.own is None else None

    # All that reads a dictionary. `__iter__` is also what keeps `{**step}` from reading the step's own, empty, one.

    def get(self, key: str, default: Any = None) -> Any:
        """Look, unless it is asked whether anything is to be recorded."""
        return (self.drive.before if key in _ASKED_FIRST else self._context()).get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self._context()[key]

    def __contains__(self, key: object) -> bool:
        return key in (self.drive.before if key in _ASKED_FIRST else self._context())

    def __iter__(self) -> Iterator[str]:
        return iter(self._context())

    def __len__(self) -> int:
        return len(self._context())

    def keys(self) -> Any:
        """Look."""
        return self._context().keys()

    def items(self) -> Any:
        """Look."""
        return self._context().items()

    def values(self) -> Any:
        """Look."""
        return self._context().values()

    def copy(self) -> dict[str, Any]:
        """Look; returns a plain dictionary, as `set_value` wants it."""
        return dict(self._context().items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<a message in hand, {'looked at' if self.own is not None else 'not looked at'}>"


class Drive:
    """One loop over a batch: what all its steps share."""

    __slots__ = ("_consumer", "_drives", "_elsewhere", "_lock", "before", "step")

    def __init__(self, drives: Drives, consumer: Consumer) -> None:
        self._drives, self._consumer = drives, consumer
        self._lock = RLock()
        self._elsewhere: dict[Execution, LoopStep] = {}
        """Of an iterator that several tasks or threads share: what each of the others has in hand."""
        self.before = get_current()
        self.step: LoopStep | None = None

    def look(self, step: LoopStep) -> Context:
        """Begin the step's message, as of when the step began; returns the context that the step stands for."""
        if not self._lock.acquire(timeout=_PATIENCE_S):
            return self.before
        try:
            if step.own is None:
                step.own = self.before  # For a hook that looks while the span begins.
                self._begin(step)
            return step.own
        finally:
            self._lock.release()

    def _begin(self, step: LoopStep) -> None:
        drives, current, before, delivery = self._drives, get_current(), self.before, None
        try:
            state = drives.state_of(self._consumer, step.message)
            if state is None or drives.place.off:
                return
            attach(before)
            try:
                delivery = drives.begin(state, step.message, False, step.began_ns)
            finally:
                attach(current)
            if delivery is None:
                return
            delivery.told_by_batch, delivery.before, delivery.execution = True, before, step.here
            own = step.own = delivery.own
            step.delivery = delivery
            if step.ended_ns:
                # A task or thread of the step looks when the loop has gone on: the message was handled until then.
                delivery.started_ns += drives.now() - step.ended_ns
                drives.finish(delivery)
            if current is step:
                attach(own)  # What is asked next is a plain dictionary.
        except BaseException:
            drives.place.failed(_lose, step, delivery)

    def moved(self, here: Execution, there: Execution) -> None:
        """Go on in another task or thread; what was in hand here stays so until this one asks for the next."""
        if self.step is not None:
            self._elsewhere[here] = self.step
        self.step = self._elsewhere.pop(there, None)

    def end(self, step: LoopStep, now_ns: int) -> None:
        """End a step: the loop goes on, or is left."""
        step.ended_ns = now_ns
        delivery = step.delivery
        if delivery is not None:
            self._drives.finish(delivery)

    def is_here(self) -> bool:
        """Tell whether the running thread and task has taken the last message."""
        return self.step is not None and self.step.here == execution()

    def leave(self) -> None:
        """End the loop. Safe to call twice and from another thread; raises nothing but what is the application's."""
        try:
            self._consumer.loops.discard(self)
            self._leave(self._drives.now(), execution())
        except BaseException:
            self._drives.place.failed(self._abandon)

    def _leave(self, now_ns: int, here: Execution) -> None:
        if self.step is not None and self.step.here is not None and self.step.here != here:
            self.moved(self.step.here, here)
        for other in self._elsewhere.values():
            if other.here is not None and other.here[1]:
                other.here = None  # A task has still to handle it, and takes its context with it when it ends.
            self.end(other, now_ns)
        self._elsewhere.clear()
        step = self.step
        if step is not None:
            self.end(step, now_ns)
            if get_current() is step:
                attach(_standing(self.before, step.here))
            self.step = None

    def _abandon(self) -> None:
        """Leave what could not be ended as usual."""
        step, self.step = self.step, None
        for each in (*self._elsewhere.values(), step):
            if each is not None:
                each.ended_ns = each.ended_ns or each.began_ns
                _lose(each, each.delivery)
        self._elsewhere.clear()


def _lose(step: LoopStep, delivery: OpenDelivery | None) -> None:
    """Leave a message that could not be begun or ended."""
    step.own = step.drive.before
    if delivery is not None:
        give_up(delivery)
    if get_current() is step:
        attach(step.own)


def _standing(context: Context, here: Execution | None) -> Context:
    """Return the context, or what is below it where it is a step that was left behind."""
    while type(context) is LoopStep and context.ended_ns and context.here == here:
        context = context.drive.before
    return context


def _steps(
    plain: Iterator[Message],
    drive: Drive,
    here: Execution,
    set_current: Callable[[Context], object],
    now: Callable[[], int],
    place: Place,
) -> Generator[Message, None, None]:
    try:
        try:
            for message in plain:
                try:
                    if get_ident() != here[0] or event_loop.running_loop() is not None:
                        there = execution()
                        if there != here:
                            drive.moved(here, there)
                            here = there
                    began_ns, left = now(), drive.step
                    if left is not None:  # As `Drive.end`: each step comes through here.
                        left.ended_ns = began_ns
                        if left.delivery is not None:
                            drive.end(left, began_ns)
                    step = LoopStep()
                    step.drive, step.message, step.here = drive, message, here
                    step.own = step.delivery = None
                    step.began_ns, step.ended_ns = began_ns, 0
                    drive.step = step
                    set_current(step)
                except Exception:
                    place.failed()
                yield message
        finally:
            try:
                drive.leave()
            except Exception:
                place.failed()
    except BaseException:
        drive.leave()  # Once more, for what comes right before that.
        raise


class DrivenList(list[Any]):
    """What a client has returned; a `for` over it has each message in hand. All else is the list's own.

    Copies and slices of it are plain lists.
    """

    __slots__ = ("_consumer", "_drives")

    _drives: Drives
    _consumer: Consumer

    def __iter__(self) -> Iterator[Any]:
        try:
            drives = self._drives
            if not drives.place.off and drives.engine.active:
                drive = Drive(drives, self._consumer)
                self._consumer.loops.add(drive)
                plain = list.__iter__(self)
                return _steps(plain, drive, execution(), drives.set_current, drives.now, drives.place)
        except Exception:
            self._drives.place.failed()
        return list.__iter__(self)

    def __reduce_ex__(self, _protocol: SupportsIndex) -> Any:
        return list, (self[:],)

    def __copy__(self) -> list[Any]:
        return self[:]


class Drives:
    """Makes driven lists of what one library's consumers return.

    Args:
        is_message: tells messages from what the library returns in their place, such as errors; None: all are.
    """

    __slots__ = (
        "_destination",
        "_is_message",
        "_partition",
        "begin",
        "engine",
        "finish",
        "now",
        "place",
        "set_current",
    )

    def __init__(
        self,
        engine: Engine,
        fields: MessageFields,
        processor: Processor,
        is_message: Callable[[Message], bool] | None = None,
    ) -> None:
        self.engine = engine
        self.begin, self.finish, self.now = processor.begin, processor.finish, engine.monotonic_ns
        self.place = engine.guard.place("batch.loop")
        self.set_current = _setter()
        self._destination, self._partition = fields.destination, fields.partition
        self._is_message = is_message

    def driven(self, consumer: Consumer, messages: list[Any]) -> list[Any]:
        """Return the messages as a list that a loop drives; the same list where nothing is to be done. Never raises."""
        try:
            if (
                type(messages) is not list
                or consumer.excluded
                or self.place.off
                or not self.engine.active
                or self.engine.settings.batches == "plain"
            ):
                return messages
            made = DrivenList(messages)
            made._drives, made._consumer = self, consumer
        except Exception:
            self.place.failed()
            return messages
        return made

    def state_of(self, consumer: Consumer, message: Message) -> PartitionState | None:
        """Return the state of the message's partition; None for what was not counted as a message."""
        if self._is_message is not None and not self._is_message(message):
            return None
        return consumer.partitions.get((self._destination(message), self._partition(message)))


def leave_loops(consumer: Consumer, *, of_task: bool = False) -> None:
    """End the loops over what the consumer has returned before: the application asks for more, or closes.

    `of_task`: those of the running task alone, where several tasks share the consumer.
    """
    for drive in tuple(consumer.loops):
        if not of_task or drive.is_here():
            drive.leave()
