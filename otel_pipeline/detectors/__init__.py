"""Whether the data is healthy: one file a detector, and the verdict over them. Knows no client library and no SDK."""
