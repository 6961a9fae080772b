"""The crossing to the cloud: clearance, sealing, transport, worker and providers. See docs/crossing.md."""
