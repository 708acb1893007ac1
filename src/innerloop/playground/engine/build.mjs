// Bundles jax-js into engine.js: npm ci && npm run build. The WebAssembly backend is kept, WebGPU and WebGL left out.
import { build } from "esbuild";
import { readFileSync, copyFileSync } from "node:fs";

const { version } = JSON.parse(readFileSync("node_modules/@jax-js/jax/package.json", "utf8"));
const banner = `/* @jax-js/jax ${version}, MIT licence, Copyright (c) 2025 Eric Zhang; bundled by build.mjs */`;
const wasmOnly = {
  name: "wasm-only",
  setup(b) {
    b.onResolve({ filter: /web(gpu|gl)-.*\.js$/ }, (file) => ({ path: file.path, namespace: "left-out" }));
    b.onLoad({ filter: /.*/, namespace: "left-out" }, () => ({ contents: "export {}" }));
  },
};
await build({
  entryPoints: ["entry.js"],
  outfile: "engine.js",
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "jax",
  target: "es2022",
  charset: "ascii",
  banner: { js: banner },
  plugins: [wasmOnly],
});
copyFileSync("node_modules/@jax-js/jax/LICENSE", "LICENSE");
