"""`make bench`: the numbers the README quotes, as ratios taken in one run on one machine. Writes tests/bench.json.

python tests/bench.py            # all of them, about twenty minutes on 2 cores
python tests/bench.py trl        # one of: imports, trl, lesson, board, vocabulary, generation, ways, labelling, sweeps, spinning,
                                 # speculation
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS, BATCH = 60, 128


def imports() -> dict:
    """`import labkit` against bare Python, as whole processes, alternating."""

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - began

    pairs = [(seconds("import labkit"), seconds("pass")) for _ in range(9)]
    return {"import labkit over bare Python, s": statistics.median(a - b for a, b in pairs)}


def trl() -> dict:
    """Questions trained a second: this engine, cached and live, against TRL's GKDTrainer on the same rows, order and loss."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch

    from labkit import models
    from labkit.records import events as ev
    from labkit.records.experiment import Experiment
    from labkit.tasks.atlas.facts import Atlas
    from labkit.teachers.signals import POOL_SEED, Signals
    from labkit.training.batches import Feed
    from labkit.training.loop import Run

    exp, world = Experiment(steps=STEPS, batch=BATCH, questions=STEPS * BATCH, learning_rate=4e-3), Atlas("half")
    pool = Signals(models.teacher(exp.teacher), world.questions(exp.questions, POOL_SEED))
    list(pool.prepare(range(exp.questions)))
    feed = Feed(exp, (), pool, models.tokenizer())
    order = [row for _ in range(STEPS) for row in feed.next_rows(BATCH, 0.0)[0]]  # the very rows of every step

    def ours(signals: str) -> tuple[float, float]:
        run = Run(exp.but(signals=signals))
        stamps, first = [], 0.0
        for event in run:
            if isinstance(event, ev.Step):
                stamps.append((event.step, event.seconds))
                first = first or event.values["loss"]
                if event.step == 19:  # before the first exam, which TRL does not take
                    break
        (a, s), (b, t) = stamps[2], stamps[-1]
        return (b - a) * BATCH / (t - s), first

    def theirs() -> tuple[float, float]:
        from datasets import Dataset
        from transformers import PreTrainedTokenizerFast
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        rows = [{"prompt": pool.prompt(i), "answer": pool.answer(i)} for i in order]

        def collate(batch: list[dict]) -> dict:
            """As lean as a collator can be: ids are ready, rows are padded to the longest of the batch."""
            width = max(len(r["prompt"]) + len(r["answer"]) for r in batch)
            ids, seen, labels = [], [], []
            for r in batch:
                full = r["prompt"] + r["answer"]
                ids.append(full + [models.EOS] * (width - len(full)))
                seen.append([1] * len(full) + [0] * (width - len(full)))
                labels.append([-100] * len(r["prompt"]) + r["answer"] + [-100] * (width - len(full)))
            return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(seen), "labels": torch.tensor(labels)}

        class Sequential(GKDTrainer):
            def _get_train_sampler(self, *args, **kwargs):
                return torch.utils.data.SequentialSampler(self.train_dataset)

            def training_step(self, *args, **kwargs):
                loss = super().training_step(*args, **kwargs)
                losses.append(float(loss))
                stamps.append(time.perf_counter())
                return loss

        stamps: list[float] = []
        losses: list[float] = []
        path = models.data_dir() / "tokenizers" / "atlas.json"
        token = PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token="<eos>", pad_token="<eos>", bos_token="<eos>")
        token.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        with tempfile.TemporaryDirectory() as folder:
            args = GKDConfig(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                max_steps=STEPS,
                lmbda=0.0,
                beta=0.0,
                learning_rate=4e-3,
                report_to=[],
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                logging_steps=1000,
                save_strategy="no",
                disable_tqdm=True,
                max_length=64,
            )
            trainer = Sequential(
                model=models.student(exp.student, exp.seed),
                teacher_model=models.teacher(exp.teacher),
                args=args,
                train_dataset=Dataset.from_list(rows),
                processing_class=token,
                data_collator=collate,
            )
            trainer.train()
        return (len(stamps) - 3) * BATCH / (stamps[-1] - stamps[2]), losses[0]

    speeds: dict[str, list[float]] = {"trl": [], "cached": [], "live": []}
    first = {}
    for _ in range(3):
        for name, measure in (("trl", theirs), ("cached", lambda: ours("cached")), ("live", lambda: ours("live"))):
            speed, first[name] = measure()
            speeds[name].append(speed)
    middle = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "questions/s TRL GKDTrainer": middle["trl"],
        "questions/s cached": middle["cached"],
        "questions/s live teacher": middle["live"],
        "cached / TRL": statistics.median(a / b for a, b in zip(speeds["cached"], speeds["trl"], strict=True)),
        "live / TRL": statistics.median(a / b for a, b in zip(speeds["live"], speeds["trl"], strict=True)),
        "first loss TRL": first["trl"],
        "first loss live, difference": abs(first["live"] - first["trl"]),
        "first loss cached, difference": abs(first["cached"] - first["trl"]),
    }


def large(way: str, rows: int = 8, length: int = 512, size: int = 49_152, width: int = 576, repeats: int = 4) -> dict:
    """Output distillation over a large vocabulary, `rows` answers of `length` tokens: the loss and its gradient as a training step has
    them ("ours"), from all logits at once ("naive"), or by Liger's fused kernel ("liger"). The student's body is one layer, so that the
    rest is its head. Returns peak memory above the inputs in MB, seconds (the median but for the first), the loss and norms of gradients.
    """
    import resource
    from types import SimpleNamespace

    import torch
    from accelerate import Accelerator
    from transformers import LlamaConfig, LlamaForCausalLM

    from labkit import models
    from labkit.records.experiment import Experiment
    from labkit.training.batches import Drawn
    from labkit.training.faults import Faults
    from labkit.training.methods import comparison, method
    from labkit.training.step import Parts, gradients

    generator, exp = torch.Generator().manual_seed(0), Experiment()
    config = LlamaConfig(
        vocab_size=size, hidden_size=width, num_hidden_layers=1, num_attention_heads=max(1, width // 64), intermediate_size=width
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = LlamaForCausalLM(config)
    teacher_head = torch.randn(size, width, generator=generator) * 0.05
    states = [torch.randn(length, width, generator=generator) for _ in range(rows)]
    answers = torch.randint(size, (rows, length), generator=generator).tolist()
    drawn = Drawn([[1]] * rows, answers, list(range(rows)))
    pool = SimpleNamespace(hidden=lambda numbers: torch.cat([states[i] for i in numbers]), logits=lambda found: found @ teacher_head.T)
    compare, knobs = comparison(exp), {name: getattr(exp, name) for name in ("mix", "feature", "temperature")}
    accelerator = Accelerator(cpu=True)
    parts = Parts(accelerator, method("output"), student, None, student, pool, None, live=False, plain=True)  # type: ignore[arg-type]

    def once() -> float:
        if way == "ours":
            return gradients(parts, compare, drawn, knobs, Faults(exp.faults, 0))["loss"]
        found = models.answer_states(student, models.pad(drawn.prompts, drawn.answers))
        if way == "liger":
            from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

            fused = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=False)
            loss = fused(found, student.lm_head.weight, torch.cat(states), teacher_head, torch.zeros(len(found), dtype=torch.long))
        else:
            loss = compare(pool.logits(torch.cat(states)), student.lm_head(found), 1.0).mean()
        loss.backward()
        return float(loss.detach())

    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)  # there from the first step on in any training
    before, times, value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [], 0.0
    for _ in range(repeats):
        student.zero_grad(set_to_none=False)
        began = time.perf_counter()
        value = once()
        times.append(time.perf_counter() - began)
    norms = {name: float(p.grad.norm()) for name, p in student.named_parameters() if p.grad is not None}
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"mb": peak, "seconds": statistics.median(times[1:] or times), "value": value, "norms": norms}


def vocabulary() -> dict:
    """A step's loss and gradient at 4,096 answer tokens over a vocabulary of 49,152, each way in a process of its own."""
    found = {}
    for way in ("naive", "ours", *(["liger"] if importlib.util.find_spec("liger_kernel") else [])):
        code = f"import json, bench; print(json.dumps(bench.large({way!r})))"
        ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", check=True, capture_output=True, text=True)
        found[way] = json.loads(ran.stdout.splitlines()[-1])
    naive = found["naive"]
    label, results = "V=49,152, a step on 4,096 answer tokens", {}
    for way, one in found.items():
        results[f"{label}: peak MB above the inputs, {way}"] = one["mb"]
        results[f"{label}: seconds, {way}"] = one["seconds"]
        if way != "naive":
            results[f"{label}: memory, {way} / naive"] = one["mb"] / naive["mb"]
            results[f"{label}: time, {way} / naive"] = one["seconds"] / naive["seconds"]
            pairs = [(one["value"], naive["value"]), *((one["norms"][name], norm) for name, norm in naive["norms"].items())]
            results[f"{label}: largest relative difference of loss and gradients, {way}"] = max(abs(a / b - 1) for a, b in pairs if b)
    return results


def generation() -> dict:
    """On-policy writing, 24 new tokens for 128 prompts: with the KV cache, against reading the whole text again for every token."""
    import torch

    from labkit import models
    from labkit.tasks.atlas.facts import Atlas

    prompts = models.tokenizer().prompts([q.text for q in Atlas("half").questions(128, 5)])
    width = max(map(len, prompts))
    found = {}
    for size in ("57k", "200k", "900k"):
        student = models.student(size).eval()

        @torch.no_grad()
        def naive(student=student) -> torch.Tensor:
            tokens = torch.tensor([[models.EOS] * (width - len(p)) + p for p in prompts])
            visible = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
            for _ in range(24):
                position = (visible.cumsum(1) - 1).clamp(min=0)
                logits = student(tokens, attention_mask=visible, position_ids=position).logits[:, -1]
                tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
                visible = torch.cat([visible, torch.ones(len(prompts), 1, dtype=torch.long)], 1)
            return tokens[:, width:]

        def cached(student=student) -> list[list[int]]:
            return [w.ids for w in models.write(student, prompts, limit=24)]

        again, at_once = naive().tolist(), cached()
        assert all(ids == row[: len(ids)] for ids, row in zip(at_once, again, strict=True)), "the two must write the same"
        pairs = []
        for _ in range(5):
            began = time.perf_counter()
            naive()
            middle = time.perf_counter()
            cached()
            pairs.append((middle - began, time.perf_counter() - middle))
        new = sum(map(len, at_once)) / len(prompts)
        found[f"{size} student, 24 new tokens ({new:.0f} on average): naive re-forward / KV cache, time"] = statistics.median(
            a / b for a, b in pairs
        )
    return found


def ways() -> dict:
    """Questions trained a second by method, as shares of output distillation's: the teacher's side at hand, alternating, 57k student."""
    from labkit.records import events as ev
    from labkit.records.experiment import Experiment
    from labkit.training.loop import Run

    base = Experiment(student="57k", learning_rate=2e-2, steps=40, questions=512)
    arms = {name: {"method": name} for name in ("output", "hidden", "similarity", "relations", "sequence")}
    arms |= {
        "online": {"method": "online", "start": "warm"},
        "online, all on-policy": {"method": "online", "start": "warm", "on_policy": 1.0},
    }

    def speed(fields: dict) -> float:
        stamps = {e.step: e.seconds for e in Run(base.but(**fields)) if isinstance(e, ev.Step)}
        return 128 * 18 / (stamps[39] - stamps[21])  # between two exams, when every question has been met

    speeds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(5):
        for name, fields in arms.items():
            speeds[name].append(speed(fields))
    found = {"questions/s output, 57k": statistics.median(speeds["output"])}
    for name in list(arms)[1:]:
        found[f"{name} / output, questions/s"] = statistics.median(a / b for a, b in zip(speeds[name], speeds["output"], strict=True))
    return found


LABEL = """
import json, sys, tempfile, time, urllib.request
from labkit.teachers import labelling
import labkit.teachers.labelling.running
url, concurrency, requests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with tempfile.TemporaryDirectory() as folder:
    prompts = [f"What is the capital of country number {n}?" for n in range(requests)]
    spent = time.process_time()
    report = labelling.label(prompts, folder + "/a.jsonl", endpoints=url, model="m", concurrency=concurrency, terms="read")
    spent = time.process_time() - spent
assert report.written == requests, report
page = json.load(urllib.request.urlopen(url + "/models"))
print(json.dumps(dict(busy=page["busy"] / page["wall"] / concurrency, wall=page["wall"], served=page["busy"], cpu=spent / requests)))
"""


def labelling() -> dict:
    """A server that takes 50 ms, in a process of its own: the share of eight requests' time that it is kept busy, and what one request
    costs beside the time the server has it. Medians of five."""
    found: dict[int, list[dict]] = {8: [], 1: []}
    for _ in range(5):
        for concurrency, requests in ((8, 800), (1, 100)):
            command = [sys.executable, str(ROOT / "tests" / "faulty.py"), "0.05"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
                url = server.stdout.readline().strip()
                ours = [sys.executable, "-c", LABEL, url, str(concurrency), str(requests)]
                ran = subprocess.run(ours, cwd=ROOT, check=True, capture_output=True, text=True)
                server.stdin.close()
            told = json.loads(ran.stdout.splitlines()[-1])
            found[concurrency].append(told | {"overhead": (told["wall"] - told["served"]) / requests})
    middle = statistics.median
    return {
        "labelling: share of a 50 ms server kept busy at concurrency 8": middle(run["busy"] for run in found[8]),
        "labelling: lowest of the five": min(run["busy"] for run in found[8]),
        "labelling: ms a request beyond the server's time, one at a time": 1000 * middle(run["overhead"] for run in found[1]),
        "labelling: ms of processor time a request": 1000 * middle(run["cpu"] for run in found[8]),
    }


def kernel(code: str, timeout: int = 400) -> str:
    """Run code in a fresh real kernel with an empty lab home, and return what it printed."""
    from jupyter_client.manager import start_new_kernel

    with tempfile.TemporaryDirectory() as home:
        manager, client = start_new_kernel(env=os.environ | {"LABKIT_HOME": home}, cwd=str(ROOT))
        said: list[str] = []

        def hear(message: dict) -> None:
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                said.append(message["content"]["text"])
            elif message["msg_type"] == "error":
                raise SystemExit("\n".join(message["content"]["traceback"]))

        try:
            client.execute_interactive(code, timeout=timeout, output_hook=hear)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    return "".join(said)


LESSON = """
import json, time, labkit, resource
from labkit.records.record import mean
began = time.perf_counter()
lab = labkit.open("00"{changes})
opened = time.perf_counter() - began
import labkit.training.loop
inside, push = [0.0], lab.board.push
first = []
def timed(events):
    t = time.perf_counter()
    push(events)
    inside[0] += time.perf_counter() - t
    if any(type(e).__name__ == "Step" for e in events) and not first:
        first.append(time.perf_counter() - pressed)
lab.board.push = timed
pressed = time.perf_counter()
lab.run()
rec = lab.result()
wall = time.perf_counter() - pressed
got = rec.recovery()
exams = [[e.seconds, mean(e.skills)] for e in rec.evaluations]
print(json.dumps(dict(opened=opened, first=first[0], wall=wall, seconds=rec.finished.seconds,
    share=inside[0] / wall, core=got.mean, all=got.all_skills, per_skill=got.per_skill, exams=exams,
    peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    baseline=mean(got.reference), teacher=mean(got.teacher))))
"""


def lesson() -> dict:
    """Lesson 00 in a real kernel with an empty cache: time, recovery, and the board's share of the work."""
    big = json.loads(kernel(LESSON.replace("{changes}", "")).splitlines()[-1])
    small = json.loads(kernel(LESSON.replace("{changes}", ", student='57k'")).splitlines()[-1])

    def recovered(run: dict) -> list[str]:
        gap = run["teacher"] - run["baseline"]
        return [f"{seconds:.0f} s: {(skill - run['baseline']) / gap:.2f}" for seconds, skill in run["exams"]]

    return {
        "200k: seconds of work, cache built inside": big["seconds"],
        "200k: recovery, core skills": big["core"],
        "200k: recovery, all skills": big["all"],
        "200k: recovery, two-hop": big["per_skill"]["two_hop"],
        "200k: recovery, chain": big["per_skill"]["chain"],
        "200k: recovery as it went": recovered(big),
        "57k: recovery as it went": recovered(small),
        "recorded run on screen after, s": big["opened"],
        "first live point after Run, s (torch loaded)": big["first"],
        "board's share of the kernel's time": big["share"],
        "peak memory of the lesson's kernel, MB": big["peak"],
    }


WATCH_KNOB = """() => {
    window.turned = [];
    const board = document.querySelector('.dlab');
    let pressed = 0, marks = board.dataset.knobMarks;
    document.addEventListener('keydown', () => { pressed = performance.now(); }, true);
    new MutationObserver(() => {
        if (board.dataset.knobMarks === marks) return;
        marks = board.dataset.knobMarks;
        requestAnimationFrame(() => window.turned.push(performance.now() - pressed));
    }).observe(board, { attributeFilter: ['data-knob-marks'] });
}"""


def board() -> dict:
    """Lesson 00 in JupyterLab in Chromium: the whole run with the board on screen, then knobs turned during a second one."""
    import psutil
    from browsing import board as the_board
    from browsing import jupyterlab, opened, press, run_cell, slider, step_of, wait_for_state, wait_for_step

    def browser_seconds() -> float:
        spent = 0.0
        for process in psutil.process_iter(["name", "cpu_times"]):
            if "chrom" in (process.info["name"] or "") and process.info["cpu_times"]:
                spent += process.info["cpu_times"].user + process.info["cpu_times"].system
        return spent

    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as address, opened(address) as page:
        began = time.perf_counter()
        run_cell(page, 1)
        page.wait_for_function("Number(document.querySelector('.dlab')?.dataset.klPoints ?? 0) > 20")
        opened_after = time.perf_counter() - began
        page.wait_for_timeout(8_000)  # torch is loaded while the learner reads
        pressed, spent = time.perf_counter(), browser_seconds()
        press(page, "Run")
        page.wait_for_function("document.querySelector('.dlab').dataset.ghost === '1'")
        wait_for_step(page, 1)
        first = time.perf_counter() - pressed
        page.set_default_timeout(300_000)
        wait_for_state(page, "finished")
        wall = time.perf_counter() - pressed
        browser = (browser_seconds() - spent) / wall
        said = page.locator("[data-testid='recovery']").inner_text()

        press(page, "Run")
        wait_for_state(page, "training")
        wait_for_step(page, 30)
        page.evaluate(WATCH_KNOB)
        for turn in range(20):
            slider(page, "Temperature").press("ArrowRight" if turn % 2 == 0 else "ArrowLeft")
            page.wait_for_timeout(700)
        turned = page.evaluate("window.turned")
        assert len(turned) == 20 and step_of(page) and the_board(page), turned
        press(page, "Stop")
        wait_for_state(page, "stopped", "finished")
    return {
        "in JupyterLab: recorded run on screen after running the first cell, s": opened_after,
        "in JupyterLab: first live point after pressing Run, s": first,
        "in JupyterLab: Run to finished, cache built inside, s": wall,
        "in JupyterLab: recovery panel at the end": " ".join(said.split())[:160],
        "in JupyterLab: browser CPU, cores": browser,
        "in JupyterLab: slider to drawn change, ms, median": statistics.median(turned),
        "in JupyterLab: slider to drawn change, ms, worst of 20": max(turned),
    }


SWEEP = """
[experiment]
student = "57k"
scale = "Europe"
steps = 300
questions = 512
[grid]
temperature = [TEMPERATURES]
[sweep]
seeds = 1
"""


def sweeps() -> dict:
    """Six runs of a usual length by one worker and by two of one thread each, as whole commands, alternating; the answers are at hand."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"LABKIT_HOME": folder, "OMP_NUM_THREADS": "1"}

        def seconds(temperatures: list[float], jobs: int) -> float:
            path = Path(folder) / "grid.toml"
            path.write_text(SWEEP.replace("TEMPERATURES", ", ".join(map(str, temperatures))))
            began = time.perf_counter()
            command = [sys.executable, "-m", "labkit", "sweep", str(path), "--jobs", str(jobs)]
            subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            return time.perf_counter() - began

        seconds([1.0], 1)  # the baseline, and the teacher's answers
        for turn in range(3):
            one, two = ([1.1 + turn + 0.01 * n + 0.1 * jobs for n in range(6)] for jobs in (1, 2))
            ratios.append(seconds(one, 1) / seconds(two, 2))
    return {
        "sweep of six runs of 300 steps: one worker / two workers of one thread, time": statistics.median(ratios),
        "sweep of six runs of 300 steps: the same, each pair": [round(ratio, 3) for ratio in ratios],
    }


TRAIN = """
import sys, time, labkit
from labkit.records import events as ev
from labkit.training.loop import Run
run = Run(labkit.Experiment(steps=100_000, questions=2_048), exams=0)
steps = (event for event in run if isinstance(event, ev.Step))
for _ in range(16):  # until the teacher has answered all questions
    next(steps)
print("ready", flush=True)
for line in sys.stdin:
    began, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < float(line):
        next(steps)
        done += 1
    print(128 * done / spent, flush=True)
"""


def spinning(*counts: int) -> dict:
    """Questions trained a second by how long a waiting thread spins: one run alone, and four side by side, summed; 200k student, warm
    cache. The lab's own limit against the default of GNU's OpenMP, or against `counts`; all alternating."""
    from labkit.base.threads import LIMITS

    unbounded, ours = 300_000, int(LIMITS["GOMP_SPINCOUNT"])  # turns of the waiting loop
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in (*(counts or (ours,)), unbounded)}
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as running:

        def train(count: int) -> subprocess.Popen:
            inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
            environment = inherited | {"LABKIT_HOME": home, "GOMP_SPINCOUNT": str(count)}
            command = [sys.executable, "-c", TRAIN]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.callback(process.kill)
            return process

        def speed(runs: list[subprocess.Popen], seconds: float = 3.0) -> float:
            for run in runs:
                run.stdin.write(f"{seconds}\n")
                run.stdin.flush()
            return sum(float(run.stdout.readline()) for run in runs)

        first = train(next(iter(found)))  # it asks the teacher, and the others find its answers
        assert first.stdout.readline() == "ready\n"
        runs = {count: [train(count) for _ in range(4)] for count in found}
        for run in (run for four in runs.values() for run in four):
            assert run.stdout.readline() == "ready\n"
        for _ in range(5):
            for count, four in runs.items():
                found[count].append((speed(four[:1]), speed(four)))
    told: dict[str, float] = {}
    for place, name in enumerate(("alone", "four side by side, summed")):
        for count, pairs in found.items():
            told[f"spin {count:,}: questions/s, {name}"] = statistics.median(pair[place] for pair in pairs)
            if count != unbounded:
                ratios = [a[place] / b[place] for a, b in zip(pairs, found[unbounded], strict=True)]
                told[f"spin {count:,} / the default, {name}"] = statistics.median(ratios)
    return told


def speculation() -> dict:
    """Decoding with a draft: this loop against transformers' assisted generation, same models, prompts and tokens, alternating; and, if
    SmolLM2 is fetched, the shipped EAGLE against plain decoding, from the prompt on and after it."""
    import torch

    from labkit import models
    from labkit.models import pretrained
    from labkit.models.heads import students
    from labkit.speculative.decode import plain, speculate
    from labkit.speculative.measure import pooled
    from labkit.tasks.atlas.facts import Atlas

    def against(target, draft, prompts: list[str], limit: int) -> list[float]:
        own, ratios = models.tokenizer_of(target), []
        pad = {"eos_token_id": own.end, "pad_token_id": own.end}
        how = {"do_sample": False, "num_assistant_tokens": 4, "max_new_tokens": limit, **pad}
        draft.generation_config.num_assistant_tokens = 4
        draft.generation_config.num_assistant_tokens_schedule = "constant"
        draft.generation_config.assistant_confidence_threshold = 0.0
        for prompt in prompts:
            ids = torch.tensor(own.prompts([prompt]))
            began = time.perf_counter()
            with torch.inference_mode():
                target.generate(ids, attention_mask=torch.ones_like(ids), assistant_model=draft, **how)
            theirs = time.perf_counter() - began
            ratios.append(theirs / speculate(target, draft, prompt, 4, limit=limit).seconds)
        return ratios

    asked = [q.text for q in Atlas("half").exam(4)]
    found: dict[str, float] = {}
    teacher, small = models.teacher("atlas-3m"), models.teacher("atlas-200k")
    found["assisted generation / speculate, time, atlas-3m and atlas-200k"] = statistics.median(against(teacher, small, asked, 28))
    alone, drafted = ([f(q).seconds for q in asked] for f in (lambda q: plain(teacher, q), lambda q: speculate(teacher, small, q, 4)))
    found["atlas-3m alone / with atlas-200k as a draft, time"] = sum(alone) / sum(drafted)
    try:
        target, cut = pretrained.load("smollm2"), pretrained.load("smollm2-half")
    except ValueError as absent:
        print(absent)
        return found
    asked = [q.text for q in Atlas("whole").exam(2)]
    found["assisted generation / speculate, time, SmolLM2 and half of it"] = statistics.median(against(target, cut, asked[:8], 32))
    eagle = students.shipped("smollm2-eagle", target)
    pairs = [(plain(target, q), speculate(target, eagle, q, 4, candidates=6)) for q in asked]
    found["SmolLM2 alone / with the shipped EAGLE, time"] = sum(a.seconds for a, _ in pairs) / sum(b.seconds for _, b in pairs)
    found["SmolLM2 with the shipped EAGLE, tokens a round"] = pooled([b for _, b in pairs]).tokens_per_round
    return found


BENCHES = {f.__name__: f for f in (imports, trl, lesson, board, vocabulary, generation, ways, labelling, sweeps, spinning, speculation)}


def main(names: list[str]) -> None:
    path = Path(__file__).with_suffix(".json")
    results = json.loads(path.read_text()) if path.exists() else {}
    import torch

    results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    for name in names or BENCHES:
        for label, value in BENCHES[name]().items():
            results[label] = float(f"{value:.4g}") if isinstance(value, float) else value
            print(f"{label}: {results[label]}", flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
