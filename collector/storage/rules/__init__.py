"""What both engines of storage decide alike: pure functions over rows, without a database."""
