"""This table says why well-known operators have no lowering: refusals and docs/litert_operators.md quote it.

A name is aten's. `NO_OPERATOR`: neither LiteRT has it, nor a short formula of what it has; `DYNAMIC`: the shape of its
result depends on values, which a file of fixed shapes cannot hold; `RANDOM`: it draws random numbers; `NOT_WRITTEN`:
LiteRT could compute it, and nobody has written the lowering yet.
"""

from collections.abc import Mapping

NO_OPERATOR = "LiteRT has no such operator"
DYNAMIC = "the shape of its result depends on values"
RANDOM = "it draws random numbers"
NOT_WRITTEN = "not written yet"
VOLUMES = "LiteRT has operators on volumes for CONV_3D alone, whose padding is not PyTorch's"
OTHER_PIXELS = "LiteRT's resizing has no such weights"

REASONS: Mapping[str, str] = {
    "adaptive_avg_pool3d": VOLUMES,
    "adaptive_max_pool3d": VOLUMES,
    "all": NOT_WRITTEN,
    "any": NOT_WRITTEN,
    "atan2": NOT_WRITTEN,
    "avg_pool3d": VOLUMES,
    "bernoulli": RANDOM,
    "bincount": DYNAMIC,
    "cdist": NO_OPERATOR,
    "col2im": NO_OPERATOR,
    "conv3d": VOLUMES,
    "conv_transpose3d": VOLUMES,
    "cumprod": NO_OPERATOR,
    "embedding_bag": NO_OPERATOR,
    "erf": NO_OPERATOR,
    "erfinv": NO_OPERATOR,
    "fft_rfft": NO_OPERATOR,
    "floor_divide": NOT_WRITTEN,
    "fmod": NOT_WRITTEN,
    "grid_sampler": NO_OPERATOR,
    "index_put": "it writes to computed places",
    "logcumsumexp": NO_OPERATOR,
    "masked_select": DYNAMIC,
    "max_pool3d": VOLUMES,
    "multinomial": RANDOM,
    "nonzero": DYNAMIC,
    "rand": RANDOM,
    "randn": RANDOM,
    "remainder": NOT_WRITTEN,
    "scatter": "it writes to computed places",
    "scatter_add": "it writes to computed places",
    "tril": "of computed values; a constant mask is taken",
    "triu": "of computed values; a constant mask is taken",
    "unique_consecutive": DYNAMIC,
    "upsample_bicubic2d": OTHER_PIXELS,
    "upsample_nearest3d": VOLUMES,
    "upsample_trilinear3d": VOLUMES,
}
