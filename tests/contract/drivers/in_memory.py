"""The example of a broker that is no Kafka (examples/in_memory_broker), by its own words: publish, receive, ack."""

from __future__ import annotations

from in_memory_broker import Broker, Publisher, Subscriber

from tests.contract.driver import Can

PATIENCE_S = 20


class Reader:
    def __init__(self, client):
        self.client, self._received = client, None

    def receive_one(self):
        self._received = self.client.receive(PATIENCE_S)
        return self._received

    def receive_many(self, count):
        return [self.receive_one() for _ in range(count)]

    def loop(self, handler, count, then=None):
        while (message := self.client.receive(PATIENCE_S)) is not None:
            handler(message)
            count -= 1
            if not count:
                break
        return then() if then else None

    def commit(self):
        self.client.ack(self._received)

    def close(self):
        self.client.close()


class InMemory:
    name = "the broker in memory of the example"
    library, system = "in-memory-broker", "in_memory"
    send_word, receive_word = "publish", "receive"
    names = ()
    can = Can(
        process_span="yes",
        loop_ends=False,
        handler_error="no",
        batches=False,
        sequence="destination",
        commit=True,
        commit_ahead=False,
        seek=False,
        pace=False,
        unreadable=False,
        cluster="no",
        groups=False,
        keys=False,
    )
    public = ((Publisher, "publish"), (Subscriber, "receive"), (Subscriber, "ack"), (Subscriber, "close"))

    def __init__(self, broker):
        self._names, self._broker, self._opened = broker, Broker(), []
        self._publisher = self._made(Publisher)

    def _made(self, kind, *arguments):
        self._opened.append(kind(self._broker, *arguments))
        return self._opened[-1]

    def topic(self, name="orders"):
        return self._names.topic(name)

    def send(self, topic, value, *, headers=None):
        return self._publisher.publish(topic, value, headers)

    def send_many(self, topic, values):
        for value in values:
            self.send(topic, value)

    def reader(self, topic, *, client_id=None, group=None):
        del group  # There are none.
        return Reader(self._made(Subscriber, topic, client_id))

    def inside(self, function):
        return function()

    def read(self, message, what):
        return getattr(message, {"value": "body", "offset": "number", "headers": "headers"}[what])

    def clients(self):
        return list(self._opened)

    def close_clients(self):
        for client in self._opened:
            client.close()
        self._opened.clear()
        self._publisher = None
        self._broker.topics.clear()

    close = close_clients
