// The live board: everything drawn is a fold of the run's events, so a live run, a recording and the static tour are one file.
// It knows nothing of Jupyter. The top half is pure (tested in node); the bottom half draws. Text from models is only ever
// set as textContent.

const CAP = 4000;                                            // points kept per series, whatever the length of the run
const BESIDE = new Set(["two_hop", "two_hop_steps", "chain"]); // shown beside the core mean, never inside it
const GAP = 0.05;                                            // a smaller gap to the teacher is noise, and dividing by it a lie
const ROWS = 12;
const TERMINAL = new Set(["finished", "stopped", "failed"]);
const STATES = new Set(["ready", "loading", "labelling", "training", "paused", "measuring", ...TERMINAL]);
const BEFORE = new Set(["loading", "started", "warned", "failed"]);   // what a run says while it loads; the rest is of the run before
const GOLD = "label budget", HARD = "same questions";
const ONE_THREAD = "threads=1";                              // what a starved run offers, as the event says it
const NO_BASELINE = "no baseline yet: recovery is not shown";

// ---------------------------------------------------------------- the model

export function emptyModel() {
  return { started: null, phase: "ready", held: null, labelled: null, references: {}, kl: [], loss: [], ghost: null, exams: [],
    exam: null, knobs: [], warnings: [], offer: "", samples: [], probe: null, failed: null, finished: null, step: 0, seconds: 0,
    seen: 0, pace: [], first: null, marks: {}, words: "" };
}

/** What a run that goes on offers to do about its last trouble: `ONE_THREAD`, or nothing. */
export const offerOf = (model) => (TERMINAL.has(stateOf(model)) ? "" : model.offer);

/** The state word: what the outside holds (paused, say) wins over the stream until the run ends or begins again. After the end only a
 *  baseline that is being measured does. */
export const stateOf = (model) => (TERMINAL.has(model.phase) && model.held !== "measuring" ? model.phase : (model.held ?? model.phase));

/** A run is about to begin: the curve of the one before stays as a ghost that knows what it is, and its numbers go. */
function layAside(model) {
  const ghost = model.kl.length ? { kl: model.kl, loss: model.loss, exams: model.exams, started: model.started } : model.ghost;
  return Object.assign(model, emptyModel(), { ghost, phase: "loading" });
}

/** What the ghost is, in at most 18 letters: a recording and its student, or the previous run and how its recipe differs. */
export function ghostName(model) {
  const then = model.ghost?.started, now = model.started?.experiment;
  if (then?.recorded) return `recorded ${studentOf(then)} run`;
  const other = Object.keys(now ? then?.experiment ?? {} : {}).filter((k) => k in now && String(then.experiment[k]) !== String(now[k]));
  const value = (k) => (typeof then.experiment[k] === "string" ? then.experiment[k] : `${KNOB_WORDS[k] ?? words(k)} ${then.experiment[k]}`);
  const name = `previous: ${other.map(value).join(", ")}`;
  return other.length && name.length <= 18 ? plain(name, 18) : "previous run";
}

const FOLDS = {
  loading: layAside,
  started(m, e) {
    if (m.started || m.kl.length) layAside(m);
    Object.assign(m, { started: e, phase: "training", held: null, words: "", offer: "", failed: null, finished: null, pace: [] });
  },
  labelled(m, e) {
    m.labelled = { done: e.done ?? 0, total: e.total ?? 0 };
    if (finite(e.seconds)) m.seconds = Math.max(m.seconds, e.seconds);
    if (!TERMINAL.has(m.phase)) m.phase = e.done < e.total && m.step === 0 ? "labelling" : "training";   // later it goes on beside training
  },
  reference(m, e) {
    const curve = (e.curve ?? []).filter((p) => finite(p?.[0]) && finite(p?.[1]));
    m.references[e.name] = { skills: e.skills ?? {}, curve: decimate(curve, CAP), recipe: e.recipe ?? "", seeds: e.seeds ?? 1 };
  },
  step(m, e) {
    if (!finite(e.step)) return;
    append(m.kl, e.step, e.values?.kl);
    append(m.loss, e.step, e.values?.loss);
    if (m.kl.length > CAP) m.kl = decimate(m.kl, CAP / 2);
    if (m.loss.length > CAP) m.loss = decimate(m.loss, CAP / 2);
    if (!TERMINAL.has(m.phase)) m.phase = "training";
    if (e.step < m.step) return;                             // a straggler adds its point but does not turn back the clock
    Object.assign(m, { step: e.step, seconds: e.seconds ?? m.seconds, seen: e.questions_seen ?? m.seen });
    const kl = m.kl.at(-1)?.[2];
    if (finite(kl)) m.first ??= { kl, seconds: m.seconds, seen: m.seen };
    m.pace.push([m.seconds, m.seen]);                        // the last seconds, for a rate that follows what happens now
    while (m.pace.length > 2 && (m.seconds - m.pace[0][0] > 4 || m.pace.length > 300)) m.pace.shift();
    for (const part of [2, 10, 100]) {
      if (finite(kl) && finite(m.first?.kl) && kl <= m.first.kl / part) m.marks[part] ??= m.seconds - m.first.seconds;
    }
  },
  probe(m, e) { if (!m.probe || (e.step ?? 0) >= (m.probe.step ?? 0)) m.probe = e; },
  evaluated(m, e) {
    if (m.exam && e.step <= m.exam.step) m.exams = m.exams.filter((x) => x.step !== e.step).concat(e).sort((a, b) => a.step - b.step);
    else m.exams.push(e);
    if (m.exams.length > 500) m.exams = m.exams.slice(-400);
    m.exam = m.exams.at(-1);
  },
  sampled(m, e) { m.samples = mergeSamples(m.samples, e.rows ?? []); m.sampledAt = e.step; },
  knob_turned(m, e) {
    m.knobs = [...m.knobs.slice(-199), e];
    if (e.name === "threads") m.offer = "";
  },
  warned(m, e) {
    m.warnings = [...m.warnings.slice(-49), e];
    if (e.offer === ONE_THREAD) m.offer = e.offer;
  },
  finished(m, e) {
    Object.assign(m, { finished: e, phase: e.reason === "stopped" ? "stopped" : "finished", offer: "" });
    if (finite(e.seconds)) m.seconds = Math.max(m.seconds, e.seconds);
  },
  failed(m, e) { Object.assign(m, { failed: e, phase: "failed", offer: "" }); },
};

/** Folds one event into the model, in place, and returns it. Kinds this board does not know are ignored. */
export function fold(model, event) {
  if (model.phase === "loading" && !BEFORE.has(event?.event)) return model;
  if (event && Object.hasOwn(FOLDS, event.event)) FOLDS[event.event](model, event);
  return model;
}

/** Adds [step, value, smoothed value]; a null value is a gap. Smoothing is geometric, since the charts are logarithmic. */
function append(points, x, value) {
  const y = finite(value) ? value : null;
  let at = points.length;
  while (at > 0 && points[at - 1][0] >= x) at -= 1;          // nearly always 0 turns; late events find their place
  let before = at - 1;
  while (before >= 0 && points[before][2] === null) before -= 1;
  const old = before < 0 ? null : points[before][2], weight = Math.max(1 / (at + 1), 0.06);
  let smooth = y;
  if (y !== null && old !== null) smooth = y > 0 && old > 0 ? old * (y / old) ** weight : old + weight * (y - old);
  points.splice(at, points[at]?.[0] === x ? 1 : 0, [x, y, smooth]);
}

/** At most `max` points that draw like all of them: the lowest and highest of each column, ends kept, order kept. */
export function decimate(points, max) {
  if (points.length <= max || max < 4) return points.length <= max ? points : points.slice(0, max);
  const columns = Math.floor((max - 2) / 2), from = points[0][0], span = points.at(-1)[0] - from || 1;
  const out = [points[0]], flush = () => { if (low) out.push(...(low === high ? [low] : low[0] < high[0] ? [low, high] : [high, low])); };
  let column = -1, low = null, high = null;
  for (const point of points.slice(1, -1)) {
    const at = Math.min(columns - 1, Math.floor(((point[0] - from) / span) * columns));
    if (at !== column) { flush(); column = at; low = high = point; }
    if (point[1] === null) continue;
    if (low[1] === null || point[1] < low[1]) low = point;
    if (high[1] === null || point[1] > high[1]) high = point;
  }
  flush();
  return [...out, points.at(-1)];
}

/** Twelve slots: a question keeps its row from sample to sample, newcomers take the rows that fell free. */
export function mergeSamples(old, rows) {
  const fresh = new Map(rows.filter(Boolean).slice(0, ROWS).map((row) => [row.question, row]));
  const slots = old.map((row) => {
    const next = fresh.get(row.question);
    fresh.delete(row.question);
    return next ?? null;
  });
  for (const row of fresh.values()) {
    const free = slots.indexOf(null);
    if (free < 0) slots.push(row); else slots[free] = row;
  }
  return slots.filter(Boolean).slice(0, ROWS);
}

// ---------------------------------------------------------------- what the numbers mean

const isCore = (skill) => !BESIDE.has(skill);
const mean = (numbers) => numbers.reduce((sum, n) => sum + n, 0) / numbers.length;
const meanOver = (skills, scores) => (scores && skills.length ? mean(skills.map((s) => scores[s])) : null);

function skillsOf(model) {
  const sources = [model.references.teacher?.skills, model.references[GOLD]?.skills, model.exam?.skills];
  return [...new Set([...(model.started?.skills ?? []), ...sources.flatMap((s) => Object.keys(s ?? {}))])];
}

/** What the one number of a run is: on data of one's own the score they chose. */
const measureOf = (model) => (skillsOf(model).length === 1 ? `the score (${skillName(skillsOf(model)[0])})` : "mean skill");

/** Recovery = (student - baseline) / (teacher - baseline), of each skill and of the *mean of skills* (not the mean of
 *  recoveries); null where the gap is under 0.05 or a part is missing, with `note` saying why. */
export function recoveryOf(model) {
  const student = model.exam?.skills, teacher = model.references.teacher?.skills, gold = model.references[GOLD];
  const why = !gold ? NO_BASELINE : !teacher ? "no teacher score yet: recovery is not shown" : "";
  const row = (skill, s, t, b) => {
    const parts = { skill, student: finite(s) ? s : null, teacher: finite(t) ? t : null, baseline: finite(b) ? b : null };
    const known = parts.teacher !== null && parts.baseline !== null;
    const gap = known && t - b >= GAP - 1e-9;
    const note = why || (!known ? "not measured" : !gap ? "no gap" : "");
    return { ...parts, recovery: gap && !why && parts.student !== null ? (s - b) / (t - b) : null, note };
  };
  const rows = skillsOf(model).map((k) => row(k, student?.[k], teacher?.[k], gold?.skills[k]));
  const core = rows.filter((r) => isCore(r.skill));
  const sources = [student, teacher, gold?.skills].filter(Boolean);  // a mean compares like with like: the skills all share
  const shared = core.map((r) => r.skill).filter((k) => sources.every((s) => finite(s[k])));
  const labels = model.started?.experiment?.gold, budget = finite(labels) ? count(labels, "gold label") : GOLD;
  return {
    why, core, beside: rows.filter((r) => !isCore(r.skill)), shared, step: model.exam?.step ?? null,
    baseline: gold ? `${budget} (${count(gold.seeds, "seed")})` : "",
    mean: row("mean", meanOver(shared, student), meanOver(shared, teacher), meanOver(shared, gold?.skills)),
  };
}

/** The first picture of every result: gold labels, the teacher's answers as hard labels, this run, the teacher. */
export function waterfallOf(model) {
  const method = model.started?.experiment?.method ?? "output";
  const arms = [
    { key: "gold", label: "gold labels", scores: model.references[GOLD]?.skills },
    { key: "hard", label: "hard answers", long: "the teacher's answers as hard labels", scores: model.references[HARD]?.skills },
    { key: "soft", label: method === "output" ? "soft labels" : words(plain(method, 20)), long: "this run", scores: model.exam?.skills },
    { key: "teacher", label: "teacher", scores: model.references.teacher?.skills },
  ];
  const measured = arms.filter((a) => a.scores);
  const shared = Object.keys(measured[0]?.scores ?? {})
    .filter((k) => isCore(k) && measured.every((a) => finite(a.scores[k])));
  let before = null;
  return arms.map(({ key, label, long = label, scores }) => {
    const value = meanOver(shared, scores), delta = value !== null && before !== null ? value - before : null;
    before = value ?? before;
    return { key, label, long, value, delta };
  });
}

/** Exams as [step, acceptance, agreement]: the chances that a guess at temperature 1, and a greedy one, is accepted. Null is a gap. */
export function acceptedOf(exams) {
  return exams.map((x) => [x.step, ...["acceptance", "agreement"].map((name) => (finite(x.fidelity?.[name]) ? x.fidelity[name] : null))]);
}

/** Skills whose answers have steps: the share with every step right, beside the share with the last one right. Older runs lack it. */
export const workedOf = (model) => Object.entries(model.exam?.working ?? {}).filter(([, share]) => finite(share))
  .map(([skill, share]) => `${skillName(skill)} ${score(share)} (last step ${score(model.exam.skills[skill])})`);

export function rateOf(model) {
  const [from, to] = TERMINAL.has(model.phase) && model.first    // when it is over: the average of the whole training
    ? [[model.first.seconds, model.first.seen], [model.seconds, model.seen]] : [model.pace[0], model.pace.at(-1)];
  return from && to && to[0] > from[0] ? (to[1] - from[1]) / (to[0] - from[0]) : null;
}

// ---------------------------------------------------------------- words

const finite = (n) => typeof n === "number" && Number.isFinite(n);
const words = (name) => String(name).replaceAll("_", " ");
const whole = (n) => (finite(n) ? Math.round(n).toLocaleString("en-US") : "–");
const count = (n, noun) => `${whole(n)} ${noun}${n === 1 ? "" : "s"}`;
const score = (n) => (finite(n) ? n.toFixed(2) : "–");
const percent = (n) => (finite(n) ? `${Math.round(n * 100)}%`.replace("-", "−") : "–");
const signed = (n) => (n < 0 ? "−" : "+") + Math.abs(n).toFixed(2);
/** The student's size as recipes name it, "57k", or its parameters if it is a model of one's own. */
const studentOf = (started) => (/^[\d.]+[km]$/.test(started.experiment?.student ?? "") ? started.experiment.student : size(started.student_parameters));
const size = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : n >= 1e3 ? `${Math.round(n / 1e3)}k` : whole(n));
const list = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
const duration = (s) => (s < 1 ? "under a second" : s < 120 ? `${Math.round(s)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`);
const SKILL_WORDS = { two_hop: "two-hop", two_hop_steps: "two-hop steps" };
const KNOB_WORDS = { temperature: "T", learning_rate: "lr" };
const LINE_WORDS = { [GOLD]: "gold labels", [HARD]: "hard answers" };   // as the waterfall names them
const skillName = (skill) => SKILL_WORDS[skill] ?? words(plain(skill, 40));
const guessOf = (p) => (finite(p?.low) && finite(p?.high) ? p : null);
const predictedText = (p) => `${percent(p.low).replace("%", "")} to ${percent(p.high)}`;
const chance = (n) => (n > 0 && n < 0.005 ? "<0.01" : score(n));

export function nats(n) {
  if (!finite(n)) return "–";
  const size = Math.abs(n);
  return size >= 0.1 || size === 0 ? n.toFixed(2) : size >= 0.01 ? n.toFixed(3) : size >= 0.001 ? n.toFixed(4) : n.toExponential(1);
}

/** Untrusted text for display: line ends made visible, control and text-direction characters out, length bounded.
 *  (It is then set as textContent: markup in it stays letters.) */
export function plain(text, max = 160) {
  const clean = String(text ?? "").replace(/\r?\n/g, " ⏎ ").replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");
  return clean.length > max ? `${clean.slice(0, max - 1)}…` : clean;
}

const GROUPS = { facts: ["recall", "reverse", "city", "element"], "open answers": ["open"], sums: ["add"], comparisons: ["compare"] };

/** What a run says before its first event, also before it has said what it loads. */
const loadingOf = (model) => model.words || "Loading the teacher and the student";

/** What has been reached, as clauses computed from the data alone: [{key, text}]. A new key is a new milestone. */
export function milestones(model, { predicted = null, unit = "recovery" } = {}) {
  const out = [], say = (key, text) => out.push({ key, text });
  const { mean: row, baseline } = recoveryOf(model), recovered = finite(row.recovery);
  const taken = unit === "acceptance" ? model.exam?.fidelity?.acceptance : null, asked = unit === "acceptance" ? taken : row.recovery;
  if (model.phase === "loading") {
    say("loading", loadingOf(model));
  } else if (model.phase === "failed") {
    say("failed", `The run failed at step ${whole(model.failed?.step ?? model.step)}; the last good student is kept`);
  } else if (TERMINAL.has(model.phase)) {
    const of = finite(row.teacher) ? ` of the teacher's ${score(row.teacher)}` : "";
    say(model.phase, `${model.phase === "stopped" ? "Stopped after" : "Finished in"} ${duration(model.seconds)}`
      + (finite(row.student) ? `: ${measureOf(model)} ${score(row.student)}${of}` : ""));
    const gap = `the gap between ${baseline} and the teacher`;
    if (recovered) say("recovery", row.recovery < 0 ? `worse than ${baseline}: ${percent(row.recovery)} of ${gap}` : `${percent(row.recovery)} of ${gap} closed`);
    else if (finite(row.student)) say("recovery", row.note);
    if (finite(taken)) say("acceptance", `${percent(taken)} of its guesses would be accepted`);
    if (finite(asked) && predicted) {
      const side = asked < predicted.low ? "below" : asked > predicted.high ? "above" : "inside";
      say("prediction", `${side} your prediction of ${predictedText(predicted)}`);
    }
  } else {
    const fallen = [[100, "fell to a hundredth"], [10, "fell to a tenth"], [2, "halved"]].find(([part]) => part in model.marks);
    if (fallen) say(`kl/${fallen[0]}`, `KL ${fallen[1]} in ${duration(model.marks[fallen[0]])}`);
    const { reached, near, far } = groupsOf(model), left = far.length ? far : near;
    if (reached.length || left.length) {
      say(`skills:${reached}|${left}|${far.length > 0}`, !reached.length ? "not yet near the teacher at anything"
        : `about as good as the teacher at ${left.length ? list(reached) : "every core skill"}`);
      if (reached.length && left.length) say(`left:${left}`, far.length ? `not yet at ${list(left)}` : `more than half as good at ${list(left)}`);
    }
    const tens = Math.floor(taken * 10 + 1e-9) * 10;
    if (finite(taken)) say(`acceptance>${tens}`, `${tens}% or more of its guesses would be accepted`);
    const level = [0.9, 0.5].find((v) => recovered && row.recovery >= v);
    if (level) say(`recovery>${level}`, `${level > 0.5 ? "nine tenths of" : "half"} the gap between the gold labels and the teacher is closed`);
    else if (recovered && row.recovery < 0) say("recovery<0", "still worse than the gold labels alone");
    if (!out.length && model.step > 0) say("training", "Training has begun; the first milestone is KL halved");
    else if (!out.length && model.phase === "labelling") say("labelling", "The teacher is answering the questions; training follows");
  }
  return out;
}

function groupsOf(model) {
  const groups = { reached: [], near: [], far: [] };
  const student = model.exam?.skills ?? {}, teacher = model.references.teacher?.skills ?? {};
  for (const [name, skills] of Object.entries(GROUPS)) {
    const known = skills.filter((k) => finite(student[k]) && finite(teacher[k])), target = meanOver(known, teacher);
    if (!known.length || target < 0.1) continue;             // what the teacher cannot do, the student cannot miss
    const ratio = meanOver(known, student) / target;
    groups[ratio >= 0.9 ? "reached" : ratio >= 0.5 ? "near" : "far"].push(name);
  }
  return groups;
}

export const sentenceOf = (model, options) => asSentence(milestones(model, options).map((m) => m.text).join("; "));

/** The whole board in sentences, for someone who does not see it. */
export function describeModel(model, { predicted = null, unit = "recovery" } = {}) {
  const state = stateOf(model), total = model.started?.steps, rate = rateOf(model), now = lastFinite(model.kl), out = [];
  if (state === "ready" && !model.step) return "Ready. No run has started, so there is nothing to describe yet.";
  if (state === "loading") return `${asSentence(loadingOf(model))} The curve on the board is of the ${ghostName(model)}.`;
  out.push(state === "labelling"
    ? `The teacher is labelling: ${whole(model.labelled?.done)} of ${whole(model.labelled?.total)} questions are done.`
    : asSentence(`${state}, step ${whole(model.step)}${total ? ` of ${whole(total)}` : ""}, after ${duration(model.seconds)}`
      + (rate ? `, at ${whole(rate)} questions a second` : "")));
  if (model.failed) out.push(asSentence(model.failed.message), `What to do: ${asSentence(model.failed.advice)}`);
  if (now) {
    const base = nearest(model.references[GOLD]?.curve ?? [], now[0]), ghost = nearest(model.ghost?.kl ?? [], now[0]);
    out.push(`KL to the teacher, smoothed, is ${nats(now[2])} nats per answer token`
      + (finite(model.first?.kl) ? `; it began at ${nats(model.first.kl)}` : "") + (base ? `; at this step the student of the gold labels had ${nats(base[1])}` : "") + (ghost ? `; the ${ghostName(model)} had ${nats(ghost[2])}` : "") + ".");
  }
  const { mean: row, core, beside, baseline, step, shared } = recoveryOf(model);
  const tell = (r) => `${skillName(r.skill)}, ${score(r.student)}${finite(r.teacher) ? ` of ${score(r.teacher)}` : ""}`;
  if (finite(row.student)) {
    const what = core.length + beside.length === 1 ? measureOf(model) : `the mean of ${count(shared.length, "core skill")}`;
    out.push(`On the exam at step ${whole(step)} ${what} is ${score(row.student)}`
      + (finite(row.teacher) ? `; the teacher has ${score(row.teacher)}` : "") + (finite(row.baseline) ? `; the baseline, ${baseline}, has ${score(row.baseline)}` : "") + ".");
    const guess = predicted ? `; you predicted ${predictedText(predicted)}` : "", [of, taken, alike] = acceptedOf(model.exams).at(-1);
    const watched = unit === "acceptance";
    out.push(finite(row.recovery) ? `So ${percent(row.recovery)} of the gap is recovered${watched ? "" : guess}.` : asSentence(row.note));
    if (watched && finite(taken)) {
      out.push(`As a draft, ${percent(taken)} of its guesses would be accepted at step ${whole(of)}, and of greedy ones ${percent(alike)}; `
        + `it began at ${percent(acceptedOf(model.exams)[0][1])}${guess}.`);
    }
    const ranked = core.filter((r) => finite(r.student) && r.teacher > 0).sort((a, b) => b.student / b.teacher - a.student / a.teacher);
    if (ranked.length > 1) out.push(`Closest to the teacher: ${tell(ranked[0])}. Furthest: ${tell(ranked.at(-1))}.`);
    const aside = beside.filter((r) => finite(r.student));
    if (aside.length) out.push(`Beside the mean: ${aside.map(tell).join("; ")}.`);
    if (workedOf(model).length) out.push(`With every step right: ${workedOf(model).join("; ")}.`);
  } else out.push("No exam has been sat yet.");
  const verdicts = (verdict) => model.samples.filter((r) => r.verdict === verdict).length;
  if (model.samples.length) {
    out.push(`Of ${count(model.samples.length, "sampled answer")}, ${verdicts("right")} right, ${verdicts("working")} right after wrong working, `
      + `${verdicts("wrong")} wrong, ${verdicts("inherited")} inherited from the teacher's own mistakes.`);
  }
  const knob = model.knobs.at(-1), warning = model.warnings.at(-1);
  if (knob) out.push(`Last knob turned: ${words(plain(knob.name))} from ${knob.old} to ${knob.new} at step ${whole(knob.step)}.`);
  if (warning) out.push(`${count(model.warnings.length, "warning")}; the last: ${asSentence(warning.message)}`);
  return out.join(" ");
}

function asSentence(text) {
  const t = plain(text, 400).trim();
  return t && `${t[0].toUpperCase()}${t.slice(1)}${/[.!?…]$/.test(t) ? "" : "."}`;
}

const lastFinite = (points) => points.findLast((p) => finite(p[1])) ?? null;

function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (low < high) { const mid = (low + high) >> 1; if (points[mid][0] < x) low = mid + 1; else high = mid; }
  return low > 0 && x - points[low - 1][0] < points[low][0] - x ? points[low - 1] : (points[low] ?? null);
}

// ---------------------------------------------------------------- a chart on a canvas

function ladder(from, to) {                                  // 1, 2, 5, 10, 20, ... from below `from` to above `to`
  const out = [];
  for (let e = Math.floor(Math.log10(from)); e <= Math.ceil(Math.log10(to)); e += 1) out.push(...[1, 2, 5].map((k) => Number(`${k}e${e}`)));
  return out;
}

/** A log domain that snaps outwards to 1-2-5 and always spans 0.1 to 1, so that it rarely moves while a run goes on. */
export function logDomain(values) {
  let low = 0.1, high = 1;
  for (const v of values) if (v > 0) { if (v < low) low = v; if (v > high) high = v; }
  const rungs = ladder((low = Math.max(low, 1e-6)) / 10, high * 10);
  return [rungs.findLast((r) => r <= low * 1.0001), rungs.find((r) => r >= high * 0.9999)];
}

function levelTicks(low, high, room) {
  const all = ladder(low, high).filter((t) => t >= low && t <= high);
  return all.length * 22 <= room ? all : all.filter((t) => Number.isInteger(Math.round(Math.log10(t) * 1e6) / 1e6));
}

function stepTicks(max, room) {
  const raw = max / Math.max(2, Math.floor(room / 90)), unit = ladder(raw / 10, raw * 10).find((r) => r >= raw && r >= 1) ?? 1;
  return Array.from({ length: Math.floor(max / unit) + 1 }, (_, i) => i * unit);
}

/** Draws lines, rings and knob marks; every line is named at its end, in its own colour. Needs nothing but its arguments. */
function drawChart(canvas, spec, look) {
  const ratio = globalThis.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return null;
  for (const [side, pixels] of [["width", width * ratio], ["height", height * ratio]]) {
    if (canvas[side] !== Math.round(pixels)) canvas[side] = Math.round(pixels);
  }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0); c.clearRect(0, 0, width, height);
  const box = { left: 38, right: width - 104, top: spec.axis ? 8 : 26, bottom: height - (spec.axis ? 22 : 8) };
  const wide = box.right - box.left, tall = box.bottom - box.top;
  const [low, high] = spec.share ? [0, 1] : logDomain(spec.empty ? [10] : [...spec.lines.flatMap((l) => l.points.map((p) => p[l.key])), ...spec.rings.map((r) => r.y)]);
  const X = (x) => box.left + (x / spec.max) * wide;
  const Y = (y) => box.top + (spec.share ? 1 - y : Math.log(high / Math.max(y, low / 2)) / Math.log(high / low)) * tall;
  const font = (weight) => { c.font = `${weight} 11px ${look.font}`; };
  const text = (t, x, y, colour, { align = "left", weight = 400, halo = false } = {}) => {
    font(weight); c.textAlign = align; c.textBaseline = "middle";
    if (halo) { c.strokeStyle = look.back; c.lineWidth = 4; c.lineJoin = "round"; c.strokeText(t, x, y); }
    c.fillStyle = colour; c.fillText(t, x, y);
  };
  const stroke = (colour, weight, path, dash = []) => {
    c.strokeStyle = colour; c.lineWidth = weight; c.setLineDash(dash); c.beginPath(); path(); c.stroke(); c.setLineDash([]);
  };
  const rule = (x0, y0, x1, y1, colour, dash) => stroke(colour, 1, () => { c.moveTo(x0, y0); c.lineTo(x1, y1); }, dash);
  const crisp = (v) => Math.round(v) + 0.5;

  for (const t of spec.share ? [0, 0.5, 1] : levelTicks(low, high, tall)) {
    rule(box.left, crisp(Y(t)), box.right, crisp(Y(t)), look.hair);
    text(String(t), box.left - 8, crisp(Y(t)), look.muted, { align: "right" });
  }
  for (const t of stepTicks(spec.max, wide)) {
    rule(crisp(X(t)), box.bottom, crisp(X(t)), box.bottom + 4, look.muted);
    if (spec.axis) text(whole(t), X(t), box.bottom + 13, look.muted, { align: "center" });
  }
  if (spec.axis) text("step", box.right + 24, box.bottom + 13, look.muted);
  const busy = [-1, -1];                                      // knob texts: two rows, the next is taken when one is full
  for (const { step, text: label } of spec.marks) {
    const x = crisp(X(step)), row = busy.findIndex((end) => end < x - 4);
    rule(x, spec.axis ? 0 : 2, x, box.bottom, look.muted, [1, 3]);
    if (!label || row < 0) continue;
    text(label, x + 4, 7 + row * 12, look.ink, { halo: true });
    busy[row] = x + c.measureText(label).width + 8;
  }

  c.save();
  c.beginPath(); c.rect(box.left, box.top - 4, wide + 5, tall + 8); c.clip();
  for (const line of spec.lines) {
    c.globalAlpha = line.alpha ?? 1;
    stroke(line.colour, line.width, () => {
      let drawing = false;
      for (const p of decimate(line.points, Math.max(64, Math.round(wide) * 2))) {
        const y = p[line.key];
        if (finite(y)) c[drawing ? "lineTo" : "moveTo"](X(p[0]), Y(y));
        drawing = finite(y);
      }
    }, line.dash);
  }
  c.restore();
  for (const { step, y, colour } of spec.rings) {
    stroke(colour, 1.75, () => { c.arc(X(step), Y(y), 3.5, 0, 7); c.fillStyle = look.back; c.fill(); });
  }

  const labels = [];
  for (const { label, points, key, colour, ink = colour, weight = 400 } of spec.lines) {
    const end = label && points.findLast((p) => p[0] <= spec.max && finite(p[key]));
    if (!end) continue;
    font(weight);
    const wants = X(end[0]) > box.right - 24 ? box.right + 10 : X(end[0]) + 9, wide = c.measureText(label).width, x = Math.min(wants, width - wide - 2);
    labels.push({ text: label, x, y: Y(end[key]), end: x + wide, ink, weight });
  }
  labels.sort((a, b) => a.y - b.y);
  const meet = (a, b) => a.x < b.end + 8 && b.x < a.end + 8;
  labels.forEach((l, i) => labels.slice(0, i).forEach((above) => { if (meet(l, above)) l.y = Math.max(l.y, above.y + 14); }));
  for (let i = labels.length - 1; i >= 0; i -= 1) {           // and up again, if the last one fell off the chart
    labels[i].y = Math.min(labels[i].y, box.bottom - 5, ...labels.slice(i + 1).filter((o) => meet(labels[i], o)).map((o) => o.y - 14));
  }
  for (const l of labels) text(l.text, l.x, l.y, l.ink, { weight: l.weight, halo: true });
  if (spec.empty) text(spec.empty, box.left + wide / 2, box.top + tall / 2, look.muted, { align: "center", halo: true });
  if (finite(spec.hover)) rule(crisp(X(spec.hover)), box.top, crisp(X(spec.hover)), box.bottom, look.ink);
  return { stepAt: (px) => Math.max(0, Math.min(spec.max, ((px - box.left) / wide) * spec.max)) };
}

// ---------------------------------------------------------------- the page

const VERDICTS = { right: ["✓", "right"], working: ["≠", "wrong working"], wrong: ["✗", "wrong"], inherited: ["⚠\ufe0e", "inherited"] };
const SIGNS = { ready: "○", loading: "◌", labelling: "◐", training: "●", paused: "❙❙", measuring: "◑", finished: "✓", stopped: "■", failed: "✗" };
const LINKS = {                                              // what the way to the kernel is like, where it is not as it should be
  asking: ["↻", "reconnecting", "Reconnecting: the board asks the kernel for the run so far."],
  silent: ["↻", "no answer", "The kernel does not answer. It may be busy, or the connection is closed. The board goes on asking."],
  offline: ["↻", "no connection", "No connection to the notebook server. A run goes on in the kernel; the board follows when the connection is back."],
  restarted: ["○", "disconnected", "The kernel was restarted: run the cell above again."],
  dead: ["○", "disconnected", "The kernel has ended. Restart it in the menu Kernel, then run the cell above again."],
};
const GONE = new Set(["restarted", "dead"]);
const CELLS = ["question", "student", "teacher", "truth"];

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value; else node.setAttribute(name === "cls" ? "class" : name, value);
  }
  node.append(...children);
  return node;
}

const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
/** A span by its class; a list is a span with spans inside. */
const part = (p) => (Array.isArray(p) ? el("span", { cls: `dlab-${p[0]}` }, ...p.slice(1).map(part)) : el("span", { cls: `dlab-${p}` }));
const rowOf = (cls, name, value, ...parts) => el("div", { cls: `dlab-${cls}`, [`data-${name}`]: value }, ...parts.map(part));

function tableOf([head, ...rows]) {
  const line = (cells, tag) => el("tr", {}, ...cells.map((text) => el(tag, { text: plain(text), ...(tag === "th" && { scope: "col" }) })));
  return el("table", {}, el("thead", {}, line(head, "th")), el("tbody", {}, ...rows.map((cells) => line(cells, "td"))));
}

function panel(title, testid, body, data) {
  const note = el("p", { cls: "dlab-note" });
  const root = el("section", { cls: "dlab-panel", "data-testid": testid, "aria-label": title }, el("h2", { text: title }), note, ...body);   // under the notebook's h1
  if (!data) return { root, note, fill() {} };
  const table = el("div", { cls: "dlab-data", tabindex: "0", role: "region", "aria-label": `data: ${title}` });
  const details = el("details", {}, el("summary", { "aria-label": `data: ${title}`, text: "data" }), table);
  const fill = () => table.replaceChildren(...(details.open ? [tableOf(data())] : []));   // built only while someone has it open
  details.addEventListener("toggle", fill);
  root.append(details);
  return { root, note, fill };
}

/** Text that changes at most every `every` ms of wall-clock: a live region must not chatter. */
function slowly(node, every) {
  let last = -Infinity, timer = null, wanted = "";
  const set = (text) => {
    wanted = text;
    if (timer !== null || text === node.textContent) return;
    timer = setTimeout(() => { timer = null; last = Date.now(); put(node, wanted); }, Math.max(0, last + every - Date.now()));
  };
  return Object.assign(set, { clear() { clearTimeout(timer); timer = null; last = -Infinity; put(node, ""); } });
}

function darkPage() {
  const { body, documentElement: html } = document, kind = body.dataset.vscodeThemeKind ?? body.className;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";                 // JupyterLab, Notebook 7
  if (/vscode-/.test(kind)) return /vscode-(dark|high-contrast(?!-light))/.test(kind);
  const named = html.dataset.theme ?? html.getAttribute("theme");                              // a page with its own switch, Colab
  return named ? named === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Draws into `root`. options: title, predicted {low, high, confidence} or null, unit: what was predicted. With "acceptance" that is
 *  drawn, in place of the waterfall. oneThread: called where the button of a starved run is pressed; without it there is none. */
export function createBoard(root, options = {}) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const unit = options.unit ?? "recovery", drafts = unit === "acceptance";
  let model = emptyModel(), predicted = guessOf(options.predicted), hover = null, scale = null, look = {};
  let frame = 0, later = null, dirty = true, dead = false, link = "";

  const strip = rowOf("strip", "testid", "status", ["state", "sign", "word"], "title", "facts");
  const [[sign, word], [, title, facts]] = [strip.firstChild.children, strip.children];
  const tell = el("button", { cls: "dlab-tell", type: "button", "data-testid": "in-words", "aria-expanded": "false", text: "In words",
    title: "Where the run stands, in sentences (key d)" });
  strip.append(tell);
  sign.setAttribute("aria-hidden", "true");
  const [labelBar, stepBar] = [["is-teacher", "questions labelled by the teacher"], ["is-student", "training steps done"]].map(([cls, label]) =>
    el("span", { cls: `dlab-bar ${cls}`, role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }));
  const line = part("line"), described = part("described");
  const sentence = el("p", { cls: "dlab-sentence", "data-testid": "sentence", "aria-live": "polite" }, line, described);
  const warning = el("p", { cls: "dlab-warning", "data-testid": "warning", "aria-live": "polite" });
  const offer = el("button", { cls: "dlab-offer", type: "button", "data-testid": "offer", hidden: "", text: "Go on with one thread",
    title: "Other programs take the processors. Threads that wait for a processor wait for one another: one alone loses least." });
  const status = el("p", { cls: "dlab-unseen", role: "status" });   // the state in a word, for those who do not see the sign
  const alarm = el("div", { cls: "dlab-alarm", "data-testid": "alert", role: "alert" });
  const [klCanvas, lossCanvas, takenCanvas] = ["kl", "loss", "taken"].map((name) => el("canvas", { cls: `dlab-canvas is-${name}`, role: "img" }));
  const [skillRows, skillFoot, fallRows, sampleBody, probeRows] = [part("skills"), part("foot"), part("fall"), el("tbody"), part("tokens")];
  const workFoot = part("worked");

  const series = (name) => [["step", name, "smoothed", ghostName(model)], ...decimate(model[name], 80).map((p) =>
    [whole(p[0]), nats(p[1]), nats(p[2]), nats(nearest(model.ghost?.[name] ?? [], p[0])?.[2])])];
  const kl = panel("KL to the teacher", "kl-chart", [klCanvas], () =>
    [...series("kl"), ...model.exams.map((x) => [whole(x.step), nats(x.fidelity?.kl), "held-out exam", ""])]);
  const loss = panel("Loss", "loss-chart", [lossCanvas], () => series("loss"));
  const recovery = panel("Recovery by skill", "recovery", [skillRows, skillFoot, workFoot], () => {
    const { mean: first, core, beside, why } = recoveryOf(model);
    return [["skill", "student", "baseline", "teacher", "recovery"], ...[...(core.length + beside.length === 1 ? [] : [first]), ...core, ...beside].map((r) => [skillName(r.skill),
      score(r.student), score(r.baseline), score(r.teacher), finite(r.recovery) ? percent(r.recovery) : why ? "not shown" : r.note])];
  });
  const waterfall = panel("From gold labels to the teacher", "waterfall", [fallRows], () => [["arm", "mean skill", "step up"],
    ...waterfallOf(model).map((a) => [a.long, a.value === null ? "not measured" : score(a.value), a.delta === null ? "" : signed(a.delta)])]);
  const accepted = panel("Acceptance", "acceptance", [takenCanvas], () => [["exam at step", "acceptance", "greedy", ghostName(model)],
    ...acceptedOf(model.exams).map((p) => [whole(p[0]), score(p[1]), score(p[2]), score(nearest(acceptedOf(model.ghost?.exams ?? []), p[0])?.[1])])]);
  const samples = panel("The student's answers", "samples", [el("table", { cls: "dlab-table" },
    el("thead", {}, el("tr", {}, ...[...CELLS, "verdict"].map((text) => el("th", { text, scope: "col", cls: `is-${text}` })))), sampleBody)]);
  const probe = panel("The first answer token", "probe", [probeRows], () =>
    [["token", "teacher", "student"], ...tokensOf(model.probe).map((t) => [t.token, chance(t.teacher), chance(t.student)])]);

  const columns = [[kl, loss], drafts ? [accepted, recovery] : [recovery, waterfall], [samples], [probe]];   // what is predicted beside the curve
  root.replaceChildren(strip, el("div", { cls: "dlab-rail" }, labelBar, stepBar), status, sentence, el("div", { cls: "dlab-told" }, warning, offer), alarm,
    el("div", { cls: "dlab-grid" }, ...columns.map((panels) => el("div", { cls: "dlab-col" }, ...panels.map((p) => p.root)))));
  root.classList.add("dlab");
  for (const [name, value] of Object.entries({ tabindex: "0", role: "group", "data-lm-suppress-shortcuts": "true",
    "aria-label": `${options.title ?? "Distillation"}: live board. Press d to hear where the run stands, or the button In words.` })) root.setAttribute(name, value);
  put(loss.note, "what is minimised, nats per answer token, log scale");
  const sayLine = slowly(line, 10_000), sayWarning = slowly(warning, 10_000);

  // -------- drawing

  function drawStrip() {
    const state = stateOf(model), { labelled, started } = model, total = started?.steps ?? 0, rate = rateOf(model);
    put(sign, link ? LINKS[link][0] : SIGNS[state] ?? "○");
    put(word, link ? LINKS[link][1] : state === "labelling" && labelled ? `the teacher is labelling ${whole(labelled.done)} of ${whole(labelled.total)}`
      : state === "measuring" ? `measuring ${model.words || "the baseline"}` : model.words && model.words.length <= 24 && state !== "loading" ? `${state}: ${model.words}`
        : state === "finished" && started?.recorded ? "recorded run" : state);
    word.title = word.textContent;
    const pair = finite(started?.student_parameters) ? `${studentOf(started)} student, ${size(started.teacher_parameters)} teacher` : "";
    put(title, [plain(options.title ?? started?.title ?? "", 80), pair].filter(Boolean).join(" · "));
    const told = [`${whole(model.seconds)} s`, rate && !TERMINAL.has(model.phase) && `${whole(rate)} questions/s`, `step ${whole(model.step)}${total ? `/${whole(total)}` : ""}`];
    put(facts, started || model.step ? told.filter(Boolean).join(" · ") : "");
    for (const [node, done, all] of [[labelBar, labelled?.done, labelled?.total], [stepBar, model.step, total]]) {
      const share = all ? Math.min(1, done / all) : 0;
      node.style.transform = `scaleX(${share})`; node.setAttribute("aria-valuenow", Math.round(share * 100));
    }
  }

  function drawCharts() {
    const baselines = [[GOLD, [6, 4]], [HARD, [2, 3]]].map(([name, dash]) =>
      ({ points: model.references[name]?.curve ?? [], key: 1, colour: look.baseline, width: 1.5, dash, label: LINE_WORDS[name] }));
    const longest = Math.max(...[model.kl, model.ghost?.kl ?? [], ...baselines.map((b) => b.points)].map((p) => p.at(-1)?.[0] ?? 0));
    const max = Math.max(model.started?.steps || longest || 1000, model.step);
    const lines = (name, word) => [
      { points: model.ghost?.[name] ?? [], key: 2, colour: look.ghost, ink: look.muted, width: 1.5, label: ghostName(model) },
      { points: model[name], key: 1, colour: look.student, width: 1, alpha: 0.28 },
      { points: model[name], key: 2, colour: look.student, width: 2, label: `${word} ${nats(lastFinite(model[name])?.[2])}`, weight: 600 }];
    const some = model.kl.length || model.ghost;
    const knobs = model.knobs.map((k) => ({ step: k.step, text: `${KNOB_WORDS[k.name] ?? words(plain(k.name, 18))} ${k.old} → ${k.new}` }));
    const rings = model.exams.filter((x) => x.fidelity?.kl > 0).map((x) => ({ step: x.step, y: x.fidelity.kl, colour: look.student }));
    scale = drawChart(klCanvas, { max, hover, rings, marks: knobs, empty: some ? "" : "no steps yet", lines: [...baselines, ...lines("kl", "student")] }, look);
    drawChart(lossCanvas, { max, hover, axis: true, rings: [], empty: some ? "" : " ", marks: knobs.map(({ step }) => ({ step })), lines: lines("loss", "loss") }, look);
    if (drafts) drawAccepted(max);
    const under = [["student", model.kl, 2], [ghostName(model), model.ghost?.kl ?? [], 2], ...baselines.map((b) => [b.label, b.points, 1])]
      .filter(([, points]) => points.length).map(([name, points, key]) => `${name} ${nats(nearest(points, hover ?? 0)[key])}`);
    put(kl.note, hover === null ? "nats per answer token, log scale · ringed: held-out exam" : `step ${whole(hover)}: ${under.join(" · ")}`);
  }

  function drawAccepted(max) {
    const points = acceptedOf(model.exams), ghost = acceptedOf(model.ghost?.exams ?? []), last = points.at(-1);
    const ends = predicted ? [predicted.low, predicted.high] : [];
    drawChart(takenCanvas, { max, axis: true, share: true, marks: [], empty: points.length || ghost.length ? "" : "drawn from the first exam on",
      rings: points.filter((p) => p[1] !== null).map((p) => ({ step: p[0], y: p[1], colour: look.student })),
      lines: [...ends.map((y, i) => ({ points: [[0, y], [max, y]], key: 1, colour: look.ink, width: 1, dash: [1, 3], label: i ? "you predicted" : "" })),
        { points: ghost, key: 1, colour: look.ghost, ink: look.muted, width: 1.5, label: ghostName(model) },
        { points, key: 2, colour: look.student, width: 1.5, dash: [2, 3], label: `greedy ${score(last?.[2])}` },
        { points, key: 1, colour: look.student, width: 2, label: `sampled ${score(last?.[1])}`, weight: 600 }] }, look);
    put(accepted.note, "chance that the target accepts a guess, by exam");
  }

  const place = (v) => `${((Math.max(-0.1, Math.min(1.1, v)) + 0.1) / 1.2) * 100}%`;   // of a track that shows -0.1 to 1.1
  const stretch = (node, from, to) => { node.style.left = place(from); node.style.right = `calc(100% - ${place(to)})`; };

  function drawRecovery() {
    const r = recoveryOf(model), shown = !r.why, each = [...r.core, ...r.beside], empty = !each.length;
    const rows = each.length === 1 ? [r.mean] : [r.mean, ...each], key = empty ? "none" : rows.map((x) => x.skill).join("|");   // a single score is its own mean
    if (skillRows.dataset.key !== key) {                      // the same rows stay, so that bars slide instead of blinking
      skillRows.dataset.key = key;
      const cls = (x) => (x === r.mean ? "row is-mean" : x === r.beside[0] ? "row is-beside" : "row");
      skillRows.replaceChildren(...(empty ? ["scores appear with the first exam"] : [rowOf("row is-head", "skill", "", "name", ["track", "zero", "one"]),
        ...rows.map((x) => rowOf(cls(x), "skill", plain(x.skill, 40), "name", ["track", "band", "zero", "one", "stem", "dot"], "value", "raw"))]));
    }
    skillRows.dataset.mode = empty ? "empty" : shown ? "recovery" : "raw";
    put(recovery.note, empty ? "" : [r.why || `baseline: ${r.baseline}`, r.step === null ? "" : `exam at step ${whole(r.step)}`].filter(Boolean).join(" · "));
    recovery.note.title = recovery.note.textContent;
    const sure = finite(predicted?.confidence) ? `, ${percent(predicted.confidence)} sure` : "";
    put(skillFoot, predicted && !drafts ? `your prediction for the mean: ${predictedText(predicted)}${sure}` : "");
    put(workFoot, workedOf(model).length ? `every step right: ${workedOf(model).join(" · ")}` : "");
    if (empty) return;
    const [zero, one] = skillRows.firstChild.children[1].children;
    put(zero, shown ? "baseline" : "0"); put(one, shown ? "teacher" : "1");
    rows.forEach((x, i) => drawSkill(skillRows.children[i + 1], x, shown));
    const of = r.shared.length ? r.shared : r.core.map((x) => x.skill), name = skillRows.children[1].firstChild;
    put(name, each.length === 1 ? skillName(each[0].skill) : `mean of ${of.length}`);
    name.title = each.length === 1 ? name.textContent : `mean of ${list(of.map(skillName))}`;
    const band = skillRows.children[1].children[1].firstChild;
    band.hidden = !shown || !predicted || drafts;
    if (predicted) stretch(band, predicted.low, predicted.high);
  }

  function drawSkill(node, x, shown) {
    const [name, track, value, raw] = node.children, [band, zero, one, stem, dot] = track.children;
    const at = shown ? x.recovery : x.student;               // without a baseline: the raw score, and the teacher's beside it
    put(name, skillName(x.skill)); name.title = name.textContent; put(value, !shown ? "" : finite(x.recovery) ? percent(x.recovery) : x.note || "–");
    put(raw, `${score(x.student)}${finite(x.student) && finite(x.teacher) ? ` of ${score(x.teacher)}` : ""}`);
    value.classList.toggle("is-words", shown && !finite(x.recovery));
    zero.style.left = place(0); one.style.left = place(shown ? 1 : (x.teacher ?? 1));
    one.hidden = shown ? x.note === "no gap" : x.teacher === null;
    band.hidden = true; stem.hidden = dot.hidden = !finite(at);
    if (!finite(at)) return;
    dot.dataset.clamp = at > 1.1 ? "high" : at < -0.1 ? "low" : "";
    dot.style.left = place(at);
    stretch(stem, Math.min(0, at), Math.max(0, at));
  }

  function drawWaterfall() {
    const arms = waterfallOf(model);
    if (!fallRows.childElementCount) fallRows.append(...arms.map((a) => rowOf("row", "arm", a.key, "name", ["track", "fill", "none"], "value", "raw")));
    arms.forEach((a, i) => {
      const node = fallRows.children[i], [name, track, value, raw] = node.children, missing = a.value === null;
      node.classList.toggle("is-missing", missing);
      put(name, a.label); name.title = a.long;
      put(track.lastChild, missing ? "not measured" : "");
      put(value, missing ? "" : score(a.value)); put(raw, a.delta === null ? "" : signed(a.delta));
      track.firstChild.style.width = `${missing ? 100 : Math.max(0, Math.min(1, a.value)) * 100}%`;
    });
    put(waterfall.note, `${skillsOf(model).length === 1 ? measureOf(model) : "mean core skill"}, 0 to 1 · each step up on the right`);
  }

  function drawSamples() {
    while (sampleBody.childElementCount < ROWS) {
      const verdict = el("td", { cls: "dlab-verdict" }, part("symbol"), part("vword"));
      sampleBody.append(el("tr", { "data-question": "" }, ...CELLS.map((name) => el("td", { "data-name": name })), verdict));
    }
    [...sampleBody.children].forEach((tr, i) => {
      const row = model.samples[i], cells = [...tr.children], stays = row && tr.dataset.question === row.question;
      CELLS.forEach((name, k) => {
        const text = row ? plain(row[name]) || "–" : "", cell = cells[k];
        if (cell.textContent === text) return;
        cell.textContent = cell.title = text;
        if (stays && !calm.matches) cell.animate([{ backgroundColor: look.wash }, { backgroundColor: "transparent" }], 1400);
      });
      tr.dataset.question = row?.question ?? "";
      const known = Object.hasOwn(VERDICTS, row?.verdict ?? ""), [symbol, name] = known ? VERDICTS[row.verdict] : row ? ["?", plain(row.verdict, 20)] : ["", ""];
      cells[4].dataset.verdict = known ? row.verdict : "";
      put(cells[4].firstChild, symbol); put(cells[4].lastChild, name);
    });
    const tally = Object.entries(VERDICTS).map(([v, [, name]]) => `${model.samples.filter((r) => r.verdict === v).length} ${name}`).join(", ");
    put(samples.note, model.samples.length ? `${tally} · step ${whole(model.sampledAt)}` : "inherited: the teacher's own wrong answer, word for word");
  }

  function drawProbe() {
    const tokens = tokensOf(model.probe), make = (cls) => rowOf(cls, "token", "", "name", ["pair", "bar", "bar"], "p is-teacher", "p is-student");
    if (!probeRows.childElementCount) probeRows.append(make("token is-head"), ...Array.from({ length: 8 }, () => make("token")));
    [{ teacher: "teacher", student: "student" }, ...Array.from({ length: 8 }, (_, i) => tokens[i])].forEach((t, i) => {
      const [name, pair, teacher, student] = probeRows.children[i].children, tell = (v) => (t === undefined ? "" : i === 0 ? v : chance(v));
      put(name, t?.token ?? "");
      put(teacher, tell(t?.teacher)); put(student, tell(t?.student));
      [t?.teacher, t?.student].forEach((v, k) => { pair.children[k].style.width = `${finite(v) ? v * 100 : 0}%`; });
    });
    put(probe.note, model.probe ? `${plain(model.probe.question, 90)} · step ${whole(model.probe.step)}` : "what either model finds likeliest, side by side");
    probe.note.title = plain(model.probe?.question);
  }

  function draw() {
    frame = 0;
    drawStrip(); drawCharts();
    if (dirty) { dirty = false; drawRecovery(); if (!drafts) drawWaterfall(); drawSamples(); drawProbe(); }
    later ??= setTimeout(refresh, 1000);
  }

  /** Open data tables, and what a screen reader finds on the canvases: once a second is plenty. */
  function refresh() {
    later = null;
    for (const p of [kl, loss, recovery, drafts ? accepted : waterfall, probe]) p.fill();
    for (const [canvas, name, points] of [[klCanvas, "KL to the teacher", model.kl], [lossCanvas, "Loss", model.loss]]) {
      const now = lastFinite(points);
      canvas.setAttribute("aria-label", `${name} against step: ${now ? `${nats(now[2])} at step ${whole(now[0])}` : "no steps yet"}. Numbers under “data”.`);
    }
    const exam = acceptedOf(model.exams).at(-1), told = exam ? `${score(exam[1])} at step ${whole(exam[0])}, greedy ${score(exam[2])}` : "no exam yet";
    takenCanvas.setAttribute("aria-label", `Acceptance against step: ${told}. Numbers under “data”.`);
  }

  function speak() {
    const said = link ? LINKS[link][2] : sentenceOf(model, { predicted, unit }) || asSentence(model.words);
    if (TERMINAL.has(stateOf(model)) && said !== line.textContent) sayLine.clear();   // the end is told at once
    sayLine(said);
    put(status, link ? LINKS[link][1] : stateOf(model) === "failed" && !model.failed ? `failed: ${model.words}` : stateOf(model));
    const last = model.warnings.at(-1), more = model.warnings.length - 1, f = model.failed;
    sayWarning(last ? `Warning at step ${whole(last.step)}: ${asSentence(last.message)}${more > 0 ? ` (and ${count(more, "earlier warning")})` : ""}` : "");
    offer.hidden = !options.oneThread || offerOf(model) !== ONE_THREAD;
    if (!f) alarm.replaceChildren();
    else if (!alarm.childElementCount) {
      alarm.append(el("strong", { text: `The run failed at step ${whole(f.step)}.` }), ` ${asSentence(f.message)} `, part("advice"));
      alarm.lastChild.textContent = `What to do: ${asSentence(f.advice)}`;
    }
  }

  const schedule = () => { if (!frame && !dead) frame = requestAnimationFrame(draw); };   // at most one drawing a frame

  function changed(panels = true) {
    dirty ||= panels;
    Object.assign(root.dataset, { state: stateOf(model), step: model.step, klPoints: model.kl.length,   // what tests and pages can watch
      ghost: model.ghost ? 1 : 0, knobMarks: model.knobs.length });
    speak();
    schedule();
  }

  function describe() {
    const text = [link && LINKS[link][2], describeModel(model, { predicted, unit })].filter(Boolean).join(" ");
    described.textContent = "";                               // an unchanged text would not be read out a second time
    setTimeout(() => { if (!dead) described.textContent = text; }, 30);
    tell.setAttribute("aria-expanded", "true");
    return text;
  }

  function hush() { described.textContent = ""; tell.setAttribute("aria-expanded", "false"); }

  /** The controls beside the board work no more, and look like it. (They are the neighbours of the board and of what it stands in.) */
  function disarm(gone) {
    for (let node = root; node?.parentElement && !node.classList.contains("labkit-lab"); node = node.parentElement) {
      if (node.closest(".labkit-lab")) for (const other of node.parentElement.children) if (other !== node) other.inert = gone;
    }
  }

  // -------- listening

  function recolour() {
    root.dataset.theme = darkPage() ? "dark" : "light"; const style = getComputedStyle(root);
    look = { font: style.fontFamily };
    for (const name of ["ink", "muted", "hair", "back", "student", "baseline", "ghost", "wash"]) look[name] = style.getPropertyValue(`--dlab-${name}`).trim();
    schedule();
  }

  function onKeydown(event) {
    event.stopPropagation();                                  // or "d" twice would delete the notebook cell
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = event.key === " " ? "space" : event.key.toLowerCase();
    if (name === "d") describe();
    if (name === "escape") hush();
  }
  const point = (event) => { hover = event.type === "pointermove" && model.kl.length ? scale?.stepAt(event.offsetX) ?? null : null; schedule(); };

  root.addEventListener("keydown", onKeydown);
  tell.addEventListener("click", () => (tell.getAttribute("aria-expanded") === "true" ? hush() : describe()));
  offer.addEventListener("click", () => {
    root.focus({ preventScroll: true });                      // the button goes, and the keyboard stays on the board
    options.oneThread();
    model.offer = "";
    changed(false);
  });
  const resized = new ResizeObserver(recolour), themed = new MutationObserver(recolour), scheme = matchMedia("(prefers-color-scheme: dark)");
  resized.observe(takenCanvas);
  for (const canvas of [klCanvas, lossCanvas]) {
    for (const type of ["pointermove", "pointerleave"]) canvas.addEventListener(type, point);
    resized.observe(canvas);
  }
  for (const node of [document.body, document.documentElement]) themed.observe(node, { attributes: true });
  scheme.addEventListener("change", recolour);
  recolour(); refresh(); changed();

  return {
    push(events) {
      if (dead) return;
      let panels = false;
      for (const event of events) {
        if (event?.event === "started") { sayLine.clear(); sayWarning.clear(); }   // what was said of the last run is no longer true
        if (event?.event === "loading") { sayLine.clear(); sayWarning.clear(); }   // and what is said now is said at once
        fold(model, event);
        panels ||= event?.event !== "step" && event?.event !== "labelled";
      }
      changed(panels);
    },
    reset() { model = emptyModel(); sayLine.clear(); sayWarning.clear(); hush(); changed(); },
    /** Says what the stream cannot: a pause, an end without an event, what a run loads. May be repeated after every push. */
    setState(state, message = "") {
      if (!STATES.has(state)) return;
      model.held = state === "paused" || state === "measuring" || TERMINAL.has(state) ? state : null;
      if (TERMINAL.has(state)) { if (model.finished || model.failed) model.phase = state; else if (model.phase === "loading") model.phase = "ready"; }
      else if (state !== "paused" && state !== "measuring" && state !== "loading" && (model.phase === "ready" || (TERMINAL.has(model.phase) && state !== "ready"))) model.phase = state;
      model.words = plain(message, 120);
      changed(dirty);
    },
    /** Says what the way to the kernel is like: a key of `LINKS`, or "" where all is well. A board that is gone stays gone. */
    setLink(next) {
      if (next === link || GONE.has(link)) return;
      link = next;
      root.dataset.link = link;
      root.classList.toggle("is-stale", link !== "");
      if (GONE.has(link)) disarm(true);
      sayLine.clear();
      changed();
    },
    setPrediction(prediction) { predicted = guessOf(prediction); changed(); },
    describe,
    destroy() {
      dead = true; cancelAnimationFrame(frame); clearTimeout(later);
      sayLine.clear(); sayWarning.clear();
      resized.disconnect(); themed.disconnect(); scheme.removeEventListener("change", recolour);
      root.removeEventListener("keydown", onKeydown);
      root.classList.remove("dlab"); root.replaceChildren();
    },
  };
}

function tokensOf(probe) {
  const { tokens = [], teacher = [], student = [] } = probe ?? {};
  return tokens.map((token, i) => ({ token: plain(token, 24).replace(/^[ \u0120\u2581]/, "␣"), teacher: teacher[i] ?? null, student: student[i] ?? null }))
    .sort((a, b) => b.teacher - a.teacher || b.student - a.student).slice(0, 8);
}
