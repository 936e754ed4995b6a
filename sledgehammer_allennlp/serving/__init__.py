"""A service: requests over HTTP, answered together, within a latency."""
