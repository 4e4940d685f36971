"""The HTTP gateway: canonical events by ``POST /v1/events``, answered once they are kept (S3-01, S3-05, P-07)."""
