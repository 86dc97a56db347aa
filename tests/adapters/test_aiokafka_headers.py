"""Any headers on aiokafka: nothing is raised that the client does not raise, nothing is withheld or reordered."""

from __future__ import annotations

import asyncio
import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import otel_pipeline
from tests.adapters.test_confluent_kafka_headers import NAMES, OURS, VALUES

aiokafka = pytest.importorskip("aiokafka")

pytestmark = pytest.mark.broker
BYTES = st.lists(st.tuples(NAMES, st.one_of(st.none(), st.binary(max_size=80))), max_size=6)
TEXTS = st.lists(st.tuples(NAMES.filter(lambda name: name.lower() not in OURS), VALUES), max_size=6)
"""This client takes no text as a value; of names that are ours, what it would not take is replaced before it sees it."""
ANYTHING = st.one_of(
    BYTES,
    TEXTS,
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.lists(
        st.one_of(st.tuples(NAMES, st.binary(max_size=9)), st.lists(st.binary(max_size=3), max_size=3), st.integers()),
        max_size=4,
    ),
    st.integers(),
    st.tuples(st.tuples(NAMES, VALUES)),
)
_TRIES = settings(max_examples=150, suppress_health_check=list(HealthCheck))


class Loop:
    """A client of each kind in a loop that hypothesis's examples share."""

    def __init__(self, address, topic):
        self.loop, self.topic = asyncio.new_event_loop(), topic
        self.producer, self.consumer = self.run(self._start(address))

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def _start(self, address):
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers=address)
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=address, fetch_max_wait_ms=5, auto_offset_reset="earliest"
        )
        await producer.start()
        await producer.partitions_for(self.topic)
        await consumer.start()
        consumer.assign([aiokafka.TopicPartition(self.topic, 0)])
        return producer, consumer

    def close(self):
        self.run(self.producer.stop())
        self.run(self.consumer.stop())
        self.loop.close()

    def sent(self, headers):
        """What becomes of a send: its answer's type, or the error."""

        async def send():
            return await (await self.producer.send(self.topic, b"a", partition=0, headers=headers))

        return self._outcome(send)

    def put_in(self, headers):
        """What becomes of a message that is put into a batch."""

        async def append():
            return self.producer.create_batch().append(timestamp=0, key=None, value=b"a", headers=headers)

        return self._outcome(append)

    def _outcome(self, call):
        try:
            return type(self.run(call()))
        except Exception as error:
            return type(error), str(error)


@pytest.fixture
def pipe(telemetry):
    telemetry.real_time()
    return telemetry.instrument(libraries=["aiokafka"])


@pytest.fixture
def clients(pipe, embedded, mock):
    made = Loop(embedded, mock.topic())
    yield made
    made.close()


def harmless(pipe):
    return not [place for place in pipe.status().errors if not place.startswith("header.")]


@pytest.mark.parametrize("way", ["sent", "put_in"])
def test_the_client_says_what_it_says_without_us(pipe, clients, way):
    """Whatever is given as headers, and it is given back unchanged."""

    @_TRIES
    @given(ANYTHING)
    def tried(headers):
        before, engine = copy.deepcopy(headers), pipe._engine
        ours = getattr(clients, way)(headers)
        engine.active = False
        bare = getattr(clients, way)(headers)
        engine.active = True
        assert (ours, headers) == (bare, before)

    tried()
    assert harmless(pipe)


@pytest.mark.parametrize("many", [False, True], ids=["getone", "getmany"])
def test_headers_arrive_in_their_order(pipe, clients, many):
    """Those of the application, byte for byte; whatever they are, the message has a span of its own."""

    async def received():
        if not many:
            return await clients.consumer.getone()
        found = {}
        while not found:
            found = await clients.consumer.getmany(timeout_ms=5_000)
        ((message,),) = found.values()
        return message

    async def there_and_back(headers):
        await clients.producer.send_and_wait(clients.topic, b"a", partition=0, headers=list(headers))
        message = await received()
        async with otel_pipeline.process(message):
            return message.headers

    @_TRIES
    @given(BYTES)
    def tried(headers):
        came = clients.run(there_and_back(headers))
        theirs = [(name, value) for name, value in came if name.lower() not in OURS]
        assert theirs == [(name, value) for name, value in headers if name.lower() not in OURS]

    tried()
    assert harmless(pipe)
