"""The command line: ``PYTHONPATH=operator:hack:tests python -m performance --help``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from performance import runner
from performance.bench import comparison, parts
from performance.bench.content import content, merged
from performance.bench.report import report
from performance.ranges import out_of_range
from performance.runner import Outcome
from performance.scale.runs import measure_both
from support.operator_process import ROOT

BUILD = ROOT / "build"

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Measures asyncflow on local control planes."
)


@app.command()
def bench(
    part: Annotated[
        list[parts.Part] | None,
        typer.Option(help="What to measure again; may be given several times. By default, all."),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="Fewer objects, fewer runs: minutes.")] = False,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = BUILD / "bench.json",
) -> None:
    """Measure asyncflow beside bare Jobs on one control plane; write the figures as JSON."""

    async def measure() -> Outcome:
        old = runner.earlier(out) if part else {}
        figures = await parts.measure(part or list(parts.Part), BUILD / "bench", short=short)
        summary = figures.summary()
        form = "bench-short" if short else "bench"
        rejected = out_of_range(form, summary | figures.counts(), partial=bool(part))
        return Outcome(merged(old, content(figures, short=short)), summary, figures.wrong, rejected)

    runner.run(measure, out)


@app.command()
def scale(
    tasks: Annotated[int, typer.Option(min=270, help="How many tasks a run has.")] = 27_000,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = BUILD / "scale.json",
) -> None:
    """Run thousands of tasks; fail unless all of them ended as they had to, in order, within the limit."""

    async def measure() -> Outcome:
        figures = await measure_both(tasks, BUILD / "scale")
        shown = {name: value for name, value in figures.items() if name != "runs"}
        wrong = [line for run in figures["runs"] for line in run["wrong"]]
        return Outcome(figures, shown, rejected=wrong + out_of_range("scale", figures))

    runner.run(measure, out)


@app.command()
def compare(
    base: Annotated[str, typer.Argument(help="The commit to measure beside.")],
    part: Annotated[
        list[comparison.Part] | None,
        typer.Option(help="What to measure; may be given several times. By default, all."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often each operator is measured.")] = 3,
    objects: Annotated[int, typer.Option(help="Tasks of a run.")] = 900,
    tasks: Annotated[int, typer.Option(help="Tasks that wait while the operator starts.")] = 50_000,
    idle_seconds: Annotated[float, typer.Option(help="How long an idle operator is watched.")] = 60,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = BUILD / "compare.json",
) -> None:
    """Measure this operator beside that of another commit; write the figures as JSON."""
    amounts = comparison.Amounts(rounds, objects, tasks, idle_seconds)

    async def measure() -> Outcome:
        old = runner.earlier(out) if part else {}
        figures = await comparison.compare(part or list(comparison.Part), base, BUILD / "compare", amounts)
        return Outcome({**old, **figures}, figures)

    runner.run(measure, out)


@app.command("report")
def render_report(
    source: Annotated[Path, typer.Argument(help="What `bench` has written.")] = BUILD / "bench.json",
    target: Annotated[Path, typer.Argument(help="The page.")] = ROOT / "docs" / "benchmarks.md",
) -> None:
    """Render the page of the benchmarks from the figures of one run."""
    target.write_text(report(json.loads(source.read_text())))


if __name__ == "__main__":
    app()
