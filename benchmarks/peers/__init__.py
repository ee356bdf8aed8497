"""One trainer each, ours among them: runs a job in this process and prints one JSON line of what was measured (job.py).

The peers' runners are started with their own environment's Python or packages, where no module of `swift/` is to be found.
"""
