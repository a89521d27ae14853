"""The engine that runs the kernels of :mod:`revrnn.gpu`; imported only where it is used."""
