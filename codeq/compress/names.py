"""This tuple names the methods of compression, for a command that answers before PyTorch is loaded."""

METHODS = ("rounding", "obq", "exact_obs", "gpfq", "spfq", "spfq_sign", "adaround", "sqs")
