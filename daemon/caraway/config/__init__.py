"""spicepod.yaml as frozen values."""
