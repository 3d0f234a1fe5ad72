"""Train an encoder from unlabelled strings or a knowledge base's own names.

Corpora, model cards and uploads need nothing but the base; what trains needs [train], which
``_stack`` asks for.
"""
