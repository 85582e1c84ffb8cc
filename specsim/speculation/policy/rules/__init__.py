"""The rules of deciders that learn, compiled: one a policy, see ``policy.learning``."""
