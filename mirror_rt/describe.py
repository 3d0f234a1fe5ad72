"""Describe a folder: a checkpoint, a bundle, a knowledge base or a folder of vectors.

Only manifests are read, unless ``verify`` is set. No model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mirror_rt._count import counted
from mirror_rt.bundle import Bundle
from mirror_rt.errors import InputError, ModelError
from mirror_rt.folders import MANIFEST, FolderKind, folder_kind
from mirror_rt.pooling_config import read_object, read_pooling

__all__ = ["describe"]


def describe(path: Path, *, verify: bool = False) -> dict[str, Any]:
    """Return the properties of a folder, as JSON types; ``kind`` comes first.

    Args:
        path: The folder.
        verify: Whether to read every file and compare it with its sha256.

    Raises:
        InputError: It is missing, a file, a folder of another kind, the folder of an unfinished
            run, or vectors with a missing or changed shard.
        BundleError: It is a bundle that is incomplete or has changed.
        KnowledgeBaseError: It is a knowledge base that is incomplete or has changed.
        ModelError: It is a checkpoint whose config cannot be read.
    """
    if not path.exists():
        raise InputError(f"{path}: no such folder")
    if not path.is_dir():
        raise InputError(
            f"{path}: is a file; info describes folders (for a knowledge-base file: "
            "mirror-rt kb stats)"
        )
    match folder_kind(path):
        case FolderKind.KNOWLEDGE_BASE:
            return _knowledge_base(path, verify=verify)
        case FolderKind.VECTORS:
            return _vectors(path, read_object(path / MANIFEST), verify=verify)
        case FolderKind.BUNDLE:
            return _bundle(path, verify=verify)
        case FolderKind.CHECKPOINT:
            return _checkpoint(path)
        case None:
            pass
    for left, run in ((".job", "mirror-rt embed"), ("state.json", "mirror-rt train with --resume")):
        if (path / left).exists():
            raise InputError(f"{path}: is not finished; run the same {run} again to continue")
    raise InputError(
        f"{path}: not a checkpoint, bundle, knowledge base or folder of vectors "
        f"(neither {MANIFEST} nor config.json is there)"
    )


def _bundle(path: Path, *, verify: bool) -> dict[str, Any]:
    bundle = Bundle.open(path, verify=verify)
    manifest = bundle.manifest
    return {
        "kind": "bundle",
        "path": str(path),
        "encoder": manifest.kind.value,
        "source": dict(manifest.source),
        "dim": manifest.dim,
        "pooling": manifest.pooling.value,
        "precision": manifest.precision.value,
        "max_length": manifest.max_length,
        "max_length_in": manifest.unit_of_length,
        "megabytes": _megabytes(bundle.path / name for name in manifest.files),
        "fingerprint": bundle.fingerprint,
        "quantization": dict(manifest.quantization),
        "accuracy_gate": dict(manifest.accuracy_gate),
        **({"features": dict(manifest.features)} if manifest.features else {}),
        "versions": dict(manifest.versions),
        "verified": verify,
    }


def _vectors(path: Path, content: Mapping[str, Any], *, verify: bool) -> dict[str, Any]:
    from mirror_rt.runtime.jobfolder import file_faults, read_manifest

    shards = read_manifest(path)
    files = [path / shard.name for shard in shards]
    lost = [f"{file}: is missing" for file in files if not file.is_file()]
    if faults := file_faults(path) if verify else lost:
        raise InputError(
            f"{faults[0]} ({len(faults)} of {counted(len(shards), 'shard')} faulty); "
            "run the same mirror-rt embed again, which makes only what is faulty"
        )
    about = {name: value for name, value in content.items() if name not in {"kind", "shards"}}
    return {
        "kind": "vectors",
        "path": str(path),
        **about,
        "shards": len(shards),
        "megabytes": _megabytes(files),
        "verified": verify,
    }


def _knowledge_base(path: Path, *, verify: bool) -> dict[str, Any]:
    from mirror_rt.knowledge import KnowledgeBase
    from mirror_rt.knowledge.storage.feedback import FeedbackLog

    log = FeedbackLog.read(path)
    with KnowledgeBase.open(path, verify=True if verify else None) as base:
        manifest, reranker = base.manifest, base.resources.reranker
        return {
            "kind": "knowledge base",
            "path": str(path),
            "content_type": manifest.content_type,
            "created_with": manifest.created_with,
            "counts": dict(manifest.counts),
            "index": dict(manifest.index),
            "probabilities": {
                "gold_links": int(reranker.fitted_on.get("gold_links", 0)),
                "decisions": int(reranker.fitted_on.get("decisions", 0)),
                "held_out_names": int(reranker.fitted_on.get("samples", 0)),
                "operating_points": [dict(point) for point in reranker.operating_points],
            },
            "feedback": {
                "files": len(log.batches),
                "gold_links": len(log.gold()),
                "names": sum(map(len, log.aliases().values())),
            },
            "dim": manifest.dim,
            "megabytes": _megabytes(p for p in path.rglob("*") if p.is_file()),
            "bundle": _bundle(path / "bundle", verify=verify),
            **({"names_bundle": dict(manifest.names_bundle)} if manifest.names_bundle else {}),
            "verified": verify,
        }


def _checkpoint(path: Path) -> dict[str, Any]:
    config = read_object(path / "config.json")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{path}: has a config.json but no safetensors weights")
    described: dict[str, Any] = {
        "kind": "checkpoint",
        "path": str(path),
        "architecture": config.get("model_type", "unknown"),
        "layers": config.get("num_hidden_layers", config.get("n_layers")),
        "dim": config.get("hidden_size", config.get("dim")),
        "megabytes": _megabytes(weights),
        "pooling": _pooling(path),
        "verified": False,  # no checksum is kept of it
    }
    if (path / "training.json").is_file():
        described["training"] = read_object(path / "training.json")
    return described


def _pooling(path: Path) -> str:
    if not (path / "modules.json").is_file():
        return "none of its own; export takes cls unless --pooling says otherwise"
    return read_pooling(path)[0].value


def _megabytes(files: Iterable[Path]) -> float:
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)
