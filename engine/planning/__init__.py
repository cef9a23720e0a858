"""What a run would do, without doing it: reads are performed, everything else is foreseen."""

from engine.planning.planner import Plan, Planned, plan

__all__ = ["Plan", "Planned", "plan"]
