"""The labeler's bench at a reduced size: it runs, both paths answer alike, and the prefix cache does what it should.

How fast it is says `make bench-labeler`.
"""

import pytest

from tests.bench.labeler import Workload, measure


@pytest.mark.vllm
@pytest.mark.timeout(600)
async def test_bench_measures_every_path_and_the_prefix_cache_hits() -> None:
    report = await measure("microworld:weak", Workload(n_items=512, n_rounds=1, n_items_slow=64))
    for name in ("served_over_offline", "embedded_over_offline", "single_prompt_over_offline"):
        assert report[name] > 0
    assert report["block_tokens"] == 288
    assert 1.0 <= report["prefill_over_ideal"] <= 1.1
    # A block of 300 tokens: 288 are whole blocks of the cache, 12 are computed for each item of 40.
    unaligned = report["unaligned"]
    assert unaligned["block_tokens"] == 300
    assert 1.25 <= unaligned["prefill_over_ideal"] <= 1.35
    assert unaligned["prefill_over_cache_ideal"] <= 1.1
