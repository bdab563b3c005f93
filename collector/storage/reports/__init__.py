"""The console's and the commands' questions. Only this package imports aiosqlite, and nothing here writes."""
