"""Tests of flows: `*.test.yaml` documents whose cases run in memory, on emulated services, in virtual time.

`flowrun test` and the pytest plugin are two ways to the same: load a Suite, run its cases, look at the Outcomes.
"""

from engine.testing.flows.cases import Outcome, run_case
from engine.testing.flows.document import SUFFIX, FlowTests, schema_of_tests
from engine.testing.flows.suite import Suite

__all__ = ["SUFFIX", "FlowTests", "Outcome", "Suite", "run_case", "schema_of_tests"]
