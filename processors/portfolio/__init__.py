"""Portfolios: instances looked at together, folded from what each event changes (P-02).

The worker of an instance's partition writes deltas to ``tradetape.portfolio``, where a portfolio has one partition.
Folding them there needs no other topic: a portfolio's figures are a function of the stored order of its deltas (G3).
"""
