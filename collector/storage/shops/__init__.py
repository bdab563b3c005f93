"""The shop's own list of its orders, and what a pull, a file or a platform asks."""
