"""What stands between the sockets and an application: deadlines, budgets and framing, for the edge and the console."""
