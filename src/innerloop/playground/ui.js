// What both parts of the page use: workers, sliders, charts.

"use strict";

const $ = (id) => document.getElementById(id);
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

/** A worker that answers one call after the other. */
class Room {
  constructor(name) {
    this.name = name;
    this.waiting = new Map();
    this.count = 0;
  }

  start() {
    const code = new Blob([$("worker").textContent], { type: "text/javascript" });
    this.worker = new Worker(URL.createObjectURL(code));
    this.worker.onmessage = ({ data: { id, value, error } }) => {
      const [done, failed] = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) failed(new Error(error));
      else done(value);
    };
    this.worker.onerror = (event) => {
      for (const [, failed] of this.waiting.values()) failed(new Error(event.message));
    };
  }

  call(method, args = {}) {
    if (!this.worker) this.start();
    const id = ++this.count;
    return new Promise((done, failed) => {
      this.waiting.set(id, [done, failed]);
      this.worker.postMessage({ id, room: this.name, method, args });
    });
  }
}

/** Runs `work` now or, while it runs, once more afterwards: the last wish counts, none is queued twice. */
function latest(work) {
  let running = false;
  let again = false;
  return async () => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await work();
      }
    } finally {
      running = false;
    }
  };
}

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A chart with linear axes; y may be logarithmic. */
class Chart {
  constructor(holder, { width, height, x, y, log = false, xTicks, yTicks, label, xLabel, yLabel }) {
    Object.assign(this, { width, height, log, xTicks, yTicks });
    this.margin = { left: 38, right: 8, top: 8, bottom: xLabel ? 36 : 24 };
    this.svg = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    this.axes = svg("g");
    this.marks = svg("g");
    this.svg.append(this.axes, this.marks);
    holder.replaceChildren(this.svg);
    this.names = { xLabel, yLabel };
    this.range(x, y);
  }

  range(x, y) {
    const key = JSON.stringify([x, y]);
    if (key === this.key) return;
    Object.assign(this, { key, xRange: x, yRange: y });
    const { left, right, bottom } = this.margin;
    this.axes.replaceChildren();
    for (const t of this.yTicks(y)) {
      const at = this.y(t);
      this.axes.append(svg("line", { x1: left, x2: this.width - right, y1: at, y2: at, class: "grid" }));
      this.axes.append(svg("text", { x: left - 7, y: at + 4, "text-anchor": "end" }, t.toLocaleString("en").replace("-", "−")));
    }
    for (const t of this.xTicks(x)) {
      const anchor = t === x[1] && this.log ? "end" : "middle";
      this.axes.append(
        svg("text", { x: this.x(t), y: this.height - bottom + 17, "text-anchor": anchor }, t.toLocaleString("en").replace("-", "−")),
      );
    }
    if (this.names.xLabel) {
      const middle = (left + this.width - right) / 2;
      const at = { x: middle, y: this.height - 3, "text-anchor": "middle", class: "axis-name" };
      this.axes.append(svg("text", at, this.names.xLabel));
    }
  }

  x(value) {
    const [low, high] = this.xRange;
    const { left, right } = this.margin;
    return left + ((value - low) / (high - low)) * (this.width - left - right);
  }

  y(value) {
    const f = this.log ? Math.log10 : (v) => v;
    const [low, high] = this.yRange.map(f);
    const { top, bottom } = this.margin;
    return this.height - bottom - ((f(value) - low) / (high - low)) * (this.height - top - bottom);
  }

  line(points, attributes) {
    const inside = ([x, y]) => `${this.x(x).toFixed(1)} ${clamp(this.y(y), -50, this.height + 50).toFixed(1)}`;
    if (points.length) this.marks.append(svg("path", { d: `M${points.map(inside).join("L")}`, ...attributes }));
  }

  dot(x, y, attributes) {
    this.marks.append(svg("circle", { cx: this.x(x).toFixed(1), cy: this.y(y).toFixed(1), ...attributes }));
  }

  clear() {
    this.marks.replaceChildren();
  }
}

/** A slider's value, shown beside it; `shown` turns the position into text. */
function slider(id, shown, changed) {
  const input = $(id);
  const show = () => {
    const text = shown(Number(input.value));
    $(`${id}-out`).textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  input.addEventListener("input", () => {
    show();
    changed();
  });
  show();
  return {
    get value() {
      return Number(input.value);
    },
    set value(v) {
      input.value = v;
      show();
    },
  };
}

/** The value of a group of radio buttons. */
function choice(name, changed) {
  const all = [...document.querySelectorAll(`input[name="${name}"]`)];
  for (const input of all) input.addEventListener("change", changed);
  return () => all.find((input) => input.checked).value;
}

/** Bars of relative movement, one a block. */
function movedBars(holder, moved, { scale, frozen = [] } = {}) {
  const most = scale ?? Math.max(1e-9, ...Object.values(moved));
  holder.replaceChildren(
    ...Object.entries(moved).map(([block, value]) => {
      const bar = html("span", { class: "bar" });
      bar.style.width = `${(100 * value) / most}%`;
      return html(
        "div",
        { class: frozen.includes(block) ? "moved-row frozen" : "moved-row" },
        html("span", { class: "block" }, block),
        html("span", { class: "track" }, bar),
        html("span", { class: "number" }, value ? value.toFixed(value < 0.995 ? 2 : 1) : "0"),
      );
    }),
  );
}

const rooms = { sinusoids: new Room("sinusoids"), drawings: new Room("drawings") };
window.playground = { call: (room, method, args) => rooms[room].call(method, args) };
