"""One file a broker client: which methods are patched, and how its messages are read."""
