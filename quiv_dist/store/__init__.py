"""The store: the only part of the package that talks to Redis.

``keys`` catalogues what is stored, ``lua/`` holds one script an operation, ``partition`` calls
them in domain words, ``namespace`` opens a namespace, ``channels`` listens.
"""
