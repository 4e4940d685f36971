"""The way in: SDK, adapters (pure), connectors (I/O), emitter and fleet simulator. Imports only the contract."""
