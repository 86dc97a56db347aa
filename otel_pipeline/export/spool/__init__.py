"""The write-ahead spool: a batch is on disk before it is sent, and is deleted once it has been taken."""
