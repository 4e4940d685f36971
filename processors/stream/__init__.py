"""The shell around the core: Faust, Kafka, batches. It moves bytes and decides nothing about them."""
