"""The record over HTTP: events, chains, states, figures and named queries, read-only (S2-05, S1-08, S3-09)."""
