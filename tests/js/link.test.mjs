// Unit tests of the way between board and kernel: `node --test tests/js/`. The clock is turned by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { follow } from "../../labkit/views/board/link.js";

/** A page with one board: what it drew, what it sent, and a clock. */
function page({ story = null, state = ["training", ""], kernel } = {}) {
  const on = {}, timers = [], drawn = { events: [], resets: 0, states: [], links: [] }, sent = [];
  const values = { story, state, predicted: null };
  const model = {
    get: (name) => values[name], send: (message) => sent.push(message), widget_manager: { kernel },
    on: (name, f) => { on[name] = f; }, off: (name) => { delete on[name]; },
  };
  const board = {
    push: (events) => drawn.events.push(...events), reset: () => { drawn.resets += 1; drawn.events = []; },
    setState: (...now) => drawn.states.push(now), setLink: (link) => { if (drawn.links.at(-1) !== link) drawn.links.push(link); }, setPrediction() {},
  };
  const clock = { after: (f, ms) => { timers.push({ f, ms }); return timers.at(-1); }, cancel: (timer) => { if (timers.includes(timer)) timers.splice(timers.indexOf(timer), 1); } };
  const leave = follow(model, board, { after: clock.after, cancel: clock.cancel });
  return { on, timers, drawn, sent, values, leave, say: (message) => on["msg:custom"]({ type: "events", epoch: 0, ...message }),
    tick() { const timer = timers.shift(); timer.f(); return timer.ms; } };
}
const answer = (p, events, more = {}) => p.say({ from: 0, events, to: p.sent.at(-1).view, ...more });

test("it asks again, with longer and longer waits, until it is answered", () => {
  const p = page();
  const waits = Array.from({ length: 7 }, () => p.tick());
  assert.deepEqual(waits, [300, 700, 1500, 3000, 5000, 5000, 5000]);
  assert.equal(p.sent.length, 8);
  assert.deepEqual(p.drawn.links, ["asking", "silent"]);
  answer(p, ["a", "b"]);
  assert.deepEqual([p.drawn.events, p.drawn.links.at(-1)], [["a", "b"], ""]);
});

test("without a quick answer a fresh page draws what its model holds, and nothing twice", () => {
  const p = page({ story: { from: 0, epoch: 0, events: ["a", "b"] } });
  assert.deepEqual(p.drawn.events, [], "it may be old");
  p.tick();
  assert.deepEqual(p.drawn.events, ["a", "b"]);
  p.say({ from: 2, events: ["c"] });
  answer(p, ["a", "b", "c", "d"]);
  p.say({ from: 3, events: ["d", "e"] });
  assert.deepEqual(p.drawn.events, ["a", "b", "c", "d", "e"]);
  assert.equal(p.drawn.resets, 1);
});

test("where the kernel hears nothing, what it says is still drawn, with a gap", () => {
  const p = page({ story: { from: 0, epoch: 0, events: ["a"] } });
  p.tick();
  p.say({ from: 3, events: ["d"] });
  assert.deepEqual(p.drawn.events, ["a"], "the answer may be under way");
  for (let i = 0; i < 4; i += 1) p.tick();
  p.say({ from: 5, events: ["f"] });
  assert.deepEqual(p.drawn.events, ["a", "f"]);
});

test("events that were missed are asked for once, not once for each event", () => {
  const p = page();
  answer(p, ["a"]);
  const before = p.sent.length;
  for (let i = 5; i < 25; i += 1) p.say({ from: i, events: ["x"] });
  assert.equal(p.sent.length, before + 1);
  answer(p, ["a", "b"], { from: 0 });
  assert.deepEqual(p.drawn.events, ["a", "b"]);
});

test("a board that was cleared starts from nothing", () => {
  const p = page();
  answer(p, ["a", "b"]);
  p.say({ from: 0, epoch: 1, events: [] });
  assert.deepEqual([p.drawn.events, p.drawn.resets], [[], 2]);
  p.say({ from: 0, epoch: 1, events: ["c"] });
  assert.deepEqual(p.drawn.events, ["c"]);
  answer(p, ["a", "b"], { epoch: 0 });
  assert.deepEqual(p.drawn.events, ["c"], "an old answer, come late");
});

test("a run that falls silent is asked for; a board at rest asks nothing", () => {
  const p = page();
  answer(p, ["a"]);
  assert.deepEqual(p.timers.map((t) => t.ms), [8000]);
  p.values.state = ["finished", ""];
  p.on["change:state"]();
  assert.deepEqual(p.timers, []);
});

test("what the kernel's own state says comes first", () => {
  const signal = () => { const all = []; return { connect: (f) => all.push(f), disconnect: (f) => all.splice(all.indexOf(f), 1), emit: (now) => all.forEach((f) => f(null, now)), all }; };
  const kernel = { statusChanged: signal(), connectionStatusChanged: signal() };
  const p = page({ kernel });
  answer(p, ["a"]);
  kernel.connectionStatusChanged.emit("connecting");
  assert.equal(p.drawn.links.at(-1), "offline");
  const before = p.sent.length;
  kernel.connectionStatusChanged.emit("connected");
  assert.equal(p.sent.length, before + 1, "what was missed meanwhile is asked for");
  answer(p, ["a", "b"]);
  assert.equal(p.drawn.links.at(-1), "");
  kernel.statusChanged.emit("restarting");
  kernel.connectionStatusChanged.emit("connected");
  assert.equal(p.drawn.links.at(-1), "restarted");
  assert.deepEqual([p.timers.length, p.sent.length], [0, before + 1], "nobody is there to ask");
  p.leave();
  assert.deepEqual([kernel.statusChanged.all.length, kernel.connectionStatusChanged.all.length, Object.keys(p.on).length], [0, 0, 0]);
});
