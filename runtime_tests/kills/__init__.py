"""Kill commands while they write, run them again, and see that no file is broken, lost or left over."""
