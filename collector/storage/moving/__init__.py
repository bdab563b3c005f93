"""How do the rows of an SQLite file come into PostgreSQL, each once, and how is it known that all of them did?"""
