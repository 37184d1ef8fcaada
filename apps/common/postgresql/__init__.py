"""Django's backend for PostgreSQL, whose kept connections are checked without asking the server."""
