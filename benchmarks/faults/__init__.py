"""The battery of faults: damage, kills, full disks, bad settings, odd names and injections (`python -m benchmarks.faults`)."""
