"""This package compares files of one checkpoint in several runtimes, and names the kernel that makes them differ."""
