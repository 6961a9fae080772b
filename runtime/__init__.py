"""What every process needs: settings, keys, database, HTTP, telemetry, errors, ids. Imports nothing of ours."""
