"""Find the line of the user's code that a node of a traced network comes from."""

import re
from pathlib import Path

import torch
from torch.fx import Node

FRAME = re.compile(r'File "([^"]+)", line (\d+)')
LIBRARY = str(Path(torch.__file__).parent)


def source_line(node: Node) -> str:
    """Name the file and line that a node was computed in, e.g. "net.py, line 14"; "" where the trace kept none.

    It is the innermost one outside of torch, whose own layers say nothing about the network.
    """
    frames: list[tuple[str, str]] = FRAME.findall(node.meta.get("stack_trace") or "")
    for path, line in reversed(frames):
        if not path.startswith(LIBRARY):
            return f"{Path(path).name}, line {line}"
    return ""
