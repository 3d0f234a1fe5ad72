"""Train an encoder from unlabelled strings or a knowledge base's own names (needs [train])."""

from mirror_rt._extras import require

require("torch", "transformers", "safetensors", "matplotlib", extra="train")
