"""Turn a checkpoint into a bundle: a quantized ONNX graph that pools (needs [export])."""

from mirror_rt._extras import require

require("torch", "transformers", "onnx", "optimum", "onnxruntime", extra="export")
