"""Laws of `minirlhf chat`: what is asked, what is remembered, what is shown, and how it ends."""

import os
import re
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import pair, write_rows
from hypothesis import example, given
from hypothesis import strategies as st
from test_chat_text import LINES

from minirlhf import chat, cli, evaluation
from minirlhf.chat import Chat, Flags, chosen, talk
from minirlhf.files import write_jsonl
from minirlhf.parameters import copy
from minirlhf.presets import text_settings
from minirlhf.rollout import score_replies
from minirlhf.run import Run
from minirlhf.run_folder import create, open_run
from minirlhf.settings import ModelSize, RunConfig
from minirlhf.stages.training import Stage, step_rng
from minirlhf.text import canonical_prompt, turns
from minirlhf.transformer import initialize, with_scalar_head

SKY = "what color is the sky ?"
ROOT = Path(__file__).parent.parent


def untrained(folder, config: RunConfig, *models: str) -> Run:
    """A run folder with random models, far enough from each other to say different things."""
    run = create(folder, replace(config, backend="numpy"))
    write_jsonl(folder / "prompts.jsonl", run.source.prompts())
    for i, name in enumerate(models):
        rng = step_rng(i, Stage.INITIALIZE)
        params = initialize(run.model, rng=rng)
        params.flat += 0.5 * rng.standard_normal(params.flat.shape).astype("float32")
        run.save(name, with_scalar_head(params, rng=rng) if name == "reward" else params)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def toy(runs):
    config = RunConfig(model=ModelSize(channels=8, heads=2, layers=1))
    return untrained(runs / "toy", config, "base", "sft", "reward", "policy")


@pytest.fixture(scope="module")
def people(runs):
    pytest.importorskip("tokenizers", reason="byte pairs want the extra: text")
    path = write_rows(runs / "pairs.jsonl", [pair(f"what is {i} ?", f"{i} it is") for i in
                                             range(30)])
    config = text_settings(path)
    config = replace(
        config, model=ModelSize(context=320, channels=8, heads=2, layers=1),
        text=replace(config.text, max_tokens=40, vocab_size=300),
        pretraining=replace(config.pretraining, window=32), ppo=replace(config.ppo, max_new=12))
    return untrained(runs / "people", config, "base", "sft", "reward", "policy")


@pytest.fixture(params=["toy", "people"])
def either(request):
    """A run in each of both worlds."""
    return request.getfixturevalue(request.param)


def opened(run, *models, width=None, **flags) -> Chat:
    return Chat(run, models or chosen(run, None), Flags(run.folder.name, **flags), lambda: width)


def says(run, *lines, **flags) -> list[str | None]:
    """What a new chat shows for each line."""
    session = opened(run, **flags)
    return [session.answer(line) for line in lines]


@pytest.fixture
def asked(monkeypatch):
    """(model's parameters, token ids) of every prompt that reaches the sampler."""
    seen, real = [], evaluation.sample

    def record(params, config, prompts, max_new, **more):
        seen.extend((params, list(prompt)) for prompt in prompts)
        return real(params, config, prompts, max_new, **more)

    monkeypatch.setattr(evaluation, "sample", record)
    return seen


@pytest.fixture
def replying(monkeypatch):
    """Makes models say what a test wants, replying(sft="hello"), and lists what each was asked."""
    def say(**replies):
        heard = []

        def reply(self, name, prompt):
            heard.append((name, prompt))
            return {"reply": replies[name], "ended": True, "length": 1, "score": 0.0}

        monkeypatch.setattr(Chat, "reply", reply)
        return heard
    return say


# --- randomness ----------------------------------------------------------------------------------

def test_the_same_seed_and_lines_give_the_same_chat(either):
    lines = [SKY, "/again", "nothing ?", "/prompts", SKY, "/temperature 0.5", "/again"]
    first = says(either, *lines)
    assert first == says(either, *lines)
    assert first != says(either, *lines, seed=1)
    assert len({first[0], first[1], first[4], first[6]}) == 4      # every answer has its own luck


def test_what_is_not_asked_of_the_models_uses_up_no_luck(either):
    assert says(either, SKY, SKY)[1] == says(either, SKY, "/prompts", "/foo", "", "/help", SKY)[-1]


def test_two_models_are_given_the_same_luck(toy, monkeypatch):
    session = opened(toy)
    session.models["policy"] = copy(session.models["sft"])
    left, right = session.answer(SKY).split("\n\n")
    assert left.replace("SFT", "PPO") == right


def test_at_temperature_0_a_reply_repeats(either):
    first, again, other = says(either, SKY, "/again", SKY, temperature=0, seed=3)
    assert first == again
    if either.source.simulated:                          # where nothing is remembered
        assert first == other == says(either, SKY, temperature=0)[0]


def test_a_new_temperature_holds_from_the_next_reply_on(toy):
    cold = says(toy, SKY, temperature=0)[0]
    first, told, second = says(toy, SKY, "/temperature 0", SKY)
    assert first != cold and second == cold and told == "the temperature is 0"
    assert says(toy, "/temperature") == ["the temperature is 1"]


def test_top_p_leaves_only_the_likeliest(toy):
    assert says(toy, SKY, top_p=1e-6) == says(toy, SKY, temperature=0)


# --- scores --------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["base", "sft", "policy"])
def test_the_score_shown_is_the_reward_models_of_prompt_and_reply(toy, name, monkeypatch):
    """Whatever was said: the score is read again from the tokens that were sampled."""
    sampled, real = [], evaluation.sample
    monkeypatch.setattr(evaluation, "sample",
                        lambda *args, **more: sampled.append(real(*args, **more)) or sampled[-1])
    session = opened(toy, name)
    shown = [session.answer(SKY if i == 0 else "/again") for i in range(3)]
    for text, samples in zip(shown, sampled, strict=True):
        reply = samples.tokens[0][samples.mask[0]].tolist()
        (score,) = score_replies(toy.load("reward"), toy.model,
                                 [toy.tokenizer.prompt(SKY) + reply])
        assert f"\nscore {score:+.2f}, {len(reply)} token" in text
        assert (" (did not finish)" in text) == (reply[-1] != toy.model.eos_id)
        assert toy.tokenizer.decode(reply) in text


def test_without_a_reward_model_there_is_no_score(tmp_path):
    run = untrained(tmp_path / "young", RunConfig(), "base", "sft")
    shown = opened(run, "base", "sft").answer(SKY)
    assert "score" not in shown and re.search(r"^\d+ tokens?$", shown, re.MULTILINE)
    assert "no reward model yet" in opened(run, "sft").greeting()


def test_the_truth_is_shown_on_demand_and_for_known_questions_only(toy):
    with_it, unknown, without = (says(toy, line, gold=gold)[0] for line, gold in (
        (SKY, True), ("the sky is", True), (SKY, False)))
    assert len(re.findall(r"gold [+-]\d\.\d\d, ", with_it)) == 2
    assert re.sub(r"gold [+-]\d\.\d\d, ", "", with_it) == without
    assert "gold" not in unknown


# --- what is asked -------------------------------------------------------------------------------

def test_the_base_model_continues_plain_text_and_says_so(toy, asked):
    session = opened(toy, "base", "sft")
    shown = session.answer(SKY)
    assert [ids for _, ids in asked] == [toy.tokenizer.encode(SKY), toy.tokenizer.prompt(SKY)]
    assert "base, continuing plain text\n" in shown and "SFT\n" in shown
    assert "continues what you write" in session.greeting()
    assert "continues what you write" not in opened(toy).greeting()


def test_each_question_of_the_toy_world_stands_alone(toy, asked):
    shown = says(toy, SKY, SKY, "/new", "/again")
    assert {tuple(ids) for _, ids in asked} == {tuple(toy.tokenizer.prompt(SKY))}
    assert len(asked) == 6 and "nothing to forget" in shown[2]


def test_on_peoples_data_each_model_hears_its_own_replies(people, replying):
    heard = replying(sft="I am sft", policy="Me ?\nAssistant: policy .")
    session = opened(people)
    session.answer("hello")
    session.answer("why ?")
    assert heard == [
        ("sft", "hello"), ("policy", "hello"),
        ("sft", "hello\n\nAssistant: I am sft\n\nHuman: why ?"),
        ("policy", "hello\n\nAssistant: Me ?\n\nAssistant: policy .\n\nHuman: why ?")]


def test_what_was_said_reaches_the_model(people, asked):
    session = opened(people, "sft")
    session.answer("hello")
    (_, reply), = session.said["sft"]
    session.answer("why ?")
    prompt = canonical_prompt(f"hello\n\nAssistant: {reply}\n\nHuman: why ?")
    assert [ids for _, ids in asked] == [people.tokenizer.prompt(text)
                                         for text in ("hello", prompt)]


def test_again_takes_the_place_of_the_last_reply(people, asked):
    session = opened(people, "sft")
    for line in ("hello", "why ?", "/again"):
        session.answer(line)
    assert asked[1][1] == asked[2][1]
    assert [question for question, _ in session.said["sft"]] == ["hello", "why ?"]


def test_a_new_conversation_starts_from_nothing(people, asked):
    shown = says(people, "hello", "why ?", "/new", "hello", "/new", "/again")
    sft = [ids for _, ids in asked][::2]
    assert sft[0] == sft[2] != sft[1]
    assert "anew" in shown[2] and "nothing was asked yet" in shown[5]


def test_the_oldest_turns_are_forgotten_when_the_context_is_full_and_it_is_told(people, replying):
    heard = replying(sft="short", policy="a reply of many more words")
    session = opened(people)
    shown = [session.answer(f"say {i} things") for i in range(12)]
    told = [re.findall(r"\((.*) forgot the oldest (\d+) turns", text) for text in shown]
    assert told[0] == [] and ("PPO", "2") in sum(told, [])
    for name, title in (("sft", "SFT"), ("policy", "PPO")):
        prompts = [prompt for who, prompt in heard if who == name]
        assert max(len(people.tokenizer.prompt(p)) for p in prompts) + session.max_new <= 320
        lost = sum(int(n) for names, n in sum(told, []) if title in names)
        assert len(turns(prompts[-1])) == 2 * 12 - 1 - lost > 1
        assert turns(prompts[-1])[0] == ("Human", f"say {lost // 2} things")


def test_a_line_that_is_too_long_gets_one_line_and_changes_nothing(either):
    session = opened(either)
    session.answer(SKY)
    before = session.asked, session.said, session.count
    shown = session.answer("the sky is blue . " * 40)
    assert "tokens too long" in shown and "\n" not in shown
    assert (session.asked, session.said, session.count) == before


def test_the_longest_reply_is_the_runs_unless_another_is_given(toy, asked):
    assert opened(toy).max_new == toy.config.ppo.max_new
    shown = says(toy, SKY, max_new=1)[0]
    assert shown.count(", 1 token") == 2


# --- any line ------------------------------------------------------------------------------------

@given(line=LINES | st.text(alphabet="/agiantempru 0.5\n") | st.sampled_from(chat.HELP.split()),
       width=st.none() | st.integers(1, 150))
@example(line="/temperature -1", width=None)
@example(line="\ud800", width=80)
@example(line="Human:", width=80)
@example(line="Human:\nAssistant:", width=80)
def test_any_line_gets_an_answer_or_one_friendly_line(toy, people, line, width):
    for run in (toy, people):
        session = opened(run, "base", "policy", width=width, max_new=2)
        shown = session.answer(line)
        if shown is None:
            assert line.strip() == "/quit"
        elif session.count == 0 and "/help" not in line and "/prompts" not in line and not width:
            assert "\n" not in shown
        for text in (shown or "").split("\n") if width else ():
            assert len(text) <= width
        assert session.answer(SKY)                       # and the chat goes on


def test_help_names_every_command_and_each_is_there(either):
    (told,) = says(either, "/help")
    commands = re.findall(r"^/\w+", told, re.MULTILINE)
    assert len(commands) == 6
    for name in set(commands) - {"/quit"}:
        shown = says(either, SKY, name)[1]
        assert shown and "no command" not in shown
    assert says(either, "/quit") == [None]
    assert says(either, "/foo bar") == ["there is no command /foo; /help lists them"]


def test_the_prompts_shown_are_held_out_and_can_be_asked(either):
    split = {row["prompt"]: row["split"] for row in either.source.prompts()}
    shown = says(either, "/prompts")[0].split("\n")
    assert {split[text] for text in shown} == {"test"}
    assert all("score" in one for one in says(either, *shown))


def test_a_run_without_its_list_of_prompts_still_talks(tmp_path):
    run = untrained(tmp_path / "bare", RunConfig(), "sft")
    (run.folder / "prompts.jsonl").unlink()
    shown = says(run, SKY, "/prompts", "/again")
    assert "token" in shown[0] and "token" in shown[2] and "no prompts.jsonl" in shown[1]


# --- the loop ------------------------------------------------------------------------------------

def scripted(run, *lines, **more) -> list[str]:
    """What is written while these lines are typed, the end of the input after them."""
    waiting, written = list(lines), []

    def read():
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    talk(opened(run), read, written.append, **more)
    return written


def test_a_session_answers_line_by_line(either):
    written = scripted(either, SKY, "", "   ", "/foo", "/again")
    assert written == [text + "\n" for text in says(either, SKY, "/foo", "/again")]


def test_quit_ends_it(toy):
    assert scripted(toy, "/quit", SKY) == []
    assert len(scripted(toy, SKY, " /quit ", SKY)) == 1


@pytest.fixture
def interrupted(monkeypatch):
    """The first reply is interrupted, half of it having been made."""
    real, calls = Chat.reply, []

    def reply(self, name, prompt):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, name, prompt)

    monkeypatch.setattr(Chat, "reply", reply)


def test_an_interrupted_reply_leaves_no_trace(either, interrupted, monkeypatch):
    written = scripted(either, SKY, SKY, "why is the sky ?")
    monkeypatch.undo()
    assert written[0] == "\n(interrupted)\n"
    assert written[1:] == scripted(either, SKY, "why is the sky ?")


def test_piped_lines_end_with_the_first_interruption(toy, interrupted):
    with pytest.raises(KeyboardInterrupt):
        scripted(toy, SKY, SKY, person=False)


@pytest.mark.parametrize("key", [EOFError, KeyboardInterrupt])
def test_a_key_in_place_of_a_line_ends_the_input(key, monkeypatch, capsys):
    def pressed(sign):
        raise key

    monkeypatch.setattr("builtins.input", pressed)
    with pytest.raises(EOFError):
        chat.typed_line()
    assert capsys.readouterr().out == "\n"


# --- which models --------------------------------------------------------------------------------

@pytest.mark.parametrize("made, wanted", [
    ((), ("base",)), (("base",), ("base",)), (("base", "sft"), ("sft",)),
    (("base", "sft", "reward"), ("sft",)), (("base", "sft", "policy"), ("sft", "policy")),
    (("policy",), ("policy",))])
def test_the_models_that_answer_unless_others_are_named(made, wanted, toy, tmp_path):
    run = Run(tmp_path / "some", toy.config)
    for name in made:
        (run.folder / name).mkdir(parents=True)
        (run.folder / name / "model.safetensors").touch()
    assert chosen(run, None) == wanted


def test_one_model_or_two_may_be_named_in_any_order(toy):
    assert chosen(toy, "policy") == ("policy",) and chosen(toy, "policy,base") == ("policy", "base")
    shown = opened(toy, "policy", "base").answer(SKY)
    assert shown.index("PPO") < shown.index("base")


def test_the_greeting_says_who_answers_and_what_the_score_is(toy, people):
    told = opened(toy).greeting()
    for words in (str(toy.folder), "SFT and PPO", "/help", "/prompts", "325 words",
                  "0 is the mean of SFT replies"):
        assert words in told
    assert "until /new" in opened(people).greeting() and "words" not in opened(people).greeting()


# --- the command ---------------------------------------------------------------------------------

@pytest.mark.parametrize("argv, told", [
    ("none", "there is no run"), ("toy --models ppo", "unknown model 'ppo'; choose"),
    ("toy --models sft,reward", "unknown model 'reward'"), ("toy --models=", "unknown model ''"),
    ("toy --models sft,sft", "two different ones, got sft,sft"),
    ("toy --models base,sft,policy", "two different ones, got base,sft,policy"),
    ("young --models sft,policy", "has no policy/ model yet; run the stage that makes it first"),
    ("toy --temperature -1", "from 0.01 to 100, got -1.0"),
    ("toy --temperature nan", "from 0.01 to 100, got nan"),
    ("toy --top-p 0", "top-p must lie in (0, 1], got 0.0"), ("toy --seed -1", "got -1"),
    ("toy --max-new 46", "max-new must lie between 1 and 45"),
    ("toy --max-new 0", "max-new must lie between 1 and 45"),
    ("people --gold", "only the toy world knows the truth"),
    ("toy --backend torch", "unknown backend 'torch'")])
def test_a_mistake_is_one_line_and_status_2(argv, told, runs, toy, people, capsys):
    if not (runs / "young").exists():
        untrained(runs / "young", RunConfig(), "base", "sft")
    name, *flags = argv.split()
    assert cli.main(["chat", name, "--out", str(runs), *flags]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("minirlhf: ") and err.count("\n") == 1 and told in err and out == ""


@pytest.mark.parametrize("argv, told", [(["chat"], "name of the run to talk to"),
                                        (["chat", "toy", "--temperature", "warm"], "'warm'")])
def test_flags_that_cannot_be_read_are_explained(argv, told, capsys):
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert told in err and "minirlhf chat --help" in err and err.count("\n") == 1


def test_an_interrupted_chat_is_not_told_to_be_resumed(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(chat, "command", interrupted)
    assert cli.main(["chat", "toy"]) == 130
    assert capsys.readouterr().err == "\nminirlhf: interrupted\n"


def test_help_lists_the_flags(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["chat", "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    for flag in ("--models", "--temperature", "--max-new", "--top-p", "--seed", "--gold", "--out"):
        assert flag in shown


def test_a_run_opens_with_its_own_settings_but_for_the_given(toy):
    assert open_run(toy.folder).config == toy.config
    assert open_run(toy.folder, seed=7).config == replace(toy.config, seed=7)


def program(folder, *argv) -> list[str]:
    return [sys.executable, "-m", "minirlhf.cli", "chat", *argv, "--out", str(folder)]


ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "80",
                            "PYTHONIOENCODING": "utf-8", "TERM": "dumb"}


def test_piped_lines_get_answers_and_nothing_else(runs, either):
    lines = ["What color is the sky ?", "/again", "/foo"]
    done = subprocess.run(program(runs, either.folder.name), input="\n".join(lines).encode(),
                          capture_output=True, env=ENVIRONMENT)
    assert done.returncode == 0 and done.stderr == b""
    wanted = [text + "\n\n" for text in says(either, *lines)]
    assert done.stdout.decode() == "".join(wanted)


def test_bytes_that_are_no_text_do_not_end_it(runs, either):
    done = subprocess.run(program(runs, either.folder.name), input=b"what \xff\xfe ?\n/foo\n",
                          capture_output=True, env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stderr == b"" and b"no command /foo" in done.stdout


def test_a_person_at_a_terminal_is_greeted_and_sees_two_columns(runs, toy):
    pty = pytest.importorskip("pty", reason="a terminal of our own wants Unix")
    ours, theirs = pty.openpty()
    screen = ""

    def read_until(mark):
        nonlocal screen
        while not screen.endswith(mark):
            assert select.select([ours], [], [], 60)[0], f"no {mark!r} came after {screen!r}"
            screen += os.read(ours, 4096).decode().replace("\r\n", "\n")

    with subprocess.Popen(program(runs, "toy"), stdin=theirs, stdout=theirs, stderr=theirs,
                          env=ENVIRONMENT) as process:
        read_until("\n> ")
        greeting, screen = screen, ""
        os.write(ours, f"{SKY}\n".encode())
        read_until("\n> ")
        os.write(ours, b"\x04")                          # Ctrl-D
        assert process.wait() == 0
    os.close(ours)
    os.close(theirs)
    session = opened(toy, width=80)
    assert greeting == session.greeting() + "\n\n> "
    shown = session.answer(SKY)
    assert re.match(r"SFT {38}PPO\n", shown) and f"{SKY}\n{shown}\n\n> " == screen
