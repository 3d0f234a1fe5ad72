"""Ask for the stack of [train]; imported before torch, so that its lack is one sentence."""

from mirror_rt._extras import require

require("torch", "transformers", "safetensors", "matplotlib", extra="train")
