"""The machinery under every method: loop, checkpoints, logs, signals, schedule, device. It knows no method and no network."""
