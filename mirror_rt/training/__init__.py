"""Train an encoder from unlabeled strings or a knowledge base's own names.

Corpora, model cards and uploads need only the base install. Training needs [train], which
``_stack`` checks.
"""
