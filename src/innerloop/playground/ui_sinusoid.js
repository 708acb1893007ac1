// The part with the sine waves.

(() => {
  const room = rooms.sinusoids;
  const GRID = Array.from({ length: 101 }, (_, i) => i / 10 - 5);
  const task = { x: [] };
  let losses = [];
  let changes = [];
  let playing = false;
  let answer = null;

  const taskChart = new Chart($("task-chart"), {
    ...(innerWidth < 640 ? { width: 380, height: 250 } : { width: 640, height: 330 }), // its text is as large as other text
    x: [-5, 5],
    y: [-5.6, 5.6],
    xTicks: () => [-5, -2.5, 0, 2.5, 5],
    yTicks: () => [-5, -2.5, 0, 2.5, 5],
    label: "The new task: its wave, ten points, and the network before and after the inner loop",
  });
  const lossChart = new Chart($("loss-chart"), {
    width: 380,
    height: 210,
    x: [0, 100],
    y: [0.01, 10],
    log: true,
    xTicks: ([, high]) => [0, high / 2, high],
    yTicks: () => [0.01, 0.1, 1, 10],
    xLabel: "outer steps",
    label: "Mean squared error on query points over outer steps, before and after the inner loop",
  });

  const steps = slider("steps", String, trainingChanged);
  const rate = slider("rate", (v) => rateText(10 ** v), trainingChanged);
  const shown = slider("shown", String, draw);
  const amplitude = slider("amplitude", (v) => v.toFixed(1), taskChanged);
  const phase = slider("phase", (v) => v.toFixed(2), taskChanged);
  const trainBlocks = choice("train-blocks", trainingChanged);
  const testBlocks = choice("test-blocks", () => curves());
  const order = choice("order", trainingChanged);

  function rateText(v) {
    return String(Number(v.toPrecision(2)));
  }

  function settings() {
    return {
      blocks: trainBlocks(),
      steps: steps.value,
      lr: Number(rateText(10 ** rate.value)),
      firstOrder: order() === "first",
    };
  }

  function testSettings() {
    const blocks = testBlocks() === "same" ? trainBlocks() : testBlocks();
    return { ...settings(), blocks, steps: 10 };
  }

  const wave = (x) => amplitude.value * Math.sin(x - phase.value);
  const newPoints = () => (task.x = Array.from({ length: 10 }, () => 10 * Math.random() - 5));

  const curves = latest(async () => {
    const given = testSettings();
    const x = [...task.x];
    answer = await room.call("curves", { x, y: x.map(wave), grid: GRID, settings: given });
    draw();
  });

  function draw() {
    const m = shown.value;
    $("after-steps").textContent = m === 1 ? "1 step" : `${m} steps`;
    taskChart.clear();
    taskChart.line(GRID.map((x) => [x, wave(x)]), { class: "truth" });
    if (answer) {
      const at = (k) => GRID.map((x, i) => [x, answer.curves[k][i]]);
      for (let k = 1; k < m; k++) taskChart.line(at(k), { class: "between", opacity: 0.15 + (0.35 * k) / m });
      taskChart.line(at(0), { class: "before" });
      if (m) taskChart.line(at(m), { class: "after" });
      const error = (k) => answer.curves[k].reduce((sum, y, i) => sum + (y - wave(GRID[i])) ** 2, 0) / GRID.length;
      taskChart.svg.setAttribute(
        "aria-label",
        `The new task: mean squared error ${error(0).toFixed(2)} before, ${error(m).toFixed(2)} after ${m} steps`,
      );
      movedBars($("sinusoid-moved"), answer.moved[m]);
    }
    for (const x of task.x) taskChart.dot(x, wave(x), { r: 4.5, class: "point" });
  }

  function drawLosses() {
    lossChart.clear();
    const n = losses.length;
    const high = Math.max(100, 2 ** Math.ceil(Math.log2(Math.max(1, n / 100))) * 100);
    lossChart.range([0, high], [0.01, 10]);
    for (const at of changes.filter((c) => c > 0 && c < n)) {
      lossChart.line([[at, 0.01], [at, 10]], { class: "change" });
    }
    const width = Math.max(1, Math.ceil(high / 150));
    const bins = [];
    for (let i = 0; i < n; i += width) {
      const bin = losses.slice(i, i + width);
      const mean = (k) => clamp(bin.reduce((sum, l) => sum + l[k], 0) / bin.length, 0.01, 10);
      bins.push([i + bin.length / 2, mean(0), mean(1)]);
    }
    lossChart.line(bins.map(([x, before]) => [x, before]), { class: "before thin" });
    lossChart.line(bins.map(([x, , after]) => [x, after]), { class: "after thin" });
  }

  function say(text) {
    if ($("sinusoid-status").textContent !== text) $("sinusoid-status").textContent = text;
  }

  const NOTES = {
    all: "MAML: every weight adapts.",
    head: "ANIL: only the last layer adapts.",
    body: "BOIL: all but the last layer adapts.",
    none: "No inner loop: one network for all tasks.",
  };

  function words() {
    const { blocks, steps: m, lr, firstOrder } = settings();
    const test = testSettings().blocks;
    $("train-blocks-note").textContent = NOTES[blocks];
    $("order-note").textContent = firstOrder
      ? "FOMAML: the inner gradient counts as a constant."
      : "Exact: through the inner gradient too.";
    const python = `import torch
from innerloop import InnerLoop, Sinusoid, adapt, mean_squared_error, meta_gradient, predictor, slow_weights
from innerloop.models import mlp

model = mlp(1, 1)
slow = slow_weights(model)
inner = InnerLoop(blocks="${blocks}", steps=${m}, lr=${lr}${firstOrder ? ", first_order=True" : ""})

# the outer loop's gradient, on ten tasks
tasks = Sinusoid().sample(10, torch.Generator())
predict = predictor(model, inner, loss=mean_squared_error)
gradient = meta_gradient(predict, slow, tasks, mean_squared_error).gradient

# the inner loop, on a new task
new = Sinusoid().sample(1, torch.Generator())
now = InnerLoop(blocks="${test}", steps=${shown.value}, lr=${lr})
fast = adapt(model, slow, new.support_x, new.support_y, now, loss=mean_squared_error)`;
    $("sinusoid-code").textContent = python;
  }

  function trainingChanged() {
    if (changes.at(-1) !== losses.length) changes.push(losses.length);
    if (!playing && !losses.length) shown.value = steps.value;
    words();
    curves();
  }

  function taskChanged() {
    draw();
    curves();
  }

  async function loop() {
    say("Preparing the gradient …");
    while (playing) {
      const given = { milliseconds: 150, tasks: 10, shot: 10, outerLr: 3e-3, settings: settings() };
      const { losses: more, diverged } = await room.call("train", given);
      losses.push(...more);
      if (diverged) {
        pause();
        say("The loss is no longer a finite number. Lower the inner rate and start over.");
        return;
      }
      const recent = losses.slice(-30);
      const mean = (k) => (recent.reduce((sum, l) => sum + l[k], 0) / recent.length).toFixed(2);
      say(`${losses.length.toLocaleString("en")} outer steps. Error ${mean(0)} before the inner loop, ${mean(1)} after it.`);
      drawLosses();
      await curves();
    }
  }

  function pause() {
    playing = false;
    $("play").setAttribute("aria-pressed", "false");
    $("play").querySelector(".icon").textContent = "▶";
    $("play").querySelector(".text").textContent = losses.length ? "Go on" : "Train";
  }

  $("play").addEventListener("click", () => {
    if (playing) return pause();
    playing = true;
    $("play").setAttribute("aria-pressed", "true");
    $("play").querySelector(".icon").textContent = "❚❚";
    $("play").querySelector(".text").textContent = "Pause";
    return loop();
  });
  $("restart").addEventListener("click", async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    await room.call("reset", { seed });
    losses = [];
    changes = [];
    if (!playing) pause();
    say("New random weights, not trained yet.");
    drawLosses();
    curves();
  });
  $("new-task").addEventListener("click", () => {
    amplitude.value = (1 + 4 * Math.random()).toFixed(1);
    phase.value = (Math.PI * Math.random()).toFixed(2);
    newPoints();
    taskChanged();
  });
  $("new-points").addEventListener("click", () => {
    newPoints();
    taskChanged();
  });
  $("shown").addEventListener("input", words);
  for (const input of document.querySelectorAll('input[name="test-blocks"]')) input.addEventListener("change", words);

  // dragging the wave: up and down for its height, sideways for its shift
  let drag = null;
  const chart = $("task-chart");
  chart.addEventListener("pointerdown", (event) => {
    const box = taskChart.svg.getBoundingClientRect();
    const x = -5 + 10 * ((event.clientX - box.left) / box.width);
    drag = { from: [event.clientX, event.clientY], amplitude: amplitude.value, phase: phase.value, box };
    drag.up = Math.sin(x - phase.value) >= 0 ? 1 : -1;
    chart.setPointerCapture(event.pointerId);
  });
  chart.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const { box, from } = drag;
    const dx = (10 * (event.clientX - from[0])) / (box.width * 0.93);
    const dy = (-11.2 * (event.clientY - from[1])) / (box.height * 0.9);
    amplitude.value = clamp(drag.amplitude + drag.up * dy, 0.1, 5).toFixed(1);
    phase.value = clamp(drag.phase + dx, 0, Math.PI).toFixed(2);
    taskChanged();
  });
  for (const end of ["pointerup", "pointercancel"]) chart.addEventListener(end, () => (drag = null));

  task.x = [-4.6, -3.9, -3.1, -1.6, -0.9, 0.2, 1.1, 2.4, 3.3, 4.4];
  words();
  drawLosses();
  draw();
  say("Not trained yet: the weights are random.");
  curves();
})();
