"""These tuples name the methods of compression and the ways to equalise, for a command that answers before PyTorch is
loaded."""

METHODS = ("rounding", "obq", "exact_obs", "gpfq", "spfq", "spfq_sign", "adaround", "sqs")
EQUALISE = ("none", "rows", "weights", "activations")
