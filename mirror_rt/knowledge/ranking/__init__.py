"""Score candidates: features, the reranker and what it learns from."""
