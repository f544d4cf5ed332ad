"""The class that users subclass, and the encoding of values. Internal; import from `mesh`."""
