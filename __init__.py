"""The checkout read as one package, for tools that follow imports by path.

An installation has ``spec`` in this place, and the folders beside this file within it: so
``..native`` in ``torch_impl`` is the folder ``native`` both here and there. Nothing imports this
file, and no wheel holds it.
"""
