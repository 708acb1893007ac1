// The part with the drawings.

(() => {
  const room = rooms.drawings;
  const SIDE = 28;
  const FINE = 112;
  const STEPS = 5;
  const LETTERS = ["A", "B", "C", "D", "E"];
  const LAYERS = ["conv1", "conv2", "conv3", "conv4", "head"];
  const COLOURS = LETTERS.map((l) => `var(--${l.toLowerCase()})`);
  const MODELS = [
    { name: "maml", title: "MAML", about: "all layers adapt", body: "MAML" },
    { name: "maml-small-head", title: "MAML, small head", about: "the head began 20 × smaller", body: "MAML, small head" },
    { name: "anil", title: "ANIL", about: "only the head adapts", body: "ANIL" },
  ];

  // ---- files inside the page ----

  const bytesOf = (id) => Uint8Array.from(atob($(id).textContent.trim()), (c) => c.charCodeAt(0));

  function half(bits) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
    return bits & 0x8000 ? -size : size;
  }

  /** The tensors of a safetensors file (float16 or uint8), and what its header says of it. */
  function safetensors(bytes) {
    const view = new DataView(bytes.buffer);
    const size = Number(view.getBigUint64(0, true));
    const { __metadata__: about, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + size)));
    const tensors = {};
    for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
      const at = 8 + size + begin;
      const count = end - begin;
      tensors[name] = {
        shape,
        numbers:
          dtype === "F16"
            ? Float32Array.from({ length: count / 2 }, (_, i) => half(view.getUint16(at + 2 * i, true)))
            : bytes.slice(at, at + count),
      };
    }
    return { about, tensors };
  }

  const drawings = safetensors(bytesOf("file-characters")).tensors.drawings;
  const [characters, copies] = drawings.shape;
  const drawing = (c, i) =>
    Float32Array.from(drawings.numbers.subarray((c * copies + i) * SIDE ** 2, (c * copies + i + 1) * SIDE ** 2), (v) => v / 255);

  // ---- boxes to draw in ----

  /** A box: an example of Omniglot, or what is drawn in it, as 28×28 numbers between 0 and 1. */
  class Pad {
    constructor(holder, name, changed, { colour } = {}) {
      Object.assign(this, { name, changed });
      this.canvas = html("canvas", { width: FINE, height: FINE, tabindex: 0, role: "application" });
      this.fine = html("canvas", { width: FINE, height: FINE }).getContext("2d", { willReadFrequently: true });
      this.clearButton = html("button", { type: "button", class: "small", "aria-label": `Clear ${name}` }, "Clear");
      const label = html("span", { class: "letter", "aria-hidden": "true" }, colour ? name.at(-1) : "?");
      if (colour) label.style.background = colour;
      holder.append(html("div", { class: "pad" }, this.canvas, html("div", { class: "under" }, label, this.clearButton)));
      this.clearButton.addEventListener("click", () => this.clear());
      this.pen = { x: FINE / 2, y: FINE / 2, down: false };
      this.example = null;
      this.#listen();
      this.#ink();
    }

    #ink() {
      Object.assign(this.fine, { lineWidth: 6.4, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
      this.fine.fillStyle = "#000";
      this.fine.fillRect(0, 0, FINE, FINE);
      this.drawn = false;
    }

    clear() {
      this.example = null;
      this.character = null;
      this.#ink();
      this.show();
      this.changed();
    }

    fill(pixels, character) {
      this.#ink();
      this.example = pixels;
      this.character = character;
      this.show();
    }

    get empty() {
      return !this.example && !this.drawn;
    }

    /** What the network sees: 28×28 = 784 numbers, row by row. */
    get pixels() {
      const fine = this.fine.getImageData(0, 0, FINE, FINE).data;
      const k = FINE / SIDE;
      return Array.from({ length: SIDE ** 2 }, (_, p) => {
        let ink = 0;
        for (let j = 0; j < k; j++) {
          for (let i = 0; i < k; i++) ink += fine[4 * ((Math.floor(p / SIDE) * k + j) * FINE + (p % SIDE) * k + i)];
        }
        return Math.max(ink / k ** 2 / 255, this.example?.[p] ?? 0);
      });
    }

    stroke(x, y) {
      if (!this.drawn) this.character = null;
      this.fine.beginPath();
      this.fine.moveTo(this.pen.x, this.pen.y);
      this.fine.lineTo(x, y);
      this.fine.stroke();
      this.drawn = true;
      Object.assign(this.pen, { x, y });
      this.show();
    }

    show() {
      const context = this.canvas.getContext("2d");
      const style = getComputedStyle(document.documentElement);
      const [paper, ink] = ["--card", "--ink"].map((v) => style.getPropertyValue(v).trim());
      context.fillStyle = paper;
      context.fillRect(0, 0, FINE, FINE);
      context.fillStyle = ink;
      const k = FINE / SIDE;
      this.pixels.forEach((value, p) => {
        context.globalAlpha = value;
        context.fillRect((p % SIDE) * k, Math.floor(p / SIDE) * k, k, k);
      });
      context.globalAlpha = 1;
      if (document.activeElement === this.canvas && this.keys) {
        context.strokeStyle = style.getPropertyValue("--warm").trim();
        context.lineWidth = this.pen.down ? 4 : 2;
        context.strokeRect(this.pen.x - 4, this.pen.y - 4, 8, 8);
      }
      const what = this.empty ? "empty" : this.drawn ? "your drawing" : "a drawing from Omniglot";
      this.canvas.setAttribute("aria-label", `${this.name}: ${what}. Arrow keys move the pen, space puts it down and up.`);
    }

    #listen() {
      const at = (event) => {
        const box = this.canvas.getBoundingClientRect();
        return [((event.clientX - box.left) / box.width) * FINE, ((event.clientY - box.top) / box.height) * FINE];
      };
      let drawing = false;
      this.canvas.addEventListener("pointerdown", (event) => {
        this.canvas.setPointerCapture(event.pointerId);
        drawing = true;
        this.keys = false;
        const [x, y] = at(event);
        Object.assign(this.pen, { x, y });
        this.stroke(x + 0.1, y);
      });
      this.canvas.addEventListener("pointermove", (event) => {
        if (!drawing) return;
        for (const e of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) this.stroke(...at(e));
      });
      for (const end of ["pointerup", "pointercancel"]) {
        this.canvas.addEventListener(end, () => {
          if (drawing) this.changed();
          drawing = false;
        });
      }
      this.canvas.addEventListener("keydown", (event) => {
        const step = 4;
        const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
        if (!move && event.key !== " ") return;
        event.preventDefault();
        this.keys = true;
        if (!move) this.pen.down = !this.pen.down;
        const [x, y] = [clamp(this.pen.x + (move?.[0] ?? 0.1), 4, FINE - 4), clamp(this.pen.y + (move?.[1] ?? 0), 4, FINE - 4)];
        if (this.pen.down) {
          this.stroke(x, y);
          this.changed();
        } else {
          Object.assign(this.pen, { x, y });
          this.show();
        }
      });
      this.canvas.addEventListener("blur", () => {
        this.pen.down = false;
        this.show();
      });
      this.canvas.addEventListener("focus", () => this.show());
    }
  }

  const support = LETTERS.map(
    (letter, i) => new Pad($("support"), `Class ${letter}`, () => supportChanged(), { colour: COLOURS[i] }),
  );
  const query = new Pad($("query"), "The drawing to guess", () => ask());

  // ---- freezing ----

  const ticks = LAYERS.map((layer) => {
    const input = html("input", { type: "checkbox", name: "freeze", value: layer });
    $("freeze").append(html("label", { class: "tick" }, input, html("span", {}, layer)));
    input.addEventListener("change", supportChanged);
    return input;
  });
  const frozen = () => ticks.filter((t) => t.checked).map((t) => t.value);
  const blocksOf = (model, still) =>
    (model.name === "anil" ? ["head"] : LAYERS).filter((layer) => !still.includes(layer));

  // ---- what the methods say ----

  const cards = MODELS.map((model) => {
    const guess = html("p", { class: "guess" });
    const steps = html("div", { class: "steps", role: "img" });
    const moved = html("div", { class: "moved" });
    $("methods").append(
      html(
        "article",
        { class: "card", id: `card-${model.name}` },
        html("h3", {}, model.title),
        html("p", { class: "note" }, model.about),
        guess,
        steps,
        html("p", { class: "small-title" }, "How far each layer moved"),
        moved,
      ),
    );
    return { ...model, guess, steps, moved };
  });
  const nil = html("div", { class: "steps nil" });
  const nilGuess = html("p", { class: "guess" });
  $("methods").append(
    html(
      "article",
      { class: "card", id: "card-nil" },
      html("h3", {}, "NIL"),
      html("p", { class: "note" }, "no head, no inner loop"),
      nilGuess,
      nil,
      html("p", { class: "note" }, "Which drawing has the nearest features? Cosines lie close together, so these probabilities do too."),
    ),
  );

  const percent = (p) => `${Math.round(100 * p)} %`;

  function bar(probabilities, name) {
    const best = probabilities.indexOf(Math.max(...probabilities));
    return html(
      "div",
      { class: "step" },
      html("span", { class: "step-name" }, name),
      html(
        "span",
        { class: "stack" },
        ...probabilities.map((p, i) => {
          const part = html("span", { class: i === best ? "part best" : "part" }, p > 0.13 ? LETTERS[i] : "");
          part.style.width = `${100 * p}%`;
          part.style.background = COLOURS[i];
          return part;
        }),
      ),
    );
  }

  function sayGuess(element, probabilities) {
    const best = probabilities.indexOf(Math.max(...probabilities));
    const letter = html("span", { class: "letter" }, LETTERS[best]);
    letter.style.background = COLOURS[best];
    element.replaceChildren(letter, ` ${percent(probabilities[best])}`);
    if (query.character == null) return;
    const right = support[best].character === query.character;
    element.append(html("span", { class: right ? "right" : "wrong" }, right ? " ✓ right" : " ✗ wrong"));
  }

  const path = {};
  let wishes = 0;
  const settled = { support: "" };

  const answer = latest(async () => {
    const boxes = [...support, query];
    const missing = boxes.filter((pad) => pad.empty);
    if (missing.length) {
      $("drawings-status").textContent = `Draw something in ${missing.map((p) => p.name).join(", ")}.`;
      return;
    }
    const images = support.map((pad) => pad.pixels);
    const asked = query.pixels;
    const still = frozen();
    const key = JSON.stringify([images, still]);
    const wish = wishes;
    const fresh = key !== settled.support;
    if (fresh) $("drawings-status").textContent = "Adapting …";
    for (const card of cards) {
      const given = { model: card.name, support: images, blocks: blocksOf(card, still), steps: STEPS, lr: card.lr };
      if (fresh) path[card.name] = await room.call("adapt", given);
      const p = await room.call("probabilities", { model: card.name, support: images, query: asked });
      const names = p.map((_, m) => (m === 0 ? "before" : `step ${m}`));
      card.steps.replaceChildren(...p.map((row, m) => bar(row, names[m])));
      card.steps.setAttribute("aria-label", p.map((row, m) => `${names[m]}: ${said(row)}`).join("; "));
      sayGuess(card.guess, p.at(-1));
    }
    settled.support = key;
    const most = Math.max(0.05, ...cards.flatMap((card) => Object.values(path[card.name].at(-1))));
    for (const card of cards) {
      const kept = LAYERS.filter((layer) => !blocksOf(card, still).includes(layer));
      movedBars(card.moved, path[card.name].at(-1), { scale: most, frozen: kept });
    }
    const rows = [];
    for (const card of cards) {
      const p = await room.call("nil", { model: card.name, support: images, query: asked });
      rows.push(html("p", { class: "small-title" }, `on the body of ${card.body}`), bar(p, ""));
      if (card.name === "maml-small-head") sayGuess(nilGuess, p);
    }
    nil.replaceChildren(...rows);
    $("drawings-status").textContent = words(still);
    if (wish === wishes) $("drawings").dataset.ready = "yes";
  });

  const said = (row) => row.map((p, i) => `${LETTERS[i]} ${percent(p)}`).join(", ");

  function words(still) {
    if (!still.length) return `Five inner steps on the five drawings, α = ${cards[0].lr}. Nothing is frozen.`;
    return `Five inner steps on the five drawings, α = ${cards[0].lr}. Frozen: ${still.join(", ")}.`;
  }

  function ask() {
    wishes++;
    delete $("drawings").dataset.ready;
    return answer();
  }

  function supportChanged() {
    const still = frozen();
    $("freeze-note").textContent =
      still.length === 5
        ? "All are frozen: nothing is learnt."
        : still.length === 4 && !still.includes("head")
          ? "Only the head learns, whatever the network was trained for."
          : still.length === 1 && still[0] === "head"
            ? "Only the features can learn."
            : "";
    return ask();
  }

  const random = (n) => Math.floor(n * Math.random());

  function newCharacters() {
    const chosen = Array.from({ length: characters }, (_, i) => i)
      .map((c) => [Math.random(), c])
      .sort(([a], [b]) => a - b)
      .slice(0, 5)
      .map(([, c]) => c);
    support.forEach((pad, i) => pad.fill(drawing(chosen[i], 0), chosen[i]));
    newQuery();
  }

  function newQuery() {
    const known = support.filter((pad) => pad.character != null);
    const c = known.length ? known[random(known.length)].character : random(characters);
    query.fill(drawing(c, 1 + random(copies - 1)), c);
  }

  $("new-characters").addEventListener("click", () => {
    newCharacters();
    supportChanged();
  });
  $("new-query").addEventListener("click", () => {
    newQuery();
    ask();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const pad of [...support, query]) pad.show();
  });

  /** Unpacks the networks when the reader comes near: until then the page is light. */
  async function begin() {
    const notes = [];
    let outerSteps = 0;
    for (const card of cards) {
      const { about, tensors } = safetensors(bytesOf(`file-${card.name}`));
      card.lr = Number(about.lr);
      outerSteps = about.outer_steps;
      await room.call("load", { model: card.name, weights: tensors });
      notes.push(`${card.title} ${(100 * Number(about.validation_accuracy)).toFixed(1)} %`);
    }
    $("models-note").textContent =
      `Accuracy on validation characters, 5-way 1-shot: ${notes.join(", ")}; short trainings (${outerSteps} outer steps), ` +
      "one seed. Batch norm takes its statistics from the five support drawings, in training and here (non-transductive).";
    await supportChanged();
  }

  newCharacters();
  new IntersectionObserver((seen, observer) => {
    if (!seen.some((s) => s.isIntersecting)) return;
    observer.disconnect();
    begin();
  }, { rootMargin: "400px" }).observe($("drawings"));
})();
