"""The contract: schemas, catalogue, rules, codec and registry. Imports nothing else of ours."""
