"""Embed strings with a bundle: onnxruntime, tokenizers and numpy only."""
