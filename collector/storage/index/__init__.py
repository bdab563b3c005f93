"""How a row is found by a key: the newest rows in memory, the index behind them, and how common values are."""
