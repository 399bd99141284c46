"""What latency figures are held against: themselves, a slowdown of a known size, and the clocks of other tools."""
