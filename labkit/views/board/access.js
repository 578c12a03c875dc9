// What ipywidgets leaves out (8.1): its sliders have no name, and tell a screen reader the number of a step where the value is meant; its
// toggle buttons do not say whether they are pressed. And the page moves to the board when its run begins.

const put = (node, name, value) => { if (node.getAttribute(name) !== value) node.setAttribute(name, value); };

function tell(lab) {
  for (const button of lab.querySelectorAll(".widget-toggle-button")) {
    put(button, button.matches(".labkit-fold") ? "aria-expanded" : "aria-pressed", String(button.classList.contains("mod-active")));
  }
  for (const row of lab.querySelectorAll(".widget-inline-hbox")) {
    const label = row.querySelector(".widget-label")?.textContent.trim() ?? "", readout = row.querySelector(".widget-readout");
    for (const handle of row.querySelectorAll(".noUi-handle")) {
      put(handle, "aria-label", label);
      if (readout) put(handle, "aria-valuetext", readout.textContent.trim());
    }
    if (readout?.isContentEditable) { put(readout, "role", "textbox"); put(readout, "aria-label", `${label}, typed`); }
  }
}

function render({ el }) {
  let lab = null;
  const watch = new MutationObserver(() => tell(lab));
  const showBoard = (event) => {
    if (!event.target.closest(".labkit-run")) return;
    const chart = lab.querySelector(".dlab-canvas")?.getBoundingClientRect();
    if (chart && chart.bottom > innerHeight - 30) lab.scrollIntoView({ block: "start" });
  };
  const begin = requestAnimationFrame(function find() {       // this view is drawn before it stands in the page
    lab = el.closest(".labkit-lab");
    if (!lab) return;
    tell(lab);
    watch.observe(lab, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["aria-valuetext", "class"] });
    lab.addEventListener("click", showBoard);
  });
  return () => { cancelAnimationFrame(begin); watch.disconnect(); lab?.removeEventListener("click", showBoard); };
}
export default { render };
