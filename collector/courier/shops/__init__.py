"""The pull: what a shop's webhooks have missed, read from its API. One module for each API."""
