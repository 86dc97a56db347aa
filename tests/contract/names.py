"""Every driver, as module:class of tests/contract/drivers. A new client adds its line here."""

from __future__ import annotations

KAFKA = (
    "kafka_python:Iterator",
    "kafka_python:Poll",
    "kafka_python:Process",
    "aiokafka:AsyncFor",
    "aiokafka:Getmany",
    "aiokafka:SendBatch",
    "confluent_kafka:Polling",
    "confluent_kafka:Consuming",
    "confluent_kafka:Serializing",
    "confluent_kafka:Subclassing",
    "confluent_kafka:Awaiting",
    "confluent_kafka:AwaitingMany",
    "confluent_kafka:Sharing",
)
DRIVERS = (*KAFKA, "in_memory:InMemory")
