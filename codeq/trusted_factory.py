"""Give the function that builds a network: the one that the command line names, or that a trusted checkpoint names.

A file never chooses code to run by itself. `--trust-factory` is the user's word that this file may: the function that
`codeq.save(factory=...)` wrote into it, with its arguments, is imported as if `--model` had named it, and said.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from torch import nn

from codeq.checkpoint import read_factory
from codeq.errors import CheckpointError, CodeqError
from codeq.toolkit import cli

logger = logging.getLogger(__name__)


def factory_of(arguments: argparse.Namespace) -> Callable[[], nn.Module] | None:
    """Give the factory for `codeq.load`, by the flags of `cli.add_model_option`; None leaves it to the registry.

    Args:
        arguments: `checkpoint`, `model`, `model_args` and `trust_factory`.

    Raises:
        CodeqError: Both ways at once, or the function cannot be imported or called.
        CheckpointError: The file cannot be read, or names no function.
    """
    if not arguments.trust_factory:
        return cli.import_factory(arguments.model, arguments.model_args)
    if arguments.model is not None or arguments.model_args is not None:
        raise CodeqError("--trust-factory takes the function and its arguments from the checkpoint; leave --model out")
    source = Path(arguments.checkpoint)
    spec, keywords = read_factory(source)
    if spec is None:
        raise CheckpointError(f"{source}: names no function that builds its network; leave --trust-factory out")
    logger.warning("%s names %s, which is run as --trust-factory allows", source, spec)
    return cli.import_factory(spec, keywords or None)
