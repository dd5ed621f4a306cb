"""This package has the runtimes that open files: those that a backend is made for, and others that read its files."""
