"""The upstream primary is lost under load."""
