"""Entities and their names: the catalogue, and arrays made from it."""
