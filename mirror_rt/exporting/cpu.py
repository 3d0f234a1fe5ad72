"""The CPUs that a bundle can be made for; what they can do, the runtime knows."""

from mirror_rt.runtime.cpu import Target, host, multiplies_safely

__all__ = ["Target", "host", "multiplies_safely"]
