"""Model packages: manifest, writer, reader and verification of a directory."""

from mambasdk.package.manifest import FORMAT, MANIFEST_FILE, FileEntry, Manifest, is_package
from mambasdk.package.reader import load, load_processors
from mambasdk.package.verification import VerifyReport, verify
from mambasdk.package.writer import save_package

__all__ = [
    "FORMAT",
    "MANIFEST_FILE",
    "FileEntry",
    "Manifest",
    "VerifyReport",
    "is_package",
    "load",
    "load_processors",
    "save_package",
    "verify",
]
