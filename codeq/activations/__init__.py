"""This package turns activations into uint8 codes: it decides where, chooses their ranges, and trains their scales."""
