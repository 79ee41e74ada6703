"""Datasets in memory: Arrow IPC files on tmpfs, mapped by whoever reads them."""
