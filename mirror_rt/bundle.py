"""Read and check a bundle: the folder that export or distil writes and the runtime reads.

This module never imports torch, onnx or onnxruntime. docs/bundle-format.md describes the layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mirror_rt.errors import BundleError
from mirror_rt.folders import MANIFEST
from mirror_rt.hashing import is_unchanged, sha256_file, write_checked_json
from mirror_rt.types import BundleKind, Pooling, Precision

__all__ = [
    "BUNDLE_FORMAT_VERSION",
    "FEATURES",
    "MANIFEST",
    "MODEL",
    "PROJECTION",
    "SCALES",
    "STARTER",
    "STARTER_NOTE",
    "TABLE",
    "TOKENIZER",
    "Bundle",
    "Manifest",
    "seal",
]

BUNDLE_FORMAT_VERSION = 1
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
TABLE = "table.npy"
SCALES = "scales.npy"
FEATURES = "features.npy"
PROJECTION = "projection.npy"
STARTER = Path(__file__).resolve().parent / "starter"
"""The bundle in the package; its card is in the same folder."""
STARTER_NOTE = (
    "no bundle given: using the encoder that comes with mirror-rt (static, English names); acc@1 "
    ".282 on ESCO job titles and .993 on misspelled places, where all-MiniLM-L6-v2 as a bundle has "
    ".307 and .995: make one with mirror-rt export, or fit a student to your names with "
    "mirror-rt distil"
)
"""The message when it is used; the numbers come from ``benchmarks/results/students.json``."""
_RENAMED = {"quantisation": "quantization"}
"""Fields of a manifest that earlier versions wrote under another name."""
_NEEDED = {BundleKind.ONNX: (MODEL, TOKENIZER), BundleKind.STATIC: (TABLE, SCALES, FEATURES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The manifest of a bundle.

    Attributes:
        dim: Width D of a vector.
        pooling: How the graph turns token states into one vector; ``MEAN`` for a static encoder.
        max_length: Maximum length of an input: in tokens, including special tokens; for a static
            encoder in characters. The rest is cut off.
        precision: How the weights are stored.
        files: sha256 (hex) of every other file of the folder, by relative POSIX path.
        unit_norm: Whether the graph's rows have length 1.
        opset: ONNX opset of the graph.
        source: The exported model: name or folder name, and the sha256 of its weights.
        quantization: The recipe of an integer export; empty for fp32.
        accuracy_gate: The measurements of the export against full precision.
        versions: Package versions of the export.
        kind: Whether a graph or a table computes the vectors.
        features: The kinds of features of a static encoder; empty for a graph.
        format_version: Version of this layout.
    """

    dim: int
    pooling: Pooling
    max_length: int
    precision: Precision
    files: Mapping[str, str]
    unit_norm: bool = True
    opset: int = 0
    source: Mapping[str, str] = field(default_factory=dict)
    quantization: Mapping[str, Any] = field(default_factory=dict)
    accuracy_gate: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    kind: BundleKind = BundleKind.ONNX
    features: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = BUNDLE_FORMAT_VERSION

    @property
    def unit_of_length(self) -> str:
        """The unit of ``max_length``."""
        return "characters" if self.kind is BundleKind.STATIC else "tokens"

    def write(self, path: Path) -> None:
        """Write the manifest as JSON with a checksum; equal content gives equal bytes."""
        content = asdict(self) | {"pooling": self.pooling.value, "precision": self.precision.value}
        if self.kind is BundleKind.ONNX:
            # Without this field, as in older versions, for their readers.
            del content["kind"], content["features"]
        else:
            content["kind"] = self.kind.value
        write_checked_json(path, content)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            BundleError: It is missing, not JSON, has a newer format, belongs to another kind of
                folder, has changed since it was written, or lacks a value.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BundleError(
                f"{path.parent}: not a bundle (no {path.name}); make one with: mirror-rt export"
            ) from error
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: cannot be read ({error}); export again") from error
        kinds = {kind.value for kind in BundleKind}
        if isinstance(content, dict) and content.get("kind", "onnx") not in kinds:
            kind = str(content["kind"])
            article = "" if kind == "vectors" else "a "
            raise BundleError(
                f"{path.parent}: is {article}{kind}, not a bundle; "
                "name the folder that mirror-rt export wrote"
            )
        version = content.get("format_version") if isinstance(content, dict) else None
        if not isinstance(version, int):
            raise BundleError(f"{path}: not the manifest of a bundle (no format_version)")
        if version > BUNDLE_FORMAT_VERSION:
            raise BundleError(
                f"{path.parent}: bundle format {version}, this version reads up to "
                f"{BUNDLE_FORMAT_VERSION}; run: pip install -U mirror-rt"
            )
        # A manifest from before checksums is accepted.
        if "manifest_sha256" in content and not is_unchanged(content):
            raise BundleError(
                f"{path}: changed since it was exported (sha256 differs); export again"
            )
        known = {f.name for f in fields(cls)}
        try:
            values = {_RENAMED.get(name, name): value for name, value in content.items()}
            values = {name: value for name, value in values.items() if name in known}
            values["pooling"] = Pooling(values["pooling"])
            values["precision"] = Precision(values["precision"])
            values["kind"] = BundleKind(values.get("kind", BundleKind.ONNX.value))
            return cls(**values)
        except (KeyError, ValueError, TypeError) as error:
            raise BundleError(f"{path}: incomplete manifest ({error}); export again") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A checked bundle folder."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Bundle:
        """Read a bundle folder and compare every file with its sha256.

        Args:
            path: The folder.
            verify: Whether to read and hash every file (about 1 ms per MB).

        Raises:
            BundleError: It is not a bundle, has a newer format, or a file is missing or has
                changed since the export.
        """
        folder = Path(path)
        if not folder.exists():
            raise BundleError(f"{folder}: no such folder; make a bundle with: mirror-rt export")
        manifest = Manifest.read(folder / MANIFEST)
        for name in _NEEDED[manifest.kind]:
            if name not in manifest.files:
                raise BundleError(f"{folder}: the manifest does not list {name}; export again")
        for name, expected in manifest.files.items():
            file = folder / name
            if not file.is_file():
                raise BundleError(f"{folder}: {name} is missing; export again")
            if verify and sha256_file(file) != expected:
                raise BundleError(
                    f"{file}: changed since it was exported (sha256 differs); export again"
                )
        return cls(path=folder, manifest=manifest)

    @property
    def fingerprint(self) -> str:
        """One hex sha256 over all files and settings: equal fingerprints give equal vectors."""
        listing = "".join(f"{sha}  {name}\n" for name, sha in sorted(self.manifest.files.items()))
        manifest = self.manifest
        listing += (
            f"{manifest.dim} {manifest.pooling.value} {manifest.unit_norm} "
            f"{manifest.max_length} {manifest.precision.value}\n"
        )
        if manifest.kind is BundleKind.STATIC:
            listing += json.dumps(manifest.features, sort_keys=True) + "\n"
        return hashlib.sha256(listing.encode()).hexdigest()

    @property
    def named(self) -> dict[str, str]:
        """The name, if it is known, and the fingerprint."""
        name = self.manifest.source.get("name", self.path.name)
        return {"name": name, "fingerprint": self.fingerprint}

    @property
    def model_path(self) -> Path:
        """The ONNX graph."""
        return self.path / MODEL

    @property
    def tokenizer_path(self) -> Path:
        """The fast tokenizer."""
        return self.path / TOKENIZER


def seal(folder: Path, manifest: Manifest) -> Bundle:
    """Write the manifest, the last file of a folder.

    Args:
        folder: A staging folder with all other files.
        manifest: The manifest; its ``files`` are replaced by the checksums of these files.

    Returns:
        The bundle.

    Raises:
        OSError: A file cannot be read, or the manifest cannot be written.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    sums = {p.relative_to(folder).as_posix(): sha256_file(p) for p in files}
    manifest = replace(manifest, files=sums)
    manifest.write(folder / MANIFEST)
    return Bundle(path=folder, manifest=manifest)
