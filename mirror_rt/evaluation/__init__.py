"""Judge an encoder or a knowledge base on tasks with known answers."""
