"""Entities and their names: the catalogue and the arrays made of it."""
