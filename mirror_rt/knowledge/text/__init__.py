"""Strings: normalization, match levels, abbreviations, composite mentions."""
