"""The pages of `docs/reference` that are made from the code, so that they say what it does.

`pages.py` has the list of pages; `docs/extensions/reference.py` has them written when the site is
built.
"""
