"""How fast the training loop is: against TRL, by way of distilling, and in writing answers."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from rows import over, row

STEPS, BATCH = 60, 128
NEW = 24  # tokens a student writes
NATS = "nats per answer token"


def trl() -> list[dict]:
    """Questions trained a second: this engine, cached and live, against TRL's GKDTrainer on the same rows, order and loss."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    import torch

    from labkit import models
    from labkit.base.files import data_dir
    from labkit.records import events as ev
    from labkit.records.experiment import Experiment
    from labkit.tasks.atlas.facts import Atlas
    from labkit.teachers.signals import POOL_SEED, Signals
    from labkit.training.batches import BatchSampler
    from labkit.training.loop import Run

    exp, world = Experiment(steps=STEPS, batch=BATCH, questions=STEPS * BATCH, learning_rate=4e-3), Atlas("half")
    pool = Signals(models.teacher(exp.teacher), world.questions(exp.questions, POOL_SEED))
    list(pool.prepare(range(exp.questions)))
    feed = BatchSampler(exp, (), pool, models.tokenizer())
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
        path = data_dir() / "tokenizers" / "atlas.json"
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
    peer, against, packages = speeds["trl"], "TRL's GKDTrainer", ("trl", "transformers")
    rows = [row("Loss of the first step, TRL", NATS, peer=first["trl"], against=against, packages=packages)]
    for key, signals in (("cached", "cached teacher signals"), ("live", "live teacher")):
        work = f"Training speed on the same rows, order and loss, 200k student, {signals}"
        rows.append(row(work, "questions/s", speeds[key], peer, over(speeds[key], peer), against=against, packages=packages))
        work = f"Loss of the first step, {signals}: absolute difference from TRL's"
        rows.append(row(work, NATS, abs(first[key] - first["trl"]), against=against, packages=packages))
    return rows


def generation() -> list[dict]:
    """On-policy writing, `NEW` tokens for 128 prompts: with the KV cache, against reading the whole text again for every token."""
    import torch

    from labkit import models
    from labkit.tasks.atlas.facts import Atlas

    prompts = models.tokenizer().prompts([q.text for q in Atlas("half").questions(128, 5)])
    width = max(map(len, prompts))
    found = []
    for size in ("57k", "200k", "900k"):
        student = models.student(size).eval()

        @torch.no_grad()
        def naive(student=student) -> torch.Tensor:
            tokens = torch.tensor([[models.EOS] * (width - len(p)) + p for p in prompts])
            visible = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
            for _ in range(NEW):
                position = (visible.cumsum(1) - 1).clamp(min=0)
                logits = student(tokens, attention_mask=visible, position_ids=position).logits[:, -1]
                tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
                visible = torch.cat([visible, torch.ones(len(prompts), 1, dtype=torch.long)], 1)
            return tokens[:, width:]

        def cached(student=student) -> list[list[int]]:
            return [w.ids for w in models.write(student, prompts, limit=NEW)]

        again, at_once = naive().tolist(), cached()
        assert all(ids == row[: len(ids)] for ids, row in zip(at_once, again, strict=True)), "the two must write the same"
        naively, at_hand = [], []
        for _ in range(5):
            began = time.perf_counter()
            naive()
            middle = time.perf_counter()
            cached()
            naively.append(middle - began)
            at_hand.append(time.perf_counter() - middle)
        work = f"Writing {NEW} new tokens for {len(prompts)} prompts with the KV cache, {size} student"
        found.append(row(work, "tokens/s", ratio=over(naively, at_hand), against="reading the whole text again for each token"))
    return found


def ways() -> list[dict]:
    """Questions trained a second by method, beside output distillation on soft labels: the teacher's side at hand, alternating."""
    from labkit.records import events as ev
    from labkit.records.experiment import Experiment
    from labkit.training.loop import Run

    base = Experiment(student="57k", learning_rate=2e-2, steps=40, questions=512)
    arms: dict[str, dict[str, Any]] = {
        "soft labels": {"method": "output"},
        "hidden states": {"method": "hidden"},
        "similarities of states": {"method": "similarity"},
        "attention relations": {"method": "relations"},
        "teacher's text": {"method": "sequence"},
        "online, half of the answers the student's own": {"method": "online", "start": "warm"},
        "online, all answers the student's own": {"method": "online", "start": "warm", "on_policy": 1.0},
    }

    def speed(fields: dict) -> float:
        stamps = {e.step: e.seconds for e in Run(base.but(**fields)) if isinstance(e, ev.Step)}
        return 128 * 18 / (stamps[39] - stamps[21])  # between two exams, when every question has been met

    speeds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(5):
        for name, fields in arms.items():
            speeds[name].append(speed(fields))
    label, against = "Training speed by method, 57k student, the teacher's side at hand:", "soft labels"
    output = speeds.pop(against)
    others = [row(f"{label} {name}", "questions/s", own, output, over(own, output), against=against) for name, own in speeds.items()]
    return [row(f"{label} {against}", "questions/s", output), *others]
