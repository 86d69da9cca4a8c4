"""What ``ranges.toml`` accepts."""

from performance.bench.figures import spread
from performance.ranges import Range, out_of_range, ranges


def test_each_run_counts_unless_one_value_is_named() -> None:
    runs = spread([0.3, 0.5, 0.5])
    assert not Range.of({"min": 0.4}).has(runs)
    assert not Range.of({"max": 0.4}).has(runs)
    assert Range.of({"min": 0.4, "by": "max"}).has(runs)
    assert Range.of({"min": 0.4, "max": 0.5, "by": "median"}).has(runs)
    assert not Range.of({"max": 0.4, "by": "median"}).has(runs)


def test_a_plain_number_is_the_only_one_accepted() -> None:
    assert Range.of(1).has(1)
    assert not Range.of(1).has(1.001)
    assert not Range.of(1).has(0.999)


def test_a_figure_out_of_range_is_named() -> None:
    figures = {name: accepted.min for name, accepted in ranges("scale-short").items()}
    assert out_of_range("scale-short", figures) == []
    (line,) = out_of_range("scale-short", {**figures, "shards": 3})
    assert line == "shards is 3, accepted is at least 4"
    (line,) = out_of_range("scale-short", {**figures, "failed": 28})
    assert line == "failed is 28, accepted is 27"


def test_a_figure_that_was_not_measured_is_not_accepted_unless_only_a_part_was() -> None:
    assert len(out_of_range("bench-short", {})) == len(ranges("bench-short"))
    assert out_of_range("bench-short", {}, partial=True) == []
