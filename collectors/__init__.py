"""Makers of ensembles: from torch, scikit-learn, arrays and files.

They may import `inpca`, never the reverse.
"""
