// Sinusoid regression, meta-trained in the page: innerloop/data/sinusoid.py, models/mlp.py, core/outer.py.

const SHAPES = {
  "hidden1.linear.weight": [40, 1],
  "hidden1.linear.bias": [40],
  "hidden2.linear.weight": [40, 40],
  "hidden2.linear.bias": [40],
  "head.weight": [1, 40],
  "head.bias": [1],
};
const NAMES = Object.keys(SHAPES);

/** The net 1 → 40 → 40 → 1 for a chunk of tasks: weights [tasks, …], x [tasks, points, 1] → [tasks, points, 1]. */
function mlp(w, x) {
  const linear = (h, name) =>
    matmul(h, w[`${name}.weight`].ref.transpose([0, 2, 1])).add(np.expandDims(w[`${name}.bias`].ref, 1));
  let h = nn.relu(linear(x, "hidden1.linear"));
  h = nn.relu(linear(h, "hidden2.linear"));
  const y = linear(h, "head");
  tree.dispose(w);
  return y;
}

/** Mean squared error of each task [tasks] (core/losses.py `mean_squared_error`). */
const meanSquaredError = (w, x, y) => np.mean(np.square(mlp(w, x).sub(y)), [1, 2]);

/** Slow weights with a task axis in front: each task starts from a copy. */
const copies = (slow, tasks) => tree.map((w) => np.broadcastTo(np.expandDims(w, 0), [tasks, ...w.shape]), slow);

/** [weights after 0 … steps steps], each complete, of every task of the chunk. */
function sinusoidPath(slow, supportX, supportY, { blocks, steps, lr, firstOrder }) {
  const all = copies(slow, supportX.shape[0]);
  const names = adapted(NAMES, blocks);
  const loss = (fast) => np.sum(meanSquaredError({ ...held(all), ...fast }, supportX.ref, supportY.ref));
  const path = adaptPath(loss, pick(all, names), { steps, lr, firstOrder });
  release(supportX, supportY);
  return path.map((fast) => ({ ...all, ...fast }));
}

/**
 * [L_meta, ∇L_meta by name] for a batch of tasks (core/outer.py `meta_gradient`).
 * Compiled once for each choice of `blocks`, `steps` and `firstOrder`.
 */
function metaGradient(blocks, steps, firstOrder) {
  const objective = (slow, supportX, supportY, queryX, queryY, lr) => {
    const path = sinusoidPath(slow, supportX, supportY, { blocks, steps, lr, firstOrder });
    return np.mean(meanSquaredError(held(path[path.length - 1]), queryX, queryY));
  };
  return jit(valueAndGrad(objective));
}

/** The query loss before the inner loop, the mean over the batch. */
const lossBefore = jit((slow, x, y) => np.mean(meanSquaredError(copies(slow, x.shape[0]), x, y)));

/** The curve of one task's weights. */
const predictOne = jit((w, x) => mlp(copies(w, 1), x));

/** Numbers from a seed, uniform in [0, 1): mulberry32. */
function uniform(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A batch of tasks y = a sin(x − φ): a ~ U[0.1, 5], φ ~ U[0, π], x ~ U[−5, 5] (Finn et al. 2017, section 5.1). */
function sampleSinusoids(random, tasks, shot, query) {
  const out = { supportX: [], supportY: [], queryX: [], queryY: [] };
  for (let t = 0; t < tasks; t++) {
    const amplitude = 0.1 + 4.9 * random();
    const phase = Math.PI * random();
    for (let i = 0; i < shot + query; i++) {
      const x = 10 * random() - 5;
      const set = i < shot ? "support" : "query";
      out[`${set}X`].push(x);
      out[`${set}Y`].push(amplitude * Math.sin(x - phase));
    }
  }
  const shape = (k) => [tasks, k.startsWith("support") ? shot : query, 1];
  return Object.fromEntries(Object.entries(out).map(([k, v]) => [k, array(v, shape(k))]));
}

/** Meta-training and what can be asked of it; weights are plain Float32Arrays between the calls. */
class Sinusoids {
  constructor() {
    this.compiled = new Map();
    this.reset({ seed: 0 });
  }

  /** New slow weights: Xavier-uniform, bias 0. */
  reset({ seed }) {
    this.random = uniform(seed);
    this.weights = {};
    for (const [name, shape] of Object.entries(SHAPES)) {
      const bound = shape.length > 1 ? Math.sqrt(6 / (shape[0] + shape[1])) : 0;
      const size = shape.reduce((a, b) => a * b, 1);
      this.weights[name] = Float32Array.from({ length: size }, () => bound * (2 * this.random() - 1));
    }
    this.adam = { step: 0, m: {}, v: {} };
    for (const name of NAMES) {
      this.adam.m[name] = new Float64Array(this.weights[name].length);
      this.adam.v[name] = new Float64Array(this.weights[name].length);
    }
    return null;
  }

  /** For checks: the weights, and the gradient of the last outer step. */
  state() {
    return { weights: this.weights, gradient: this.gradient ?? {} };
  }

  arrays(weights = this.weights) {
    return Object.fromEntries(NAMES.map((n) => [n, array(weights[n], SHAPES[n])]));
  }

  /** {loss, before, gradient} of given weights and a given batch. */
  async gradientOf(weights, batch, { blocks, steps, lr, firstOrder }) {
    const key = `${blocks} ${steps} ${firstOrder}`;
    if (!this.compiled.has(key)) this.compiled.set(key, metaGradient(blocks, steps, firstOrder));
    const { supportX, supportY, queryX, queryY } = batch;
    const step = this.compiled.get(key);
    const before = lossBefore(this.arrays(weights), queryX.ref, queryY.ref);
    const [loss, gradient] = step(this.arrays(weights), supportX, supportY, queryX, queryY, np.array(lr));
    const numbers = {};
    for (const name of NAMES) numbers[name] = await gradient[name].data();
    return { loss: (await loss.data())[0], before: (await before.data())[0], gradient: numbers };
  }

  /** For checks: the same of plain arrays [tasks][points]. */
  metaGradient({ weights, batch, settings }) {
    const set = (rows) => array(rows.flat(), [rows.length, rows[0].length, 1]);
    return this.gradientOf(weights, Object.fromEntries(Object.entries(batch).map(([k, v]) => [k, set(v)])), settings);
  }

  /** Outer steps by Adam until `milliseconds` have passed: [[loss before, loss after] of each]. */
  async train({ milliseconds, tasks, shot, outerLr, settings }) {
    const losses = [];
    const began = performance.now();
    do {
      const batch = sampleSinusoids(this.random, tasks, shot, shot);
      const { loss, before, gradient } = await this.gradientOf(this.weights, batch, settings);
      if (!Number.isFinite(loss)) return { losses, diverged: true };
      this.gradient = gradient;
      this.outerStep(gradient, outerLr);
      losses.push([before, loss]);
    } while (performance.now() - began < milliseconds);
    return { losses, diverged: false };
  }

  /** One step of Adam (Kingma & Ba 2015), the gradient clipped at norm 10. */
  outerStep(gradient, lr, [b1, b2, eps] = [0.9, 0.999, 1e-8]) {
    let square = 0;
    for (const name of NAMES) for (const g of gradient[name]) square += g * g;
    const clip = Math.min(1, 10 / (Math.sqrt(square) + 1e-12));
    const { m, v } = this.adam;
    const t = ++this.adam.step;
    for (const name of NAMES) {
      const w = this.weights[name];
      for (let i = 0; i < w.length; i++) {
        const g = clip * gradient[name][i];
        m[name][i] = b1 * m[name][i] + (1 - b1) * g;
        v[name][i] = b2 * v[name][i] + (1 - b2) * g * g;
        w[i] -= (lr * (m[name][i] / (1 - b1 ** t))) / (Math.sqrt(v[name][i] / (1 - b2 ** t)) + eps);
      }
    }
  }

  /** One inner step of one task, compiled once for each choice of `blocks`. */
  oneStep(blocks) {
    const step = (slow, x, y, lr) => {
      const path = sinusoidPath(slow, x, y, { blocks, steps: 1, lr });
      return tree.map((w) => w.ref.reshape(w.shape.slice(1)), path[path.length - 1]);
    };
    if (!this.compiled.has(blocks)) this.compiled.set(blocks, jit(step));
    return this.compiled.get(blocks);
  }

  /** One task: the net's curve on `grid` after 0 … steps inner steps, and how far each block has moved by then. */
  async curves({ weights, x, y, grid, settings: { blocks, steps, lr } }) {
    const start = weights ?? this.weights;
    const step = this.oneStep(blocks);
    const curves = [];
    const moved = [];
    let w = this.arrays(start);
    for (let m = 0; m <= steps; m++) {
      if (m) w = step(w, array(x, [1, x.length, 1]), array(y, [1, y.length, 1]), np.array(lr));
      curves.push(await predictOne(held(w), array(grid, [1, grid.length, 1])).data());
      moved.push(await movement(start, w));
    }
    release(w);
    return { curves, moved };
  }
}
