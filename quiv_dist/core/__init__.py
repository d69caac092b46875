"""Pure scheduling rules: triggers, DST, misfire policy, retry maths. No I/O and no clock."""
