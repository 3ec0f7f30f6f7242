"""How a package of your own adds an architecture and methods to Expunge.

`specs` declares them and imports no torch; `centroids` is the architecture, `drop_class` and `scale_down` are the
methods.
"""
