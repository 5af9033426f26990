"""How fast the embedded street is planned and rendered, on one core."""

import pytest

from protocols.crosswalk import SIZES, Dials, plan
from protocols.crosswalk.develop import jpeg
from protocols.crosswalk.scene import compose, photograph
from protocols.crosswalk.walks import Street

STREET = Street(0, Dials())


@pytest.mark.benchmark(group="street")
def test_plan_market(benchmark):
    assert len(benchmark(plan, SIZES["market"], 0, Dials())) == 61295


@pytest.mark.benchmark(group="street")
def test_render_200_market_images(benchmark):
    shots = plan(SIZES["market"], 0, Dials())[::300][:200]

    def render_all():
        for shot in shots:
            scene = compose(STREET, shot)
            jpeg(photograph(STREET, shot, scene), scene.view.quality)

    benchmark.pedantic(render_all, rounds=5, warmup_rounds=1)
