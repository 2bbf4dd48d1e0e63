"""PyMongo's own test suite, directly and through the proxy."""
