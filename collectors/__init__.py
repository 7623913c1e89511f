"""Makers of ensembles: from torch, scikit-learn, arrays and files. May import `inpca`, never the reverse."""
