"""Locks that threads share, in a process that may fork."""

import os
import threading


def fork_safe_lock() -> "threading.RLock":
    """
    A lock that a forking thread holds meanwhile: a child that is forked while another thread has it
    would wait forever for a thread that the child does not have.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock
