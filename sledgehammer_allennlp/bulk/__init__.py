"""Bulk prediction: files in, files out, on one machine or many.

`command.py` has what a user types, `job.py` the order of events.
"""
