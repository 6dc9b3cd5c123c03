"use strict";

// The chart: test accuracy against seconds of training, a curve for each record and each published log.

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 6; // the style sheet's classes c0 to c5
const REACH = 22; // pixels from a curve within which the pointer takes hold of it
const APART = 9; // pixels between marks; closer ones would only blacken the curve
const MANY = 12; // curves from which on marks would blacken the chart, but for each curve's last
const MARGIN = { top: 28, right: 16, bottom: 42, left: 46 };
// Shape and colour both tell curves apart: 4 shapes and 6 colours are 24 different curves.
const MARKS = [
  (x, y) => `M${x - 3.2},${y}a3.2,3.2 0 1,0 6.4,0a3.2,3.2 0 1,0 -6.4,0z`,
  (x, y) => `M${x - 2.9},${y - 2.9}h5.8v5.8h-5.8z`,
  (x, y) => `M${x},${y - 3.8}l3.8,6.6h-7.6z`,
  (x, y) => `M${x},${y - 4}l4,4l-4,4l-4,-4z`,
];

function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Text with a number in it: as many decimals as four digits need, and a comma at thousands.
function seconds(value) {
  const decimals = Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value) || 1))));
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

function percent(value, decimals = 2) {
  return `${(100 * value).toFixed(decimals)}\u00a0%`;
}

function curveClass(curve) {
  return curve.published ? `published-curve d${curve.index % 3}` : `c${curve.index % COLOURS}`;
}

function markOf(curve) {
  return MARKS[(curve.index + Math.floor(curve.index / 12)) % MARKS.length]; // at 12 the pairs of 4 and 6 repeat
}

// A bit of the curve, for legend and tables.
function swatch(curve) {
  const line = shape("path", { class: "line", d: "M1,7H29" });
  const look = { class: `swatch ${curveClass(curve)}`, viewBox: "0 0 30 14", "aria-hidden": "true" };
  const made = shape("svg", look, line);
  if (!curve.published) made.append(shape("path", { class: "mark", d: markOf(curve)(15, 7) }));
  return made;
}

function extent(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function linearTicks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  const first = Math.ceil(low / step - 1e-9) + 0; // + 0: no -0, which would be written so
  for (let n = first; n * step <= high * (1 + 1e-9); n += 1) ticks.push(n * step);
  return ticks;
}

function logTicks(low, high, most) {
  for (const factors of [[1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      ticks.push(...factors.map((factor) => factor * 10 ** power).filter((tick) => tick >= low && tick <= high));
    }
    if (ticks.length > 1 && ticks.length <= most) return ticks;
  }
  return linearTicks(low, high, most / 2); // less than a power of ten
}

// Points that are not on top of each other, the last one among them.
function spread(pixels, apart) {
  const kept = [pixels.at(-1)];
  for (const [x, y] of pixels.toReversed()) {
    if (Math.hypot(x - kept.at(-1)[0], y - kept.at(-1)[1]) >= apart) kept.push([x, y]);
  }
  return kept;
}

function distanceToSegment([x, y], [x0, y0], [x1, y1]) {
  const length = (x1 - x0) ** 2 + (y1 - y0) ** 2;
  const share = length ? Math.min(1, Math.max(0, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length)) : 0;
  return Math.hypot(x - x0 - share * (x1 - x0), y - y0 - share * (y1 - y0));
}

class Chart {
  // curves: {id, index, name, note, published, target, points: [[seconds, accuracy], ...]}
  constructor(host, curves) {
    this.curves = curves;
    this.shown = curves;
    this.log = true;
    this.hovered = null; // {curve, point}, as is pinned
    this.pinned = null;
    this.host = host;
    this.plot = host.querySelector(".plot");
    this.svg = this.plot.querySelector("svg");
    this.tip = this.plot.querySelector(".tip");
    this.legend = host.querySelector(".legend");
    this.legend.replaceChildren(...curves.map((curve) => this.legendItem(curve)));
    for (const radio of host.querySelectorAll("input[name=scale]")) {
      radio.addEventListener("change", () => {
        this.log = radio.value === "log";
        this.draw();
      });
    }
    this.plot.addEventListener("pointermove", (event) => this.hover(this.nearest(event)));
    this.plot.addEventListener("pointerleave", () => this.hover(null));
    this.plot.addEventListener("click", (event) => this.pin(this.nearest(event)));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.pinned) this.pin(null);
    });
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  legendItem(curve) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(swatch(curve), `${curve.name}${curve.published ? " (published, not measured here)" : ""}`);
    this.link(button, curve);
    button.addEventListener("click", () => this.pin(this.hovered ?? this.last(curve)));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const from = (this.hovered ?? this.last(curve)).point;
      this.hover({ curve, point: Math.min(curve.points.length - 1, Math.max(0, from + step)) });
    });
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  // Let an element stand for a curve: pointing at it is pointing at the curve, and the other way round.
  link(element, curve) {
    element.dataset.curve = curve.id;
    for (const on of ["pointerenter", "focusin"]) element.addEventListener(on, () => this.hover(this.last(curve)));
    for (const off of ["pointerleave", "focusout"]) element.addEventListener(off, () => this.hover(null));
  }

  last(curve) {
    return { curve, point: curve.points.length - 1 };
  }

  nearest(event) {
    const box = this.plot.getBoundingClientRect();
    const pointer = [event.clientX - box.left, event.clientY - box.top];
    let found = null;
    let closest = REACH;
    for (const curve of this.shown) {
      curve.pixels.forEach((end, point) => {
        const start = curve.pixels[Math.max(0, point - 1)];
        const distance = distanceToSegment(pointer, start, end);
        if (distance >= closest) return;
        closest = distance;
        const nearer = Math.abs(pointer[0] - start[0]) < Math.abs(pointer[0] - end[0]) ? point - 1 : point;
        found = { curve, point: Math.max(0, nearer) };
      });
    }
    return found;
  }

  hover(place) {
    this.hovered = place;
    this.light();
  }

  // Pinning what is pinned lets it go.
  pin(place) {
    this.pinned = place && this.pinned?.curve === place.curve ? null : place;
    this.light();
  }

  show(curves) {
    this.shown = curves;
    if (this.pinned && !curves.includes(this.pinned.curve)) this.pinned = null;
    this.curves.forEach((curve, index) => {
      this.legend.children[index].hidden = !curves.includes(curve);
    });
    this.draw();
  }

  light() {
    const place = this.hovered ?? this.pinned;
    this.plot.classList.toggle("lit", place !== null);
    for (const one of document.querySelectorAll("[data-curve]")) {
      one.classList.toggle("on", one.dataset.curve === place?.curve.id);
      one.classList.toggle("pinned", one.dataset.curve === this.pinned?.curve.id);
      if (one.hasAttribute("aria-pressed")) one.setAttribute("aria-pressed", one.classList.contains("pinned"));
    }
    this.dot?.setAttribute("visibility", "hidden");
    this.tip.replaceChildren();
    if (!place || !this.shown.includes(place.curve) || !this.dot) return;
    const { curve, point } = place;
    const [x, y] = curve.pixels[point];
    this.svg.append(this.svg.querySelector(`g[data-curve="${curve.id}"]`)); // over the others
    this.svg.append(this.dot);
    this.dot.setAttribute("class", `dot ${curveClass(curve)}`);
    this.dot.setAttribute("cx", x);
    this.dot.setAttribute("cy", y);
    this.dot.setAttribute("visibility", "visible");
    this.describe(curve, point);
    const left = Math.min(this.plot.clientWidth - this.tip.offsetWidth, Math.max(0, x - this.tip.offsetWidth / 2));
    const above = y - this.tip.offsetHeight - 12;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${above < 0 ? y + 14 : above}px`;
  }

  describe(curve, point) {
    const [time, accuracy] = curve.points[point];
    const title = document.createElement("strong");
    title.textContent = curve.name;
    const figures = document.createElement("span");
    figures.textContent = `epoch ${point + 1} · ${seconds(time)} s · ${percent(accuracy)}`;
    const note = document.createElement("span");
    note.className = "note";
    note.textContent = curve.published ? "published, not measured here" : curve.note;
    this.tip.append(title, figures, note);
  }

  draw() {
    const [width, height] = [this.plot.clientWidth, this.plot.clientHeight];
    this.svg.replaceChildren();
    this.dot = null;
    if (!width || !this.shown.length) {
      this.light();
      return;
    }
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const points = this.shown.flatMap((curve) => curve.points);
    const targets = [...new Set(this.shown.flatMap((curve) => curve.target ?? []))];
    const [fastest, slowest] = extent(points.map(([time]) => time));
    const [worst, best] = extent([...points.map(([, accuracy]) => accuracy), ...targets]);
    const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
    const [from, to] = this.log ? [fastest / 1.25, slowest * 1.25] : [0, slowest * 1.04];
    const low = Math.min(0.95, Math.floor(worst * 20) / 20);
    const high = Math.min(1, Math.ceil(best * 20 + 0.3) / 20);
    const along = this.log ? (time) => Math.log(time / from) / Math.log(to / from) : (time) => time / to;
    const x = (time) => left + along(time) * (right - left);
    const y = (accuracy) => bottom - ((accuracy - low) / (high - low)) * (bottom - top);

    const text = (content, attributes) => shape("text", attributes, content);
    for (const tick of linearTicks(low, high, Math.max(2, (bottom - top) / 34))) {
      this.svg.append(shape("path", { class: "grid", d: `M${left},${y(tick)}H${right}` }));
      const decimals = Math.abs(tick * 100 - Math.round(tick * 100)) < 1e-6 ? 0 : 1;
      this.svg.append(text(percent(tick, decimals), { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }));
    }
    const ticks = (this.log ? logTicks : linearTicks)(from, to, (right - left) / 58);
    for (const tick of ticks) {
      this.svg.append(shape("path", { class: "grid", d: `M${x(tick)},${top}V${bottom}` }));
      const label = tick.toLocaleString("en-US", { maximumSignificantDigits: 6 });
      this.svg.append(text(label, { x: x(tick), y: bottom + 17, "text-anchor": "middle" }));
    }
    const scale = `seconds of training, ${this.log ? "log" : "linear"} scale`;
    this.svg.append(text(scale, { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }));
    this.svg.append(text("test accuracy", { x: 0, y: 12 }));
    for (const target of targets) {
      this.svg.append(shape("path", { class: "target", d: `M${left},${y(target)}H${right}` }));
      const label = `target ${percent(target, 2).replace(/\.?0+(?=\u00a0)/, "")}`;
      this.svg.append(text(label, { class: "target-label", x: left + 6, y: y(target) - 5 }));
    }
    for (const curve of this.shown) {
      curve.pixels = curve.points.map(([time, accuracy]) => [x(time), y(accuracy)]);
      const line = curve.pixels.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join("L");
      const group = shape("g", { class: `curve ${curveClass(curve)}`, "data-curve": curve.id });
      group.append(shape("path", { class: "line", d: `M${line}` }));
      if (!curve.published) {
        const apart = this.shown.length < MANY ? APART : Infinity;
        const marks = spread(curve.pixels, apart).map(([px, py]) => markOf(curve)(px, py));
        group.append(shape("path", { class: "mark", d: marks.join("") }));
      }
      this.svg.append(group);
    }
    this.dot = shape("circle", { r: 5.5 });
    this.light();
  }
}
