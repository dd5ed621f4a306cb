"""The graph of a program while it is made: what is read from the program, what is written, and what stands between."""
