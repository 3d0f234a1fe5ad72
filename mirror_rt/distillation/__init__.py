"""Make small encoders of large ones: a table of features in closed form (numpy and scipy)."""
