"""What every HTTP service here has in common: tokens, problems, the server's process."""
