"""Read the versions of what computes from package metadata, without importing any of it."""

from importlib.metadata import PackageNotFoundError, version

from codeq.version import __version__

LIBRARIES = ("torch", "onnxruntime")


def describe_versions() -> str:
    """Name our version and those of the libraries that are installed, e.g. "codeq 0.2.0, torch 2.13.0"."""
    parts = [f"codeq {__version__}"]
    for library in LIBRARIES:
        try:
            parts.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            parts.append(f"no {library}")
    return ", ".join(parts)


def installed_versions(*packages: str) -> dict[str, str]:
    """Give the version of each package, by the name it is imported by; what is not installed is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
