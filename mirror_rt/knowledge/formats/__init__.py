"""Read a knowledge base in any of its formats, one small reader a format."""
