"""One page that tells what a run did: `report.html`, a single file that needs no network.

    results    the headline, the table, the replies, the reward model's accuracy, people
    refusals   how often each model refuses, by kind of prompt
    training   each stage and its curves
    chapters   what stands beside them: what they should look like
    watched    what was seen on validation prompts: reward hacking, if there is any
    labelers   whose votes the reward model learned from, and how far they agree
    rounds     what each of several rounds collected, and how stale the reward model was
    machine    the models in memory, versions and settings
    figures    charts as SVG
    markup     small pieces of HTML
    style.css  how it looks: on paper, on a phone, in the dark

A section without something to show is left out: of a base model from elsewhere there is no curve,
of held-out replies that all coincide no accuracy.  The same folder gives the same bytes.
"""

from importlib.resources import files
from pathlib import Path

from minirlhf.environment import read_peak
from minirlhf.files import read_object, write_text
from minirlhf.findings import algorithm, read_best, read_metrics, setting, titles_of
from minirlhf.labels import read_labels, summaries
from minirlhf.page import labelers, machine, refusals, results, rounds, training, watched
from minirlhf.page.markup import escaped
from minirlhf.report import comparison, read_accuracy, read_samples
from minirlhf.run import round_folder
from minirlhf.run_folder import no_run

CONTENTS = {"result": "Before and after", "replies": "The replies", "refusals": "Refusals",
            "base": "Base model", "sft": "Stage 1: SFT", "labelers": "The labelers",
            "reward": "Stage 2: reward model", "accuracy": "Held-out accuracy",
            "ppo": "Stage 3: PPO", "grpo": "Stage 3: GRPO", "rloo": "Stage 3: RLOO",
            "watching": "Watching", "rounds": "Rounds", "dpo": "Baseline: DPO",
            "people": "What people say", "memory": "Models in memory", "settings": "Settings"}
# No script, no network: the page shows what it holds, whatever text the data put into it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(folder: Path) -> Path:
    """Write runs/NAME/report.html from what the run folder holds.

    Raises FileNotFoundError if there is no such run, or if its models have not been asked the test
    prompts yet, ValueError if the replies of one of them are missing.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise no_run(folder)
    if not (folder / "samples.jsonl").exists():
        raise FileNotFoundError(f"{folder} has no samples.jsonl yet, from which a report is made; "
                                f"ask its models first: minirlhf evaluate {folder.name}")
    write_text(folder / "report.html", page_html(folder))
    return folder / "report.html"


def page_html(folder: Path) -> str:
    """The whole page, as text."""
    samples = read_samples(folder)
    accuracy = read_accuracy(folder)
    config = read_object(folder / "config.json")
    body = "\n".join(part for part in sections(folder, samples, accuracy, config) if part)
    title = f"minirlhf: {escaped(folder.name)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{files(__name__).joinpath("style.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<p class="eyebrow">A run of reinforcement learning from human feedback</p>
<h1>{title}</h1>
{results.headline_html(samples, accuracy, titles_of(config))}
{contents_html(body)}
</header>
<main>
{body}
</main>
<footer><p>Sentences in quotation marks are from the article “Reinforcement Learning from Human
Feedback (RLHF)” by Amit Shekhar.</p></footer>
</body>
</html>
"""


def sections(folder: Path, samples: list[dict], accuracy: dict[str, dict],
             config: dict) -> list[str]:
    """The sections in the order of the story; an empty text for each that has nothing to show."""
    metrics = read_metrics(folder)
    titles, place = titles_of(config), folder / "environment.json"
    environment = read_object(place) if place.exists() else {}
    stages = {stage: training.stage_html(chapter, metrics, config)
              for stage, chapter in training.chapters_of(config).items()}
    people = results.people_html(summaries(read_labels(folder / "labels.jsonl")), titles)
    return [results.table_html(samples, titles, read_best(folder)),
            results.replies_html(samples, titles), refusals.refusals_html(samples, titles),
            stages["pretraining"], stages["SFT"],
            labelers.labelers_html(folder, toy=not config.get("text")), stages["reward model"],
            results.accuracy_html(accuracy, setting(config, "rounds", 1)),
            stages[algorithm(config)],
            watched.watched_html(metrics, config, bests(folder, config)),
            rounds.rounds_html(folder, config, metrics, comparison(samples), titles),
            stages["DPO"], people,
            machine.memory_html(folder, config, environment, read_peak(folder)),
            machine.settings_html(config, environment)]


def bests(folder: Path, config: dict) -> dict[int, dict]:
    """{round: where its policy did best}."""
    last = setting(config, "rounds", 1)
    places = {1: folder} if last == 1 else {
        k: folder / round_folder(k) for k in range(1, last + 1)}
    found = {k: read_best(place) for k, place in places.items()}
    return {k: best for k, best in found.items() if best is not None}


def contents_html(body: str) -> str:
    """Links to the sections that the page has."""
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title in CONTENTS.items()
                    if f'<section id="{key}">' in body)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'
