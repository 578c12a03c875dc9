// How the board hears from the kernel: it asks for all events until it is answered, follows the new ones, and says when nobody answers.
// It needs anywidget's `model` and nothing else of Jupyter; where there is a kernel to watch, what that one says comes first.

const WAITS = [300, 700, 1500, 3000, 5000];                  // ms until the question is asked again; the last one is repeated
const SILENT = 5;                                            // questions without an answer until the board says so
const QUIET = 8000;                                          // ms without a word of a run that goes on, until the board asks for one
const GOING = new Set(["loading", "labelling", "training", "measuring"]);

/** Follows `model` on `board`, and returns the function that ends it. clock: setTimeout and clearTimeout, for tests. */
export function follow(model, board, { after = setTimeout, cancel = clearTimeout } = {}) {
  const view = Math.random().toString(36).slice(2), kernel = model.widget_manager?.kernel;
  let next = -1, epoch = -1, asked = 0, timer = null, over = false;   // over: closed, or the kernel is gone

  const stated = () => { const [state, words] = model.get("state"); board.setState(state, words); };
  const guessed = () => board.setPrediction(model.get("predicted"));
  const wait = (ms, what) => { cancel(timer); timer = over ? null : after(what, ms); };

  function ask() {
    if (over) return;
    const story = model.get("story");                        // as of when this page was loaded: better than nothing, where no answer comes
    if (asked > 0 && next < 0 && story?.events?.length) take(story);
    if (asked === 2 || asked === SILENT) board.setLink(asked === 2 ? "asking" : "silent");
    model.send({ type: "hello", view });
    wait(WAITS[Math.min(asked, WAITS.length - 1)], ask);
    asked += 1;
  }

  function heard() {                                         // the kernel is there
    asked = 0;
    board.setLink("");
    if (GOING.has(model.get("state")[0])) wait(QUIET, ask); else { cancel(timer); timer = null; }
  }

  function take({ from, epoch: of, events }) {               // the whole story, as far as the kernel holds it
    if (of < epoch) return;                                  // an old one, come late
    if (of > epoch || from > next) { board.reset(); [next, epoch] = [from, of]; }
    add({ from, events });
  }

  function add({ from, events }) {
    board.push(events.slice(Math.max(0, next - from)));
    next = Math.max(next, from + events.length);
    stated();
  }

  function onMessage(message) {
    if (message.type !== "events" || (message.to && message.to !== view)) return;
    if (message.to || (message.from === 0 && message.epoch > epoch)) { take(message); return heard(); }
    const missed = next < 0 || message.epoch !== epoch || message.from > next;
    if (missed && asked === 0) return ask();
    if (missed && (asked < SILENT || message.epoch !== epoch)) return;   // the answer is under way
    if (missed) next = message.from;                         // the way to the kernel is cut, the way from it is not: a gap, not a blank
    add(message);
    if (asked === 0) heard();
  }

  const onState = () => { stated(); if (asked === 0) heard(); };
  const gone = (why) => { over = true; cancel(timer); board.setLink(why); };   // no kernel will ever answer this board
  const status = (_, now) => {
    if (now === "restarting" || now === "autorestarting") gone("restarted");
    if (now === "dead") gone("dead");
  };
  const connection = (_, now) => {
    if (over) return;
    if (now === "connected") { asked = 0; ask(); } else { cancel(timer); board.setLink("offline"); }
  };
  model.on("msg:custom", onMessage); model.on("change:state", onState); model.on("change:predicted", guessed);
  kernel?.statusChanged?.connect(status); kernel?.connectionStatusChanged?.connect(connection);
  stated();
  ask();

  return () => {
    over = true; cancel(timer);
    model.off("msg:custom", onMessage); model.off("change:state", onState); model.off("change:predicted", guessed);
    kernel?.statusChanged?.disconnect(status); kernel?.connectionStatusChanged?.disconnect(connection);
  };
}
