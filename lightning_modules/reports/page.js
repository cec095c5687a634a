// Name the point that is nearest to the pointer; show and hide curves by their buttons.
"use strict";
const REACH = 40; // pixels of the screen

for (const figure of document.querySelectorAll("figure")) {
  const svg = figure.querySelector("svg");
  const tip = figure.querySelector(".tip");
  let near = null;

  function leave() {
    if (near) near.classList.remove("near");
    near = null;
    tip.hidden = true;
  }

  function point(event) {
    let best = null, least = REACH;
    for (const circle of svg.querySelectorAll("g:not(.hidden) > circle.point")) {
      const box = circle.getBoundingClientRect();
      const across = box.x + box.width / 2 - event.clientX, down = box.y + box.height / 2 - event.clientY;
      const distance = Math.hypot(across, down);
      if (distance < least) { best = circle; least = distance; }
    }
    if (best === near) return;
    leave();
    if (!best) return;
    near = best;
    near.classList.add("near");
    tip.textContent = near.dataset.series + ", " + near.dataset.name;
    tip.hidden = false;
    const frame = figure.getBoundingClientRect(), box = near.getBoundingClientRect();
    const left = Math.min(Math.max(0, box.x - frame.x - tip.offsetWidth / 2), frame.width - tip.offsetWidth);
    const above = box.y - frame.y - tip.offsetHeight - 10;
    tip.style.left = left + "px";
    tip.style.top = (above > 0 ? above : box.y - frame.y + 18) + "px";
  }

  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", leave);
}

for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!shown));
    for (const group of document.querySelectorAll(`g[data-curve="${button.dataset.curve}"]`)) {
      group.classList.toggle("hidden", shown);
    }
  });
}
