"""What happens to a message. Knows no client library and no SDK."""
