"""One file an inference library."""
