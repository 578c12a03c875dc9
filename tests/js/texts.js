// Measures the texts of a board in a page: which overlap, which are cut off, which are tiny. Texts on canvases are noted as they are drawn.
const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
const drawn = new WeakMap();

CanvasRenderingContext2D.prototype.clearRect = function (...box) { drawn.set(this.canvas, []); return clearRect.apply(this, box); };
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const width = this.measureText(text).width, left = x - { left: 0, center: width / 2, right: width }[this.textAlign];
  if (String(text).trim()) drawn.get(this.canvas)?.push({ text, size: parseFloat(this.font.match(/(\d+(\.\d+)?)px/)[1]), left, right: left + width, top: y - 5, bottom: y + 5 });
  return fillText.call(this, text, x, y);
};

const clips = (node) => getComputedStyle(node).overflowX !== "visible";
const unseen = (node) => node.closest(".dlab-unseen, [hidden], details:not([open]) > :not(summary)") || getComputedStyle(node).visibility === "hidden";

function domTexts(root) {
  const out = [], cut = [];
  for (let walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), node; (node = walk.nextNode());) {
    const parent = node.parentElement, text = node.textContent.trim();
    if (!text || unseen(parent)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const lines = [...range.getClientRects()].filter((box) => box.width > 0.5);
    let frame = parent;
    while (frame !== root && !clips(frame)) frame = frame.parentElement;
    const bound = frame.getBoundingClientRect();
    if (getComputedStyle(frame).textOverflow === "ellipsis" && frame.scrollWidth > frame.clientWidth + 1) cut.push(text);
    else if (lines.some((box) => box.right > bound.right + 1 || box.left < bound.left - 1 || box.bottom > bound.bottom + 3)) cut.push(text);
    for (const box of lines) out.push({ node, text, size: parseFloat(getComputedStyle(parent).fontSize), left: box.left, right: box.right, top: box.top + 3, bottom: box.bottom - 3 });
  }
  return { out, cut };
}

window.textsOf = (root) => {
  const { out, cut } = domTexts(root), at = root.getBoundingClientRect();
  for (const canvas of root.querySelectorAll("canvas")) {
    const box = canvas.getBoundingClientRect();
    for (const t of box.width ? drawn.get(canvas) ?? [] : []) {
      if (t.left < -1 || t.right > box.width + 1) cut.push(t.text);
      out.push({ ...t, node: t, left: t.left + box.left, right: t.right + box.left, top: t.top + box.top, bottom: t.bottom + box.top });
    }
  }
  const overlaps = [];
  out.forEach((a, i) => out.slice(0, i).forEach((b) => {
    if (a.node !== b.node && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1) overlaps.push(`${b.text} | ${a.text}`);
  }));
  const kl = root.querySelector(".is-kl").getBoundingClientRect(), lanes = [...root.querySelectorAll(".dlab-row .dlab-track")].filter((n) => n.getBoundingClientRect().width < 60);
  return { overlaps, cut, tiny: out.filter((t) => t.size < 11).map((t) => t.text), narrow: lanes.map((n) => n.parentElement.textContent), canvas: kl.height,
    curve: kl.bottom - at.top, head: root.querySelector(".dlab-sentence").getBoundingClientRect().bottom - root.querySelector(".dlab-strip").getBoundingClientRect().top,
    texts: out.map((t) => t.text) };
};
