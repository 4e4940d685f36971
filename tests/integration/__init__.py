"""The whole way, on real servers."""
