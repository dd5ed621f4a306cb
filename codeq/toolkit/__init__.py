"""What every command needs and no network does: command lines, tables, files that appear whole."""
