"""Say how to install what only some commands need: an extra of pyproject.toml.

From a clone, by its path: our distribution is not on the public registry, where `codeq` is another author's package.
"""


def install_hint(extra: str) -> str:
    """Give the command that installs an extra, e.g. "pip install '.[tflite]' in a clone of this project"."""
    return f"pip install '.[{extra}]' in a clone of this project"
