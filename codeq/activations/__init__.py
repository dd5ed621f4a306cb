"""Activations as uint8 codes: where they are quantized, their ranges, scales that train."""
