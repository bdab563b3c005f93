"""The one writer: commits what the edges ask for, matches, fills the outbox, keeps the index. It has no network."""
