"""Pure mappings from a native record to a canonical event; what cannot be mapped becomes an UnmappedRecord."""
