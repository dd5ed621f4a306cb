"""The parity contract: checks of weights, codes and outputs, and the verdict. Knows no runtime."""
