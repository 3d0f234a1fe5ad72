"""Check that [train] is installed; imported before torch, to give one clear error."""

from mirror_rt._extras import require

require("torch", "transformers", "safetensors", "matplotlib", extra="train")
