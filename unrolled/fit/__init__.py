"""Classical score models fitted to n sequences, to set beside a trained network: `python -m unrolled.fit`."""
