"""From mentions to results: exact match, retrieval, reranking, context, NIL."""
