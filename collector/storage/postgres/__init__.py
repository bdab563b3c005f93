"""The second engine: several machines over one PostgreSQL. SQL of its own; no other room of storage but `rules`."""
