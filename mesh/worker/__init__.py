"""What users subclass, and what becomes of their values. Internal; import from `mesh`."""
