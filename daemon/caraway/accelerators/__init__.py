"""Local copies of datasets as epochs and append-ordered logs (DESIGN section 3), one package an engine."""
