"""Plans of studies, expanded."""

import pytest
from small_study import write

from harness_plugin.study.graph import graph_of
from harness_plugin.study.plan import read_study


@pytest.fixture
def expand(tmp_path, plugins):
    """The graph of the plan with changes."""

    def made(**changes):
        return graph_of(read_study(write(tmp_path, **changes)), plugins)

    return made
