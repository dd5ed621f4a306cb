"""This package checks weights, codes and outputs by the parity contract and makes the verdict. It knows no runtime."""
