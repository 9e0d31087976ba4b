"""The embedded default: the three services in one process on loopback."""
