"""`collector install`: the program as a service of this machine."""
