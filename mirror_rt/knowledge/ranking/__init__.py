"""Score candidates: features, the reranker and its learning."""
