"""Fleets that run on quiv-dist and import its public names only.

``quickstart`` is for changing, ``fastapi_app`` is a web application with a WebSocket,
``housekeeping`` does real work on real input, and ``demo`` runs it and kills parts of it.
"""
