"""The command line of mirror-rt, installed as ``mirror_rt_cli``: one file per command."""
