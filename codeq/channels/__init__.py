"""Channels that nothing reads, or that are the same for all inputs, go; what is computed stays."""
