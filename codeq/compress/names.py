"""These tuples name the methods of compression, the ways to equalise and what activations may be, for a command that
answers before PyTorch is loaded."""

METHODS = ("rounding", "obq", "exact_obs", "gpfq", "spfq", "spfq_sign", "adaround", "sqs")
EQUALISE = ("none", "rows", "weights", "activations")
ACTIVATIONS = ("float", "int8")
