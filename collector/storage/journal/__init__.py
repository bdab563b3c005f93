"""The keeper's verbs: what each operation does inside the transaction of its group."""
