"""What acts back on the stream, by appending events to it and never by a side door (design, The way of an event).

The bridge copies a kill into every partition, and writes down when an instance falls silent. Operators' orders
(limits, kills, resets) take the same way: ``orders`` makes the records, ``broadcast`` sends them.
"""
