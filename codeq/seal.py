"""A seal is the digest of a whole file, written behind it as the comment of a zip: no byte of it can change unseen.

CRCs cover the records of a zip and content_digest.py what is made of them; between records, and in the zip's own
tables, a damaged disk could still change what nothing reads today. It finds damage, not forgery, as all digests do that
lie beside what they cover. Every reader of zips passes over comments, torch and older releases of this package too.
"""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

END_OF_ZIP = b"PK\x05\x06"
END_BYTES = 22
"""Of the last record of a zip without a comment; its last two bytes are the comment's length."""
MARK = b"codeq sha256 "
DIGEST_BYTES = 64
SEAL_BYTES = len(MARK) + DIGEST_BYTES
BLOCK_BYTES = 2**20


def seal(file: IO[bytes]) -> None:
    """Write the seal behind a zip, in place.

    Args:
        file: The zip, open for reading and writing.

    Raises:
        ValueError: The file is no zip, or has a comment.
    """
    end = file.seek(0, 2)
    file.seek(max(end - END_BYTES, 0))
    record = file.read()
    if len(record) != END_BYTES or not record.startswith(END_OF_ZIP) or record[-2:] != b"\0\0":
        raise ValueError("no zip without a comment")
    file.seek(end - 2)
    file.write(struct.pack("<H", SEAL_BYTES) + MARK)
    digest = _digest(file, end + len(MARK))
    file.seek(end + len(MARK))
    file.write(digest)


def is_sealed(path: Path) -> bool | None:
    """Say whether a file is as it was when it was sealed; None where it has no seal.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        length = file.seek(0, 2) - DIGEST_BYTES
        if length < len(MARK):
            return None
        file.seek(length - len(MARK))
        if file.read(len(MARK)) != MARK:
            return None
        return file.read() == _digest(file, length)


def _digest(file: IO[bytes], length: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    for block in _blocks(file, length):
        digest.update(block)
    return digest.hexdigest().encode()


def _blocks(file: IO[bytes], length: int) -> Iterator[bytes]:
    while length > 0 and (block := file.read(min(length, BLOCK_BYTES))):
        length -= len(block)
        yield block
