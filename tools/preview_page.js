"use strict";
(() => {
  const stage = document.getElementById("stage"), canvas = document.getElementById("canvas");
  const divider = document.getElementById("divider");
  const images = [...canvas.querySelectorAll("img")];
  const choices = [document.getElementById("left"), document.getElementById("right")];
  const labels = [document.getElementById("label-left"), document.getElementById("label-right")];
  const zoomed = document.getElementById("zoom");
  const FULL = Number(stage.dataset.width), MOST = 16;
  let split = 0.5, scale = 1, x = 0, y = 0;

  const size = () => stage.getBoundingClientRect();
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const original = () => FULL * 1 / size().width / devicePixelRatio;  // a pixel of the largest is one of the screen
  const most = () => Math.max(1, MOST * original());

  function draw() {
    const { width, height } = size();
    x = clamp(x, width * (1 - scale), 0);
    y = clamp(y, height * (1 - scale), 0);
    canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    divider.style.left = `${100 * split}%`;
    divider.setAttribute("aria-valuenow", Math.round(100 * split));
    const cut = clamp((split * width - x) / scale, 0, width);
    images.forEach((image, index) => {
      const isLeft = index === choices[0].selectedIndex, isRight = index === choices[1].selectedIndex;
      image.style.visibility = isLeft || isRight ? "visible" : "hidden";
      image.style.zIndex = isRight ? 2 : 1;
      image.style.clipPath = isRight && !isLeft ? `inset(0 0 0 ${cut}px)` : "none";
      image.style.imageRendering = scale * width * devicePixelRatio >= 2 * image.naturalWidth ? "pixelated" : "auto";
    });
    labels.forEach((label, side) => { label.textContent = choices[side].selectedOptions[0].textContent; });
    zoomed.textContent = `${Math.round(100 * scale / original())} %`;
  }

  function zoom(to, atX = size().width / 2, atY = size().height / 2) {
    to = clamp(to, 1, most());
    x = atX - (atX - x) * to / scale;
    y = atY - (atY - y) * to / scale;
    scale = to;
    draw();
  }

  function divide(to) { split = clamp(to, 0, 1); draw(); }
  function pan(dx, dy) { x += dx; y += dy; draw(); }
  function swap() {
    [choices[0].selectedIndex, choices[1].selectedIndex] = [choices[1].selectedIndex, choices[0].selectedIndex];
    draw();
  }

  const pointers = new Map();
  let drags = "";
  stage.addEventListener("pointerdown", event => {
    if (event.button) return;
    pointers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    const onDivider = Math.abs(event.clientX - size().left - split * size().width) < 24;
    drags = onDivider || scale === 1 ? "divider" : "picture";
    (onDivider ? divider : stage).focus({ preventScroll: true });
    if (drags === "divider" && pointers.size === 1) divide((event.clientX - size().left) / size().width);
    event.preventDefault();
  });
  stage.addEventListener("pointermove", event => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const other = [...pointers.values()].find(one => one.pointerId !== event.pointerId);
    pointers.set(event.pointerId, event);
    if (other) {
      const apart = one => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      const { left, top } = size();
      zoom(scale * apart(event) / apart(before), (event.clientX + other.clientX) / 2 - left,
           (event.clientY + other.clientY) / 2 - top);
    } else if (drags === "divider") divide((event.clientX - size().left) / size().width);
    else pan(event.clientX - before.clientX, event.clientY - before.clientY);
  });
  for (const end of ["pointerup", "pointercancel"])
    stage.addEventListener(end, event => {
      pointers.delete(event.pointerId);
      if (pointers.size === 1) drags = scale === 1 ? "divider" : "picture";
    });
  stage.addEventListener("wheel", event => {
    const next = clamp(scale * Math.exp(-event.deltaY / 400), 1, most());
    if (next === scale) return;  // the page scrolls on
    event.preventDefault();
    zoom(next, event.clientX - size().left, event.clientY - size().top);
  }, { passive: false });
  stage.addEventListener("dblclick", event => {
    zoom(scale > 1 ? 1 : Math.max(2, original()), event.clientX - size().left, event.clientY - size().top);
  });

  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const step = event.shiftKey ? 0.1 : 0.02, far = event.shiftKey ? 200 : 40;
    const common = {
      "+": () => zoom(scale * 1.5), "=": () => zoom(scale * 1.5), "-": () => zoom(scale / 1.5),
      "0": () => zoom(1), "1": () => zoom(original()), "x": swap,
    };
    const onDivider = {
      ArrowLeft: () => divide(split - step), ArrowRight: () => divide(split + step),
      ArrowDown: () => divide(split - step), ArrowUp: () => divide(split + step),
      Home: () => divide(0), End: () => divide(1),
    };
    const onStage = {
      ArrowLeft: () => pan(far, 0), ArrowRight: () => pan(-far, 0),
      ArrowUp: () => pan(0, far), ArrowDown: () => pan(0, -far),
    };
    const act = (event.target === divider ? onDivider : event.target === stage && scale > 1 ? onStage : {})[event.key]
      || common[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  const buttons = {
    in: () => zoom(scale * 1.5), out: () => zoom(scale / 1.5), fit: () => zoom(1), original: () => zoom(original()),
    swap: swap,
  };
  for (const [name, act] of Object.entries(buttons)) document.getElementById(`do-${name}`).addEventListener("click", act);
  choices.forEach(choice => choice.addEventListener("change", draw));
  addEventListener("resize", draw);
  addEventListener("load", draw);
  choices[1].selectedIndex = 1;
  draw();
})();
