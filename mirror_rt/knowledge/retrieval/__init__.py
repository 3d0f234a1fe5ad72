"""Find candidate names: dense vectors, character trigrams, edit distance, exact keys."""
