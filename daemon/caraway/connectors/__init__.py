"""Where rows come from: one module or package for each `from:` prefix."""
