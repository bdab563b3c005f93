"""The one SQLite file and the index beside it: every SQL statement lives here."""
