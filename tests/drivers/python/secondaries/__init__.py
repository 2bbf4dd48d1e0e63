"""Reads from secondaries of a three-member set."""
