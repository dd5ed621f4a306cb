"""Files of one checkpoint in several runtimes: what they compute, and which kernel makes them differ."""
