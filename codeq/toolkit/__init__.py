"""This package holds what every command needs and no network does: command lines, tables, files that appear whole."""
