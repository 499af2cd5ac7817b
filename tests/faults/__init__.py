"""Whole systems that are hurt while they work, by a schedule that a seed decides."""
