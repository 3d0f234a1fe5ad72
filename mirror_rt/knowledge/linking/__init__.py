"""Link mentions, as many as a file holds."""
