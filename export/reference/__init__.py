"""What integer kernels compute, in PyTorch: one table of rules per runtime."""
