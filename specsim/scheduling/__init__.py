"""What a scheduler does, without a clock: shared by the simulator and the reference engine."""
