"""The real Kafka, Collector and Java agent, for tests. Development only, standard library only, POSIX only."""
