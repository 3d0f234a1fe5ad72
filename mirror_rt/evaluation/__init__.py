"""Evaluate encoders and knowledge bases on standard tasks, by the usual conventions."""
