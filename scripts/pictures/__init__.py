"""The pictures of the documentation, made by `python -m scripts.pictures`."""
