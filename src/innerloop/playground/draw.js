// Five drawings, one of each class, and a query drawing: conv4 adapts in the page (innerloop/models/conv4.py).
//
// Batch norm takes the statistics of the support set, also for the query (statistics="support", non-transductive):
// a single query drawing has none worth having.

const SIDE = 28;
const BLOCKS = ["conv1", "conv2", "conv3", "conv4", "head"];

/** 3×3 patches with stride 2 and padding 1: [n, s, s, c] → [n·h·h, 9c], h = s/2 rounded up. */
const patches = jit((x) => {
  const [n, s, , c] = x.shape;
  const h = Math.ceil(s / 2);
  const padded = np.pad(x, [[0, 0], [1, 2 * h + 1 - s], [1, 2 * h + 1 - s], [0, 0]]);
  const shifted = [];
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 3; j++) {
      const at = padded.ref.slice([], [i, i + 2 * h], [j, j + 2 * h]).reshape([n, h, 2, h, 2, c]);
      shifted.push(at.slice([], [], 0, [], 0));
    }
  }
  padded.dispose();
  return np.concatenate(shifted, 3).reshape([n * h * h, 9 * c]);
});

/** Batch norm (ε = 1e-3) by the statistics of the first `rows` rows, then ReLU. */
const normalise = (rows) =>
  jit((x, scale, shift) => {
    const support = x.ref.slice([0, rows]);
    const mean = np.mean(support.ref, [0], { keepdims: true });
    const variance = np.mean(np.square(support.sub(mean.ref)), [0], { keepdims: true });
    const normal = x.sub(mean).mul(np.reciprocal(np.sqrt(variance.add(1e-3))));
    return nn.relu(normal.mul(scale).add(shift));
  });
const normalisations = new Map();

/** One convolutional block: [n, s, s, c] → [n, s/2, s/2, filters]; the first `support` images give the statistics. */
function convBlock(w, block, x, support) {
  const [n, s] = x.shape;
  const h = Math.ceil(s / 2);
  const rows = support * h * h;
  if (!normalisations.has(rows)) normalisations.set(rows, normalise(rows));
  const y = matmul(patches(x), w[`${block}.conv.weight`].ref);
  const scaled = normalisations.get(rows)(y, w[`${block}.norm.weight`].ref, w[`${block}.norm.bias`].ref);
  return scaled.reshape([n, h, h, -1]);
}

/** Blocks `from` … `to` (without `to`) of the net; all but the head keep [n, h, w, c]. Consumes h. */
function run(w, h, support, from = 0, to = BLOCKS.length) {
  for (const block of BLOCKS.slice(from, to)) {
    h = block === "head" ? matmul(features(h), w["head.weight"].ref).add(w["head.bias"].ref) : convBlock(w, block, h, support);
  }
  return h;
}

/** The spatial mean (models/head.py, readout "mean"): [n, h, w, c] → [n, c]. */
const features = jit((h) => np.mean(h, [1, 2]));

const crossEntropy = jit((logits, oneHot) => np.mean(np.sum(nn.logSoftmax(logits).mul(oneHot), 1)).mul(-1));
const softmax = jit((logits) => nn.softmax(logits));

/** Cosine attention over the support set (methods/metric.py `cosine_attention`, temperature 1). */
const cosineAttention = jit((features, oneHot) => {
  const unit = features.ref.mul(np.reciprocal(np.sqrt(np.sum(np.square(features), 1, { keepdims: true }).add(1e-24))));
  const way = oneHot.shape[0];
  const support = unit.ref.slice([0, way]);
  const query = unit.slice([way, way + 1]);
  return np.matmul(nn.softmax(np.matmul(query, support.transpose())), oneHot);
});

/** conv weights [out, in, 3, 3] → [9·in, out], head [way, c] → [c, way]: the layout of `patches`. */
function laidOut(name, numbers, shape) {
  const w = array(numbers, shape);
  if (name === "head.weight") return w.transpose();
  return name.endsWith(".conv.weight") ? w.transpose([2, 3, 1, 0]).reshape([9 * shape[1], shape[0]]) : w;
}

/** Scale and shift of batch norm do not adapt (adapt_norm=False). */
const mayAdapt = (name) => !name.includes(".norm.");

/** Trained models and the path of each on the present support set. */
class Drawings {
  constructor() {
    this.models = {};
    this.numbers = {};
    this.paths = {};
    this.compiled = new Map();
  }

  /** weights: {name: {numbers, shape}} as PyTorch keeps them. */
  async load({ model, weights }) {
    const slow = {};
    const numbers = {};
    for (const [name, given] of Object.entries(weights)) {
      slow[name] = laidOut(name, given.numbers, given.shape);
      if (mayAdapt(name)) numbers[name] = await slow[name].ref.data();
    }
    this.models[model] = slow;
    this.numbers[model] = numbers;
    delete this.paths[model];
    return null;
  }

  /** One inner step, compiled once for each choice of what adapts; `h` enters block `first`. */
  oneStep(names, first, way) {
    const key = names.join();
    const step = (fast, fixed, h, oneHot, lr) => {
      const loss = (w) => crossEntropy(run({ ...fixed, ...w }, h.ref, way, first), oneHot.ref);
      return adaptPath(loss, fast, { steps: 1, lr })[1];
    };
    if (!this.compiled.has(key)) this.compiled.set(key, jit(step));
    return this.compiled.get(key);
  }

  /**
   * Adapts `model` to the support set [5 × 28·28], blocks `blocks`, and keeps the path of weights.
   * Gives for each step how far each block has moved: ‖θ_m − θ_0‖ / ‖θ_0‖ (analysis/movement.py).
   */
  async adapt({ model, support, blocks, steps, lr }) {
    const slow = this.models[model];
    const names = adapted(Object.keys(slow).filter(mayAdapt), blocks);
    const way = support.length;
    const x = array(support.flat(), [way, SIDE, SIDE, 1]);
    const oneHot = np.eye(way);
    const first = BLOCKS.findIndex((b) => blocks === "all" || blocks.includes(b));
    // what comes before the first adapted block runs once
    const h = run(slow, x, way, 0, first < 0 ? 0 : first);
    const path = [names.length ? held(pick(slow, names)) : {}];
    const fixed = pick(slow, Object.keys(slow).filter((n) => !names.includes(n)));
    const step = this.oneStep(names, first, way);
    for (let m = 1; m <= steps && names.length; m++) {
      path.push(step(held(path[m - 1]), held(fixed), h.ref, oneHot.ref, np.array(lr)));
    }
    release(h, oneHot);
    if (this.paths[model]) release(this.paths[model]);
    this.paths[model] = path;
    const moved = [];
    for (const fast of path) moved.push(await movement(this.numbers[model], fast));
    return moved;
  }

  /** Probabilities of the query drawing after 0 … steps steps, [steps + 1][5], along the kept path. */
  async probabilities({ model, support, query }) {
    const slow = this.models[model];
    const way = support.length;
    const x = array([...support, query].flat(), [way + 1, SIDE, SIDE, 1]);
    const out = [];
    for (const fast of this.paths[model]) {
      const logits = run({ ...slow, ...fast }, x.ref, way);
      out.push(Array.from(await softmax(logits.slice([way, way + 1])).data()));
    }
    x.dispose();
    return out;
  }

  /** Probabilities [5] without head and inner loop: NIL on the body of `model`. */
  async nil({ model, support, query }) {
    const way = support.length;
    const x = array([...support, query].flat(), [way + 1, SIDE, SIDE, 1]);
    const h = run(this.models[model], x, way, 0, BLOCKS.length - 1);
    return Array.from(await cosineAttention(features(h), np.eye(way)).data());
  }
}
