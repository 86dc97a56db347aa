"""Counts what tells whether the data is healthy: one file per detector. Knows no client library and no SDK."""
