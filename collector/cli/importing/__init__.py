"""`collector import`: history out of a file, in the API's own field names, with its true times."""
