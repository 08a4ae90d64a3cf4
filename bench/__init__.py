"""The benchmark suite: this server beside the bare SDK, in one run, told as ratios of medians."""
