"""The folder of a knowledge base: build it, check it, update it."""
