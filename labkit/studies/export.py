"""A recipe as a script for TRL, for those who go on there: the same rows in the same order, the same student, the same loss.

export(Experiment(student="57k", temperature=2.0), "distil.py")   # and a folder `distil` beside it, with rows and student

What TRL does not have is refused, by name. What it means otherwise than the lab is said in the script, where it is dealt with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

from labkit import models
from labkit.base.errors import LabError
from labkit.base.files import data_dir, write_whole
from labkit.models import lora, pretrained
from labkit.models.architectures import LanguageModel
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import HEADS, KIN, LYING, named_model
from labkit.training.loop import WARMUP, Run
from labkit.training.methods import method
from labkit.training.setup import subject_of

TRL = "1.16.0"  # the version whose code was read for this, and is tested against
HARD = ("answers", "gold", "sequence")
BETA = {"forward_kl": 0.0, "reverse_kl": 1.0}


def refuse(exp: Experiment) -> None:
    """Raises `LabError` for a recipe that TRL has no counterpart of."""
    hard = exp.method in HARD
    lacking = (
        (exp.method not in ("output", "online", *HARD), "method", "no such loss", "output, online, answers, sequence or gold"),
        (not hard and exp.divergence not in (*BETA, "jsd"), "divergence", "no such divergence", "forward_kl, reverse_kl or jsd"),
        (not hard and exp.top_k > 0, "top_k", "no truncated signals in GKDTrainer, which has the whole vocabulary at hand", "0"),
        (exp.mix > 0 and exp.method != "gold", "mix", "no hard-label term beside the soft one", "0"),
        (exp.student in HEADS, "student", "no trainer of heads", "a model, such as 200k"),
        (exp.precision != "fp32", "precision", "bf16 for the loss as well, where the lab works it out in fp32", "fp32"),
        (exp.faults != "none", "faults", "none of the lab's bugs", "none"),
        (exp.architecture != "llama", "architecture", "no use for a model that is not of transformers", "llama"),
        (
            exp.vocabulary != "atlas" and exp.method not in ("gold", "sequence"),
            "vocabulary",
            "no soft labels across tokenizers in GKDTrainer (its experimental GOLDTrainer has others than ours)",
            "atlas",
        ),
        (exp.assistant != "none", "assistant", "no runs before the run", "none"),
        (exp.generations > 1, "generations", "no runs before the run", "1"),
        (exp.teacher in KIN, "teacher", "no teacher that is made for the run", "a teacher that is there"),
        (exp.method == "online" and exp.online_from > 0, "online_from", "one on-policy share for the whole run", "0"),
        (exp.method == "online" and exp.replay > 0, "replay", "no memory of what the student wrote", "0"),
        (exp.method == "online" and exp.sampling_temperature == 0, "sampling_temperature", "sampling alone", "more than 0, such as 1"),
    )
    for found, name, why, fix in lacking:
        if found:
            raise LabError(f"{name}={getattr(exp, name)!r} cannot be exported: TRL {TRL} has {why}. Set {name} to {fix}.")


def export(experiment: Experiment, out: str | Path) -> Path:
    """Write the script, and the folder of its name beside it. Raises `LabError` for a recipe that TRL cannot run."""
    exp, out = experiment, Path(out)
    if out.suffix != ".py":
        raise LabError(f"--out {out} is to be a Python script: give a name that ends in .py, such as {out.with_suffix('.py')}.")
    refuse(exp)
    folder = out.with_suffix("")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"--out {out}: the folder {folder} of its rows cannot be made ({error.strerror}): give another name.") from None
    subject = subject_of(exp)
    teacher = subject.teacher()
    student = _first_student(exp)
    _write_rows(exp, subject, teacher, models.tokenizer_of(student), folder)
    if named_model(exp.student):
        place = str(pretrained.folder_of(exp.student).resolve())
    else:
        place = "student"
        student.save_pretrained(folder / place)
        models.tokenizer(exp.vocabulary).for_transformers().save_pretrained(folder / place)
    text = _script(exp, folder.name, place, _teacher(exp, teacher, folder), models.tokenizer_of(student).longest)
    write_whole(out, lambda to: to.write_text(text, encoding="utf-8"))
    return out


def _first_student(exp: Experiment) -> Any:
    """The student as the engine has it before its first step, without the adapter, which changes nothing yet."""
    if exp.data:
        return subject_of(exp).student(exp.seed)
    run = Run(exp.but(adapter=0))
    for event in run:
        if isinstance(event, ev.Inspected):  # the last that is told before the first gradient
            break
    return run.student


def _write_rows(exp: Experiment, subject: Any, teacher: LanguageModel | None, own: Any, folder: Path) -> None:
    """Every row that is trained on, once, as `rows.jsonl`; and the numbers of those of each step, one after the other, as `order.json`."""
    how = method(exp.method)
    pool = subject.pool(teacher) if how.needs_signal else None
    feed = subject.feed(subject.text_pool(_finished(subject.texts(teacher))) if how.text else pool)
    number: dict[tuple[bool, int], int] = {}
    order: list[int] = []
    lines: list[str] = []
    for _ in range(exp.steps):
        pool_rows, gold_rows = feed.next_rows(exp.batch, how.gold_share(exp.mix))
        if pool is not None:
            list(pool.prepare(pool_rows))
        drawn = feed.draw(pool_rows, gold_rows)
        keys = [(False, i) for i in pool_rows] + [(True, i) for i in gold_rows]
        for key, prompt, response in zip(keys, drawn.prompts, drawn.answers, strict=True):
            if key not in number:
                number[key] = len(lines)
                said = {"prompt": own.text(prompt), "response": own.text(response)}  # to be read; the ids are what is trained on
                lines.append(json.dumps(said | {"prompt_ids": prompt, "response_ids": response}) + "\n")
            order.append(number[key])
    write_whole(folder / "rows.jsonl", lambda to: to.write_text("".join(lines), encoding="utf-8"))
    write_whole(folder / "order.json", lambda to: to.write_text(json.dumps(order), encoding="utf-8"))


def _finished(work: Iterator[Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def _teacher(exp: Experiment, teacher: Any, folder: Path) -> str:
    """Where the script finds its teacher: in its folder, if there is no other folder that is the whole of it."""
    if exp.method in HARD or teacher is None:
        return ""
    if named_model(exp.teacher):
        return str(pretrained.folder_of(exp.teacher).resolve())
    if exp.teacher in LYING:
        teacher.save_pretrained(folder / "teacher")
        return "teacher"
    return os.path.relpath(data_dir() / "teachers" / exp.teacher, folder.resolve())


# ---- the script ------------------------------------------------------------------------------------------------------------------

HEAD = Template('''\
"""$recipe

The recipe above for TRL $trl, written by `labkit export trl`. To run it: `pip install trl==$trl datasets peft`, `python $name.py`.
Rows, their order and the student's first weights are in `$name/`. The loss of the first step is the lab's, and the steps after it are
as near as arithmetic in another order allows$online_note.

How the lab's conventions are said here:
$notes
"""

import json
import math
import os
from pathlib import Path

import torch
from datasets import Dataset
${adapter_import}\
from transformers import AutoModelForCausalLM, AutoTokenizer

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
$trainer_import

HERE = Path(__file__).resolve().parent / $folder
STEPS, BATCH, RATE, WARMUP = $steps, $batch, $rate, $warmup
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def model(place, dtype):
    """A model from a folder (one that is not absolute is below `$name/`), without rows of padding in its vocabulary."""
    found = AutoModelForCausalLM.from_pretrained(HERE / place, dtype=dtype)
    if found.get_input_embeddings().weight.shape[0] > len(TOKENIZER):
        found.resize_token_embeddings(len(TOKENIZER), mean_resizing=False)
    return found.to(DEVICE)


TOKENIZER = AutoTokenizer.from_pretrained(HERE / $student)
if TOKENIZER.pad_token is None:
    TOKENIZER.pad_token = TOKENIZER.eos_token


def rows():
    """The rows of every step, one step after the other."""
    with open(HERE / "rows.jsonl", encoding="utf-8") as file:
        read = [json.loads(line) for line in file]
    return Dataset.from_list(read).select(json.loads((HERE / "order.json").read_text()))


def collate(batch):
    """Prompt and response, padded behind; only the response, with its end mark, is labelled. `prompts` are for writing: padded in front."""

    def padded(rows, fill, front=False):
        width = max(map(len, rows))
        return torch.tensor([[fill] * (width - len(r)) * front + r + [fill] * (width - len(r)) * (not front) for r in rows])

    prompts, responses = [r["prompt_ids"] for r in batch], [r["response_ids"] for r in batch]
    whole = [p + r for p, r in zip(prompts, responses)]
    ids = {
        "input_ids": padded(whole, TOKENIZER.pad_token_id),
        "attention_mask": padded([[1] * len(r) for r in whole], 0),
        "labels": padded([[-100] * len(p) + r for p, r in zip(prompts, responses)], -100),
    }
''')
PROMPTS = """\
    ids["prompts"] = padded(prompts, TOKENIZER.pad_token_id, front=True)
    ids["prompt_attention_mask"] = padded([[1] * len(p) for p in prompts], 0, front=True)
"""
TAIL = Template('''\
    return ids


def rate(done):
    """The lab's schedule, after `done` steps: a linear warm-up, and a cosine down to a twentieth."""
    return min(1.0, (done + 1) / WARMUP) * (0.05 + 0.475 * (1 + math.cos(math.pi * done / STEPS)))

$subclass
def build():
    student = model($student, torch.float32)
${adapter}\
    optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], RATE, betas=(0.9, 0.95), weight_decay=0.01)
    args = $config(
        output_dir=str(HERE / "checkpoints"),
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        max_grad_norm=1.0,
        train_sampling_strategy="sequential",  # the rows are in their order
        dataset_kwargs={"skip_prepare_dataset": True},  # and are tokens already
        remove_unused_columns=False,
        max_length=None,
        bf16=False,  # TRL's default is True; the lab trains in fp32
        gradient_checkpointing=False,
        disable_dropout=True,
        logging_first_step=True,
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        seed=$seed,
$settings    )
    return $trainer(
        model=student,
$teacher        args=args,
        train_dataset=rows(),
        processing_class=TOKENIZER,
        data_collator=collate,
        optimizers=(optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)),
    )


if __name__ == "__main__":
    trainer = build()
    trainer.train()
    trainer.save_model(str(HERE / "trained"))
    print(f"saved in {HERE / 'trained'}")
''')
COMPARED = Template('''
class Compared(GKDTrainer):
    """GKDTrainer compares at temperature 1, whatever `temperature` says (that is for sampling), and in its teacher's own precision."""

    @staticmethod
    def generalized_jsd_loss(**given):
        given |= {"teacher_logits": given["teacher_logits"].float(), "temperature": $T}
        return $T**2 * GKDTrainer.generalized_jsd_loss(**given)  # T squared, so that the gradient keeps its size

''')
COUNTED = Template('''
class Counted($base):
    """Divides by the tokens of the rows at hand. TRL counts them before the student writes its own, and divides by the teacher's."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs)

''')
ADAPTER = """\
    maps = {maps}
    torch.manual_seed({seed})
    student = get_peft_model(student, LoraConfig(r={rank}, lora_alpha={alpha}, target_modules=maps, task_type="CAUSAL_LM"))
"""


def _script(exp: Experiment, name: str, student: str, teacher: str, longest: int) -> str:
    soft, online = exp.method not in HARD, exp.method == "online"
    subclass, trainer = "", "GKDTrainer" if soft else "SFTTrainer"
    if soft and (exp.temperature != 1 or named_model(exp.teacher)):
        subclass, trainer = COMPARED.substitute(T=f"{exp.temperature:g}"), "Compared"
    if online:
        subclass, trainer = subclass + COUNTED.substitute(base=trainer), "Counted"
    beta = exp.beta if exp.divergence == "jsd" else BETA.get(exp.divergence, 0.0)
    settings = {"beta": beta, "lmbda": exp.on_policy if online else 0.0} if soft else {}
    if online:
        settings |= {"temperature": exp.sampling_temperature, "max_new_tokens": longest}
    dtype = "bfloat16" if named_model(exp.teacher) else "float32"
    head = HEAD.substitute(
        recipe=_quotable(exp.recipe),
        name=_quotable(name),
        folder=json.dumps(name),
        trl=TRL,
        student=json.dumps(student),
        notes="\n".join(note if note.startswith(" ") else f"- {note}" for note in _notes(exp)),
        online_note=", where nothing is sampled" if online else "",
        adapter_import="from peft import LoraConfig, get_peft_model\n" if exp.adapter else "",
        trainer_import="from trl.experimental.gkd import GKDConfig, GKDTrainer" if soft else "from trl import SFTConfig, SFTTrainer",
        **{"steps": exp.steps, "batch": exp.batch, "rate": exp.learning_rate, "warmup": WARMUP},
    )
    tail = TAIL.substitute(
        subclass=subclass,
        student=json.dumps(student),
        adapter=ADAPTER.format(maps=list(lora.TARGETS), rank=exp.adapter, alpha=2 * exp.adapter, seed=exp.seed) if exp.adapter else "",
        config="GKDConfig" if soft else "SFTConfig",
        seed=exp.seed,
        settings="".join(f"        {key}={value!r},\n" for key, value in settings.items()),
        trainer=trainer,
        teacher=f"        teacher_model=model({json.dumps(teacher)}, torch.{dtype}),\n" if soft else "",
    )
    text = head + (PROMPTS if online else "") + tail
    return text if soft else text.replace("        disable_dropout=True,\n", "").replace(SILENCE, "").replace("import os\n", "")


def _quotable(text: str) -> str:
    """A text as it stands between the quotation marks of a Python string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


SILENCE = 'os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")\n'


def _notes(exp: Experiment) -> Iterator[str]:
    """How the lab's conventions are said in TRL, as far as this recipe needs them."""
    yield "a mean over the answer tokens of the whole batch: TRL divides by the number of labels too"
    if exp.method in HARD:
        yield "hard labels: cross-entropy on the response alone; prompts are labelled -100"
        yield f"method={exp.method}: the responses in `rows.jsonl` are " + (
            "true labels" if exp.method == "gold" else "the teacher's, written by the lab"
        )
    else:
        yield f"divergence={exp.divergence}: beta 0 is KL(teacher || student), 1 KL(student || teacher); between them, the"
        yield "  mixture, in TRL as here, is beta teacher + (1 - beta) student; GKDConfig's own default is 0.5"
        precision = "bf16, and is compared in fp32; see `Compared`" if named_model(exp.teacher) else "fp32"
        yield f"the teacher reads every batch anew, as with signals=live (the lab's cache keeps fp16 states), in {precision}"
    if exp.method not in HARD and exp.temperature != 1:
        yield f"temperature={exp.temperature:g}: GKDConfig's is for sampling alone, and its loss has no T squared; see `Compared`"
    if exp.method == "online":
        yield f"on_policy={exp.on_policy:g}: the lab lets the student answer this share of every batch; TRL tosses a coin a step (lmbda)"
        yield "  for the whole batch, so that with a share between 0 and 1 single steps differ and the mean does not"
        yield "a step's own answers: TRL divides their loss by the number of the teacher's tokens; see `Counted`"
    if exp.adapter:
        yield f"adapter={exp.adapter}: peft's LoRA on the same maps, with alpha twice the rank"
    yield "AdamW decays norms too, and the schedule is the lab's: TRL's Trainer would leave norms out"
