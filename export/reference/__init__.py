"""This package computes in PyTorch what integer kernels compute: one table of rules per runtime."""
