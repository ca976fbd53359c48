"""One page that tells what a run did: `report.html`, a single file that needs no network.

    results    the headline, the table, the replies, the reward model's accuracy, people
    training   each stage, its curves, and what they should look like
    machine    the four models in memory, versions and settings
    figures    charts as SVG
    markup     small pieces of HTML
    style.css  how it looks: on paper, on a phone, in the dark

A section without something to show is left out: of a base model from elsewhere there is no curve,
of held-out replies that all coincide no accuracy.  The same folder gives the same bytes.
"""

from importlib.resources import files
from pathlib import Path

from minirlhf.files import read_jsonl, read_object, write_text
from minirlhf.labels import read_labels, summaries
from minirlhf.page import machine, results, training
from minirlhf.page.markup import escaped
from minirlhf.report import read_accuracy, read_samples
from minirlhf.run_folder import no_run

CONTENTS = {"result": "Before and after", "replies": "The replies", "base": "Base model",
            "sft": "Stage 1: SFT", "reward": "Stage 2: reward model",
            "accuracy": "Held-out accuracy", "ppo": "Stage 3: PPO", "people": "What people say",
            "memory": "Four models", "settings": "Settings"}
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
    body = "\n".join(part for part in sections(folder, samples, accuracy) if part)
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
{results.headline_html(samples, accuracy)}
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


def sections(folder: Path, samples: list[dict], accuracy: dict[str, dict]) -> list[str]:
    """The sections in the order of the story; an empty text for each that has nothing to show."""
    metrics = optional(folder / "metrics.jsonl", [])
    config = read_object(folder / "config.json")
    stages = {chapter.key: training.stage_html(chapter, metrics, toy=not config.get("text"))
              for chapter in training.CHAPTERS}
    people = results.people_html(summaries(read_labels(folder / "labels.jsonl")))
    return [results.table_html(samples), results.replies_html(samples),
            stages["base"], stages["sft"], stages["reward"],
            results.accuracy_html(accuracy), stages["ppo"], people, machine.memory_html(folder),
            machine.settings_html(config, optional(folder / "environment.json", {}))]


def optional(path: Path, otherwise):
    """The rows or the object of a file; `otherwise` where the run has no such file."""
    if not path.exists():
        return otherwise
    return read_jsonl(path, "stage", "step") if path.suffix == ".jsonl" else read_object(path)


def contents_html(body: str) -> str:
    """Links to the sections that the page has."""
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title in CONTENTS.items()
                    if f'<section id="{key}">' in body)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'
