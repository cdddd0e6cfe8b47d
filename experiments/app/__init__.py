"""What every command needs: its entry point, configuration, result folder and tracking."""
