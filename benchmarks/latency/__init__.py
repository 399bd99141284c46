"""What latencies are compared with: themselves, a slowdown of a known size, and other tools."""
