"""A hook of mkdocs: links that leave docs/ lead to the repository, where it has an address, and else become plain text.

Pages link to the code that they speak of by relative paths, so that they work in a clone and on a forge. A site has no
code beside it.
"""

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page, given as Markdown.

    Args:
        markdown: Its text.
        page: It knows where it lies in docs/.
        config: Its `repo_url` is the repository's address.
        files: All that the site will hold.
    """
    docs = Path(config["docs_dir"])
    folder = PurePosixPath("docs") / PurePosixPath(page.file.src_uri).parent

    def rewritten(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = PurePosixPath(posixpath.normpath(folder / target))
        inside = path.parts[:1] == ("docs",)
        name = str(path.relative_to("docs")) if inside else ""
        if inside and (files.get_file_from_path(name) is not None or not (docs.parent / path).exists()):
            return link[0]  # of a page, or wrong, which mkdocs will say
        if inside and (page_of := files.get_file_from_path(f"{name}/README.md")) is not None:
            return f"[{text}]({target.rstrip('/')}/{PurePosixPath(page_of.src_uri).name}{anchor})"
        if config["repo_url"]:
            return f"[{text}]({config['repo_url'].rstrip('/')}/blob/main/{path}{anchor})"
        return text

    return LINK.sub(rewritten, markdown)
