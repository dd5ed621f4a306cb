"""This package feeds damaged and crafted files to the commands that read files: each must end in one line, soon, and
within bounds of memory.
"""
