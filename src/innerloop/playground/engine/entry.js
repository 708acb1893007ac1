export { grad, init, jit, lax, nn, numpy, tree, valueAndGrad } from "@jax-js/jax";
