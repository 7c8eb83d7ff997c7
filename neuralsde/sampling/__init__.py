"""Ring 2: samplers of noising processes, from noise back to data."""
