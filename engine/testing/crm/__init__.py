"""The conformance kit of the CRM protocol (engine.CRM): each test is a rule that every CRM connector keeps.

A connector's author writes a CrmBench (how to reach a fresh CRM, and how to act as a person in it) and a class:

    class TestMyCrm(CrmConformance):
        @pytest.fixture
        def bench(self, tmp_path):
            return MyBench(tmp_path)

Everything goes through Connector.invoke with JSON, as in a flow. A hook that has no meaning for a CRM calls
does_not_apply(reason), and its rules are shown as skipped with that reason. This package needs pytest.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("bench", "upserts", "trouble", "reading")))

from engine import Connector  # noqa: E402 - failures show values only in modules that are imported after this
from engine.testing.crm.bench import CrmBench, does_not_apply  # noqa: E402
from engine.testing.crm.reading import ReadingRules  # noqa: E402
from engine.testing.crm.trouble import TroubleRules  # noqa: E402
from engine.testing.crm.upserts import UpsertRules  # noqa: E402

__all__ = ["CrmBench", "CrmConformance", "does_not_apply"]


class CrmConformance(UpsertRules, TroubleRules, ReadingRules):
    """All the rules. Each test's docstring says one."""

    @pytest.fixture
    def bench(self) -> CrmBench:
        """A CRM and what reaches behind it: the subclass gives its own."""
        pytest.fail("the subclass has to give a fixture `bench`", pytrace=False)

    @pytest.fixture
    def crm(self, bench: CrmBench) -> Connector:
        return bench.connect()
