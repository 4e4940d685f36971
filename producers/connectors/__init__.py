"""Reading native stores: records with positions, handed to an adapter, sent, and remembered when acknowledged."""
