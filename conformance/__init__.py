"""The conformance suite: is a port of the specification right, and if not, where is it wrong first?

``python -m revrnn.conformance --help`` (CONF-001 … CONF-005).
"""
