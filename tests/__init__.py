"""The test suite; the rest of the tree mirrors the packages it tests."""
