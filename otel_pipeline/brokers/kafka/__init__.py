"""Apache Kafka: one file for each client, and what any of them needs."""
