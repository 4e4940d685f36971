"""What a partition's state says of an instance, a position or an order, under the names of the record (S1-06, N-05).

Everything here looks at committed state and changes none of it; whatever folded it, live or again, it reads the same.
"""
