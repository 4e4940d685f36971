"""Turtle's Postgres table ``events``, in the order of its transactions."""
