"""How fast is this machine's collector: the project's own benchmark, each figure beside what it is to be judged by."""
