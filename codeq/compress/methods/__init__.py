"""This package has one file for each method that chooses the codes of a layer without training."""
