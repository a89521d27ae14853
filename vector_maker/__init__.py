"""The maker of the test vectors: requests, the mistakes that they catch, and the files.

``python -m revrnn.vector_maker FOLDER`` writes them.
"""
