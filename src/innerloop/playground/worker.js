// What the page asks of a worker: {id, method, args} → {id, value} or {id, error}, one after the other.

const rooms = { sinusoids: () => new Sinusoids(), drawings: () => new Drawings() };
let queue = (async () => {
  await jax.init("wasm");
})();
let made;

self.onmessage = ({ data: { id, room, method, args } }) => {
  queue = queue.then(async () => {
    try {
      made ??= rooms[room]();
      self.postMessage({ id, value: await made[method](args) });
    } catch (error) {
      self.postMessage({ id, error: String(error?.stack ?? error) });
    }
  });
};
