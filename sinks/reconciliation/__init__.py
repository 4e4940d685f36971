"""Reconciliation: the store against what bots keep themselves, live against paper, portfolios against sums (S3-11).

Pure comparisons of records that others read; ``stored`` reads those of ClickHouse.
"""
