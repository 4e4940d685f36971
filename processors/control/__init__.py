"""Limits and the kill switch: what operators ordered, and whether the fleet keeps to it (S4-06).

Orders come in as control records of ``tradetape.events``, copied into every partition, so that each partition's fold
knows which limits held and which kills were active at every event (G3).
"""
