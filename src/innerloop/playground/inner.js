// The inner loop: innerloop/core/inner.py in the browser. Runs in a worker.
//
//     θ_m = θ_{m−1} − α ∇L_support(θ_{m−1})
//
// jax-js frees an array when its last reference is consumed, and every function consumes its arguments: `held` takes
// one more reference of each array of a tree.

const { grad, jit, lax, nn, numpy: np, tree, valueAndGrad } = jax;

const held = (weights) => tree.ref(weights);

/** Frees every array of the trees, once where it stands in several. */
function release(...trees) {
  for (const a of new Set(trees.flatMap((t) => tree.leaves(t)))) a.dispose();
}

/** An array of float32 numbers in the given shape. */
const array = (numbers, shape) => np.array(Float32Array.from(numbers)).reshape(shape);

/** A product of matrices that stays one kernel, and so do its derivatives: fused with others it would be slower. */
const matmul = jit((a, b) => np.matmul(a, b));

/**
 * The fast weights after 0, 1, …, `steps` steps, one after the other.
 *
 * `start` holds what adapts, by name; `loss` gives a task's loss (or the sum over tasks: they do not interact) for such
 * weights. With `firstOrder` the gradient counts as a constant when the result is differentiated (FOMAML).
 */
function adaptPath(loss, start, { steps, lr, firstOrder }) {
  const path = [start];
  for (let m = 1; m <= steps && Object.keys(start).length; m++) {
    let gradient = grad(loss)(held(path[m - 1]));
    if (firstOrder) gradient = tree.map((g) => lax.stopGradient(g), gradient);
    path.push(tree.map((w, g) => w.ref.sub(g.mul(lr.ref ?? lr)), path[m - 1], gradient));
  }
  return path;
}

/** Names of the parameters in the blocks that adapt: "all", "head", "body", "none", or a list of blocks. */
function adapted(names, blocks) {
  const block = (name) => name.split(".", 1)[0];
  if (blocks === "all") return names;
  if (blocks === "none") return [];
  if (blocks === "head") return names.filter((n) => block(n) === "head");
  if (blocks === "body") return names.filter((n) => block(n) !== "head");
  return names.filter((n) => blocks.includes(block(n)));
}

const pick = (weights, names) => Object.fromEntries(names.map((n) => [n, weights[n]]));

/** ‖θ_m − θ_0‖ / ‖θ_0‖ of each block (analysis/movement.py); `before` holds plain numbers by name. */
async function movement(before, after) {
  const blocks = {};
  for (const [name, numbers] of Object.entries(before)) {
    const block = (blocks[name.split(".", 1)[0]] ??= { change: 0, size: 0 });
    const end = after[name] ? await after[name].ref.data() : numbers;
    numbers.forEach((w, i) => {
      block.change += (end[i] - w) ** 2;
      block.size += w * w;
    });
  }
  return Object.fromEntries(Object.entries(blocks).map(([k, { change, size }]) => [k, Math.sqrt(change / size)]));
}
