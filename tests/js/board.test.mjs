// Unit tests of the live board's pure half: `node --test tests/js/`. The drawing is tested in a browser (Playwright).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  acceptedOf, decimate, describeModel, emptyModel, fold, ghostName, logDomain, mergeSamples, milestones, nats, offerOf, plain, rateOf, recoveryOf, sentenceOf, stateOf, waterfallOf, workedOf,
} from "../../labkit/views/board/board.js";

const started = (more = {}) => ({ event: "started", experiment: { method: "output", gold: 300 }, title: "t", teacher_parameters: 2.9e6,
  student_parameters: 57e3, steps: 100, questions: 1000, skills: ["recall", "add", "compare", "two_hop"], machine: "m", ...more });
const step = (n, kl = 1, more = {}) => ({ event: "step", step: n, seconds: n / 10, questions_seen: n * 128, values: { loss: kl, kl }, ...more });
const reference = (name, skills, more = {}) => ({ event: "reference", name, skills, curve: [], recipe: "", seeds: 1, ...more });
const evaluated = (n, skills, kl = 0.5) => ({ event: "evaluated", step: n, seconds: n / 10, skills, fidelity: { kl }, open: {}, ece: 0, truth: {}, final: false });
const knob = (n) => ({ event: "knob_turned", step: n, seconds: 1, name: "temperature", old: 1, new: 2 });
const finished = (reason = "completed") => ({ event: "finished", step: 100, seconds: 10, reason, cost: {} });
const loading = { event: "loading" };
const foldAll = (events, model = emptyModel()) => events.reduce(fold, model);
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);

const TEACHER = { recall: 1, add: 0.9, compare: 0.95, two_hop: 0.5 };
const GOLD = { recall: 0.2, add: 0.1, compare: 0.93, two_hop: 0.1 };
const STUDENT = { recall: 0.95, add: 0.3, compare: 0.9, two_hop: 0.1 };
const references = [reference("teacher", TEACHER), reference("label budget", GOLD, { recipe: "labkit method=gold", seeds: 3 })];

// ---------------------------------------------------------------- folding

test("a run passes through its states", () => {
  const m = emptyModel();
  assert.equal(stateOf(m), "ready");
  assert.equal(stateOf(fold(m, started())), "training");
  assert.equal(stateOf(fold(m, { event: "labelled", done: 10, total: 20, seconds: 1 })), "labelling");
  assert.equal(stateOf(fold(m, { event: "labelled", done: 20, total: 20, seconds: 2 })), "training");
  assert.equal(stateOf(fold(m, step(1))), "training");
  assert.equal(stateOf(fold(m, { event: "labelled", done: 12, total: 20, seconds: 3 })), "training", "labelling beside training is training");
  m.held = "paused";
  assert.equal(stateOf(fold(m, step(2))), "paused", "a straggling step does not end a pause");
  assert.equal(stateOf(fold(m, finished("stopped"))), "stopped", "the end of the run does");
  assert.equal(stateOf(foldAll([started(), finished()])), "finished");
  assert.equal(stateOf(foldAll([started(), { event: "failed", step: 3, message: "x", advice: "y" }])), "failed");
});

test("unknown kinds and broken events are ignored", () => {
  const m = foldAll([null, undefined, {}, { event: "toString" }, { event: "__proto__" }, { event: "from the future" }, { event: "step" }]);
  assert.deepEqual(m, emptyModel());
});

test("a null value is a gap, not a zero", () => {
  const m = foldAll([started(), step(1, 4), step(2, null), step(3, 4)]);
  assert.deepEqual(m.kl.map((p) => p[1]), [4, null, 4]);
  near(m.kl[2][2], 4);
});

test("events out of order and sent twice find their place", () => {
  const m = foldAll([started(), step(1, 3), step(3, 1), step(2, 2), step(3, 1)]);
  assert.deepEqual(m.kl.map((p) => p[0]), [1, 2, 3]);
  assert.equal(m.step, 3);
  foldAll([evaluated(50, { recall: 0.5 }), evaluated(20, { recall: 0.1 })], m);
  assert.equal(m.exam.step, 50, "the exam shown is the latest step's, not the latest message's");
});

test("a new run turns the old curve into one ghost and drops the old yardsticks", () => {
  const m = foldAll([started(), ...references, step(1, 5), step(2, 4), knob(2), started(), step(1, 3)]);
  assert.deepEqual(m.ghost.kl.map((p) => p[1]), [5, 4]);
  assert.deepEqual([m.kl.length, m.knobs.length, Object.keys(m.references).length], [1, 0, 0]);
  foldAll([started()], m);
  assert.deepEqual(m.ghost.kl.map((p) => p[1]), [3], "only the last run is kept");
  foldAll([started()], m);
  assert.deepEqual(m.ghost.kl.map((p) => p[1]), [3], "a run without steps leaves the ghost alone");
});

test("between Run and the first event no number is of the run before", () => {
  const m = foldAll([started({ recorded: true }), ...references, step(1, 5), step(2, 4), evaluated(2, STUDENT), finished(), loading]);
  assert.deepEqual([stateOf(m), m.step, m.seconds, m.exam, m.started, m.samples.length, Object.keys(m.references).length], ["loading", 0, 0, null, null, 0, 0]);
  assert.equal(sentenceOf(m), "Loading the teacher and the student.", "until it says which");
  m.words = "Loading the teacher atlas-3m and a 212k student.";
  assert.equal(sentenceOf(m), m.words);
  assert.equal(describeModel(m), "Loading the teacher atlas-3m and a 212k student. The curve on the board is of the recorded 57k run.");
  foldAll([step(3, 3), evaluated(3, STUDENT), finished()], m);
  assert.deepEqual([stateOf(m), m.kl.length, m.exam], ["loading", 0, null], "what the run before says late is not of this one");
  foldAll([{ event: "warned", step: 0, message: "Making the tables, once." }, started(), step(1, 3)], m);
  assert.deepEqual([stateOf(m), m.kl.length, m.ghost.kl.length, m.warnings.length], ["training", 1, 2, 1]);
});

test("a run that fails while it loads says nothing of a step, however often the page is loaded again", () => {
  const m = foldAll([started(), ...references, step(600, 5), finished(), loading]);
  Object.assign(m, { phase: "ready", held: "failed" });        // as setState("failed") leaves it
  assert.deepEqual([stateOf(m), m.step, sentenceOf(m), m.ghost.kl.length], ["failed", 0, "", 1]);
  foldAll([loading], m);
  assert.deepEqual([m.phase, m.ghost.kl.length], ["loading", 1], "the next one keeps the ghost");
});

test("a ghost is called what it is", () => {
  const exp = (more) => ({ experiment: { student: "57k", temperature: 1, steps: 400, ...more } });
  const after = (first, second) => ghostName(foldAll([started(first), step(1), started(second)]));
  assert.equal(after({ recorded: true, ...exp() }, exp()), "recorded 57k run");
  assert.equal(after(exp(), exp()), "previous run");
  assert.equal(after(exp(), exp({ temperature: 4 })), "previous: T 1");
  assert.equal(after(exp(), exp({ student: "212k" })), "previous: 57k");
  assert.equal(after(exp(), exp({ temperature: 4, steps: 900, student: "22k" })), "previous run", "a long difference is left out");
  assert.equal(ghostName(foldAll([started(exp()), step(1), loading])), "previous run", "what the next one is, is not known yet");
  assert.match(describeModel(foldAll([started(exp()), step(1), started(exp({ temperature: 4 })), step(1)])), /the previous: T 1 had|the previous run had/);
});

test("a baseline that is measured after the end is not the run", () => {
  const m = foldAll([started(), step(1), finished()]);
  m.held = "measuring";
  assert.equal(stateOf(m), "measuring");
  assert.match(sentenceOf(m), /^Finished in/);
  m.held = null;
  assert.equal(stateOf(m), "finished");
});

test("a right answer after wrong working is counted apart", () => {
  const row = (question, verdict) => ({ question, student: "17+12=30, 30+2=31", teacher: "t", truth: "t", verdict });
  const m = foldAll([started(), step(1), { event: "sampled", step: 1, rows: [row("a", "right"), row("b", "working"), row("c", "wrong")] }]);
  assert.match(describeModel(m), /1 right, 1 right after wrong working, 1 wrong, 0 inherited/);
});

test("every step right is told beside the last step right", () => {
  const m = foldAll([started(), step(1), { ...evaluated(1, { add: 0.5, recall: 1 }), working: { add: 0.25 } }]);
  assert.deepEqual(workedOf(m), ["add 0.25 (last step 0.50)"]);
  assert.match(describeModel(m), /With every step right: add 0\.25 \(last step 0\.50\)\./);
  assert.deepEqual(workedOf(foldAll([started(), evaluated(1, { add: 0.5 })])), []);
});

test("references that come before the first run stay", () => {
  assert.equal(Object.keys(foldAll([...references, started()]).references).length, 2);
});

test("memory stays bounded over 20,000 events", () => {
  const events = [started({ steps: 20000 }), ...Array.from({ length: 20000 }, (_, i) => step(i + 1, 1 + Math.sin(i)))];
  const m = foldAll(events);
  assert.ok(m.kl.length <= 4000 && m.loss.length <= 4000);
  assert.equal(m.kl[0][0], 1);
  assert.equal(m.kl.at(-1)[0], 20000);
});

test("the rate follows the last seconds and is an average once it is over", () => {
  const m = foldAll([started(), step(1, 1, { seconds: 5, questions_seen: 0 }), step(2, 1, { seconds: 15, questions_seen: 1000 }),
    step(3, 1, { seconds: 17, questions_seen: 3000 })]);
  near(rateOf(m), 1000);
  near(rateOf(fold(m, { ...finished(), seconds: 17 })), 250);
  assert.equal(rateOf(emptyModel()), null);
});

test("a starved run offers one thread until it is taken up or the run is over", () => {
  const starved = { event: "warned", step: 5, message: "Other programs take the processors.", offer: "threads=1" };
  const later = { event: "warned", step: 6, message: "careful", offer: "" };
  const m = foldAll([started(), step(1), starved, step(2), later]);
  assert.equal(offerOf(m), "threads=1", "another warning does not take it back");
  assert.equal(offerOf(fold(m, { ...knob(3), name: "temperature" })), "threads=1");
  assert.equal(offerOf(fold(m, { ...knob(3), name: "threads" })), "");
  assert.equal(offerOf(foldAll([started(), step(1), starved, finished("stopped")])), "");
  const measured = foldAll([started(), step(1), starved, finished()]);
  measured.held = "measuring";
  assert.equal(offerOf(measured), "", "its baseline is measured, and has no thread to give");
  assert.equal(offerOf(foldAll([started(), step(1), starved, { event: "failed", step: 3, message: "x", advice: "y" }])), "");
  assert.equal(offerOf(foldAll([started(), step(1), starved, started()])), "", "it was the run before that was starved");
  assert.equal(offerOf(foldAll([started(), step(1), { ...starved, offer: "rm -rf" }, { event: "warned", step: 2, message: "old" }])), "");
  const cut = foldAll([started(), step(1), starved]);
  cut.held = "stopped";
  assert.equal(offerOf(cut), "", "interrupted, without an event");
});

// ---------------------------------------------------------------- recovery

test("recovery of the mean is taken on the mean of skills", () => {
  const r = recoveryOf(foldAll([started(), ...references, evaluated(50, STUDENT)]));
  near(r.mean.recovery, ((0.95 + 0.3 + 0.9) - (0.2 + 0.1 + 0.93)) / ((1 + 0.9 + 0.95) - (0.2 + 0.1 + 0.93)));
  near(r.core[0].recovery, (0.95 - 0.2) / (1 - 0.2));
  assert.deepEqual(r.core.map((x) => x.skill), ["recall", "add", "compare"]);
  assert.deepEqual(r.beside.map((x) => x.skill), ["two_hop"]);
  assert.equal(r.baseline, "300 gold labels (3 seeds)");
});

test("a gap under 0.05 says so, exactly 0.05 counts", () => {
  const r = recoveryOf(foldAll([started(), ...references, evaluated(50, STUDENT)]));
  assert.deepEqual([r.core[2].recovery, r.core[2].note], [null, "no gap"]);
  const edge = recoveryOf(foldAll([reference("teacher", { a: 0.95 }), reference("label budget", { a: 0.9 }), evaluated(1, { a: 0.9 })]));
  near(edge.core[0].recovery, 0);
});

test("no recovery without its baseline", () => {
  const r = recoveryOf(foldAll([started(), references[0], reference("same questions", GOLD), evaluated(50, STUDENT)]));
  assert.equal(r.why, "no baseline yet: recovery is not shown");
  assert.ok([r.mean, ...r.core, ...r.beside].every((x) => x.recovery === null));
  near(r.mean.student, (0.95 + 0.3 + 0.9) / 3);
  const first = recoveryOf(foldAll([evaluated(1, STUDENT)]));
  assert.equal(first.mean.teacher, null, "an exam before any reference is no error");
});

test("recovery may fall below 0 and rise above 1", () => {
  const of = (a) => recoveryOf(foldAll([reference("teacher", { a: 0.6 }), reference("label budget", { a: 0.4 }), evaluated(1, { a })])).mean.recovery;
  near(of(0.3), -0.5);
  near(of(0.7), 1.5);
});

test("a mean compares the skills all sides were measured on", () => {
  const r = recoveryOf(foldAll([reference("teacher", { a: 1, b: 1 }), reference("label budget", { a: 0 }), evaluated(1, { a: 0.5, b: 1, c: null })]));
  assert.deepEqual(r.shared, ["a"]);
  near(r.mean.recovery, 0.5);
  assert.equal(r.core.find((x) => x.skill === "b").note, "not measured");
});

test("the waterfall has four arms, and says which were not measured", () => {
  const arms = waterfallOf(foldAll([started(), ...references, evaluated(50, STUDENT)]));
  assert.deepEqual(arms.map((a) => a.key), ["gold", "hard", "soft", "teacher"]);
  assert.equal(arms[1].value, null);
  near(arms[2].delta, arms[2].value - arms[0].value);
  assert.ok(waterfallOf(emptyModel()).every((a) => a.value === null));
});

// ---------------------------------------------------------------- drawing helpers

test("decimation keeps the ends, the order and every extreme", () => {
  const points = Array.from({ length: 10000 }, (_, i) => [i, Math.sin(i), 0]);
  points[1234][1] = 99;
  points[4321][1] = -99;
  const out = decimate(points, 500);
  assert.ok(out.length <= 500 && out.length > 200);
  assert.deepEqual([out[0], out.at(-1)], [points[0], points.at(-1)]);
  assert.ok(out.includes(points[1234]) && out.includes(points[4321]));
  assert.ok(out.every((p, i) => i === 0 || p[0] > out[i - 1][0]));
  assert.equal(decimate(points.slice(0, 10), 500).length, 10);
  assert.deepEqual(decimate([], 10), []);
  assert.ok(decimate(points.map(([x]) => [x, null, null]), 100).length <= 100);
});

test("the log domain snaps outwards and ignores what a log cannot show", () => {
  assert.deepEqual(logDomain([]), [0.1, 1]);
  assert.deepEqual(logDomain([6.9, 0.046, 0, -1, null, NaN]), [0.02, 10]);
  assert.deepEqual(logDomain([2, 0.05]), [0.05, 2]);
});

test("a question keeps its row, newcomers take the free ones", () => {
  const row = (question, student = "") => ({ question, student });
  const first = mergeSamples([], [row("a"), row("b"), row("c")]);
  const next = mergeSamples(first, [row("c", "new"), row("d"), row("a")]);
  assert.deepEqual(next.map((r) => r.question), ["a", "d", "c"]);
  assert.equal(next[2].student, "new");
  assert.equal(mergeSamples([], Array.from({ length: 30 }, (_, i) => row(String(i)))).length, 12);
});

// ---------------------------------------------------------------- words

test("model text is cleaned for display and never becomes markup", () => {
  assert.equal(plain("<img src=x onerror=alert(1)>"), "<img src=x onerror=alert(1)>");
  assert.equal(plain("a\u202eb\u0000c\u2066d\nnext"), "abcd ⏎ next");
  assert.equal(plain("x".repeat(500)).length, 160);
  assert.equal(plain(null), "");
  const source = readFileSync(new URL("../../labkit/views/board/board.js", import.meta.url), "utf8");
  assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function/);
});

test("numbers are told with the digits they deserve", () => {
  assert.deepEqual([6.912, 0.35, 0.0463, 0.00462, 0.00001, 0, null].map(nats), ["6.91", "0.35", "0.046", "0.0046", "1.0e-5", "0.00", "–"]);
});

test("milestones are reached, not announced in advance", () => {
  const falling = Array.from({ length: 60 }, (_, i) => step(i + 1, 8 * 0.93 ** i));
  assert.equal(sentenceOf(emptyModel()), "");
  assert.equal(sentenceOf(foldAll([started(), step(1, 8)])), "Training has begun; the first milestone is KL halved.");
  const m = foldAll([started(), ...falling]);
  assert.deepEqual(milestones(m).map((x) => x.key), ["kl/10"]);
  assert.match(sentenceOf(m), /^KL fell to a tenth in \d s\.$/);
  const same = foldAll([step(61, 0.1)], structuredClone(m));
  assert.equal(sentenceOf(same), sentenceOf(m), "another step is not another milestone");
  foldAll([...references, evaluated(60, STUDENT)], m);
  assert.match(sentenceOf(m), /; about as good as the teacher at facts and comparisons; not yet at sums; half the gap between the gold labels and the teacher is closed\.$/);
});

test("what a student can do is told against the teacher", () => {
  const m = foldAll([started(), references[0], evaluated(60, { recall: 1, add: 0.1 })]);
  assert.match(sentenceOf(m), /^About as good as the teacher at facts; not yet at sums\.$/);
  const half = foldAll([started(), references[0], evaluated(60, { recall: 1, add: 0.5 })]);
  assert.match(sentenceOf(half), /at facts; more than half as good at sums\.$/);
  assert.match(sentenceOf(foldAll([started(), references[0], evaluated(60, { recall: 0.1, add: 0.5 })])), /^Not yet near the teacher at anything\.$/);
});

test("the last sentence scores the prediction, and names the baseline beside the recovery", () => {
  const m = foldAll([started(), ...references, step(1), evaluated(100, STUDENT), finished()]);
  const text = sentenceOf(m, { predicted: { low: 0.6, high: 0.8 } });
  assert.equal(text, "Finished in 10 s: mean skill 0.72 of the teacher's 0.95; 57% of the gap between 300 gold labels (3 seeds) and the teacher closed; below your prediction of 60 to 80%.");
  const bare = foldAll([started(), step(1), evaluated(100, STUDENT), finished("stopped")]);
  assert.equal(sentenceOf(bare), "Stopped after 10 s: mean skill 0.72; no baseline yet: recovery is not shown.");
});

test("the description tells the whole board in sentences", () => {
  assert.match(describeModel(emptyModel()), /^Ready\./);
  const m = foldAll([started(), ...references, step(1, 8), step(2, 4), evaluated(2, STUDENT), knob(2),
    { event: "sampled", step: 2, rows: [{ question: "q", student: "s", teacher: "s", truth: "t", verdict: "inherited" }] },
    { event: "warned", step: 2, message: "the <b>rate</b> is high" }]);
  const text = describeModel(m, { predicted: { low: 0.5, high: 0.7 } });
  for (const said of ["Training, step 2 of 100", "KL to the teacher", "it began at 8.00", "300 gold labels (3 seeds)", "57% of the gap", "you predicted 50 to 70%",
    "Closest to the teacher: recall", "Furthest: add", "Beside the mean: two-hop", "1 inherited", "temperature from 1 to 2", "The <b>rate</b> is high."]) {
    assert.ok(text.includes(said), `${said} is missing in: ${text}`);
  }
  assert.doesNotMatch(text, /undefined|null|NaN|\[object/);
  const failed = describeModel(fold(m, { event: "failed", step: 3, message: "the loss is not a number", advice: "lower the learning rate" }));
  assert.ok(failed.includes("The loss is not a number. What to do: Lower the learning rate."));
});

// ---------------------------------------------------------------- a draft, by its acceptance

const drafted = (n, acceptance, agreement) => ({ ...evaluated(n, STUDENT), fidelity: { kl: 0.5, acceptance, agreement } });

test("acceptance is read off the exams, and what they lack is a gap", () => {
  const m = foldAll([started(), evaluated(10, STUDENT), drafted(50, 0.6, 0.7), drafted(20, 0.5, null)]);
  assert.deepEqual(acceptedOf(m.exams), [[10, null, null], [20, 0.5, null], [50, 0.6, 0.7]]);
  foldAll([step(1), started(), drafted(10, 0.4, 0.5)], m);
  assert.deepEqual([acceptedOf(m.ghost.exams).length, acceptedOf(m.exams).length], [3, 1], "the run before stays as a ghost");
});

test("where acceptance is asked for it is told, and the prediction is of it", () => {
  const options = { unit: "acceptance", predicted: { low: 0.7, high: 0.8 } };
  const m = foldAll([started(), ...references, step(1), drafted(20, 0.57, 0.63), drafted(60, 0.7, 0.8)]);
  assert.match(sentenceOf(m, options), /70% or more of its guesses would be accepted/);
  assert.match(describeModel(m, options), /As a draft, 70% of its guesses would be accepted at step 60, and of greedy ones 80%; it began at 57%; you predicted 70 to 80%\./);
  fold(m, finished());
  assert.match(sentenceOf(m, options), /70% of its guesses would be accepted; inside your prediction of 70 to 80%\.$/);
  assert.doesNotMatch(sentenceOf(m, { predicted: options.predicted }) + describeModel(m), /guesses/, "other lessons do not speak of it");
  assert.match(sentenceOf(m, { predicted: options.predicted }), /below your prediction/, "there the prediction is of recovery");
  assert.doesNotMatch(describeModel(foldAll([started(), step(1), evaluated(5, STUDENT)]), options), /draft|undefined|NaN/);
});

test("a run on data of one's own has one score, and its name", () => {
  const own = [started({ skills: ["label_f1"] }), reference("teacher", { label_f1: 0.9 }), reference("label budget", { label_f1: 0.5 })];
  const m = foldAll([...own, evaluated(50, { label_f1: 0.7 }), finished()]);
  near(recoveryOf(m).mean.recovery, 0.5);
  assert.match(sentenceOf(m), /the score \(label f1\) 0\.70 of the teacher's 0\.90/);
  assert.match(describeModel(m), /the score \(label f1\) is 0\.70; the teacher has 0\.90/);
  assert.doesNotMatch(describeModel(m), /core skill|mean of/);
});
