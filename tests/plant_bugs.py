"""Plant one bug at a time in a copy of the package, and see that the tests notice each.

    python tests/plant_bugs.py [--only NAME]

A test that no bug can fail proves nothing. Each bug below is an exact piece of the source and what takes its place;
the copy stands in a temporary folder, the working tree is never touched. Exit 1 if a bug goes unnoticed, if the tests
fail without any bug, or if a piece of source is no longer there (then mend the list).
"""

# ruff: noqa: E501
import argparse
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import beartype  # noqa: F401  what the tests need is loaded once; each bug then runs in a fork of this process
import numpy  # noqa: F401  NumPy's own start takes a second
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


class Bug(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """test files under tests/, then, after a "-k", which of them"""


def _bugs(file: str, *rows: tuple[str, str, str, str]) -> list[Bug]:
    return [Bug(name, file, old, new, tuple(TESTS[key])) for name, old, new, key in rows]


TESTS: dict[str, list[str]] = {
    "quadratic": ["core/test_quadratic.py"],
    "reference": ["core/test_inner.py", "-k", "test_equals_the_reference and stride"],
    "rates": ["core/test_inner.py", "-k", "learned_rates_equal"],
    "once": ["core/test_inner.py", "-k", "run_once"],
    "memory": ["core/test_inner.py", "-k", "memory"],
    "names": ["core/test_inner.py", "-k", "dictionary"],
    "detached": ["core/test_inner.py", "-k", "without_gradients"],
    "tasks": ["core/test_inner.py", "-k", "order_of_tasks or doubled"],
    "functional": ["core/test_functional.py"],
    "outer": ["core/test_outer.py"],
    "numbers": ["core/test_numbers.py"],
    "sampler": ["data/test_sampler.py"],
    "convolution": ["models/test_kernels.py", "-k", "convolution"],
    "norm": ["models/test_kernels.py", "-k", "batch_norm"],
    "layers": ["models/test_kernels.py", "-k", "layers"],
    "models": ["models/test_models.py"],
    "methods": ["methods/test_gradient_methods.py"],
    "cca": ["analysis/test_cca.py"],
    "cka": ["analysis/test_cka.py"],
    "similarity": ["analysis/test_similarity.py"],
    "means": ["analysis/test_heads.py", "-k", "euclidean_means"],
    "fresh": ["analysis/test_heads.py", "-k", "fresh_head"],
    "permutations": ["analysis/test_heads.py", "-k", "permut or relabelling"],
    "movement of one step": ["analysis/test_analysis.py", "-k", "movement_of_one_step"],
    "distort": ["data/test_distort.py"],
    "multiclass": ["data/test_multiclass.py"],
    "claims": ["studies/test_reproduce.py", "-k", "claims_hold"],
    "movement": ["analysis/test_movement_cost.py", "-k", "cosine"],
    "cost": ["analysis/test_movement_cost.py", "-k", "training or inference"],
    "shares": ["methods/test_objectives.py", "-k", "shares or multi_step"],
    "rows": ["methods/test_objectives.py", "-k", "rows or row"],
    "starts": ["methods/test_objectives.py", "-k", "start"],
    "reptile": ["methods/test_objectives.py", "-k", "reptile or fast_weights"],
    "implicit": ["methods/test_objectives.py", "-k", "implicit or conjugate or iterations or proximal"],
    "heads": ["methods/test_support_heads.py"],
    "rows at test": ["training/test_family_runs.py", "-k", "plus_plus_s_rows"],
    "pairs": ["data/test_pairs.py"],
    "enlarged": ["data/test_enlarge.py"],
    "penalty": ["models/test_dagan_nets.py", "-k", "penalty"],
    "dagan": ["training/test_dagan_training.py", "-k", "critic_sees or only_training or pairs_are"],
    "advantage": ["rl/test_advantage.py"],
    "meta-gradient of rl": ["rl/test_meta_gradient.py"],
    "trpo": ["rl/test_trpo.py"],
    "ppo": ["rl/test_ppo.py"],
    "rl baselines": ["studies/test_rl_baselines.py"],
    "plain": ["runs/test_plain.py"],
    "threads": ["core/test_threads.py"],
    "ppo runs": ["rl/test_rl_runs.py", "-k", "uninterrupted or ppo_is_taken"],
    "policy": ["rl/test_policy.py"],
    "acting": ["rl/test_policy.py", "-k", "act"],
    "cheetah": ["rl/test_cheetah.py", "-k", "by_hand or works or last_bit"],
    "choose": ["estimator/test_classifier.py"],
    "features kept": ["estimator/test_feature_cache.py"],
    "sorted": ["estimator/test_sorting.py"],
    "pictures": ["estimator/test_pictures.py", "data/test_picture.py"],
    "inputs": ["estimator/test_inputs.py"],
    "navigation": ["rl/test_navigation.py", "-k", "by_hand or fast_weights or last_bit"],
    "meta-test": ["rl/test_rl_runs.py", "-k", "paired or later_steps or log_std"],
    "rl tables": ["studies/test_rl_tables.py", "-k", "by_hand or left_out or beside or frozen"],
}

BUGS = [
    *_bugs(
        "core/inner.py",
        ("step uphill", "return {n: fast[n] - step_rates[n] * g", "return {n: fast[n] + step_rates[n] * g", "quadratic"),
        (
            "second order forgets create_graph",
            "_support_gradient(rest, own, fast, h, y, loss, create_graph=True)",
            "_support_gradient(rest, own, fast, h, y, loss, create_graph=False)",
            "quadratic",
        ),
        ("each step cuts the graph", "{n: w if w.requires_grad else w.detach()", "{n: w.detach()", "quadratic"),
        ("one step too few", "for step in range(inner.steps):", "for step in range(inner.steps - 1):", "quadratic"),
        ("mean over tasks in the inner loss", "h), y).sum()", "h), y).mean()", "quadratic"),
        ("the next step's learned rate", "rate[min(step, len(rate) - 1)]", "rate[min(step + 1, len(rate) - 1)]", "quadratic"),
        ("learned rates of blocks ignored", "if block_of(name) in rates:", "if name in rates:", "quadratic"),
        ("first order keeps the second", "elif inner.first_order:", "elif False:", "quadratic"),
        ("body detached in ANIL", "if not track or inner.first_order:", "if True:", "reference"),
        ("body run in each step", "before, rest = split_model(model, resolve_blocks(model, inner.blocks))", "before, rest = nn.Sequential(), model", "once"),
        ("norm adapts unasked", "if not inner.adapt_norm:", "if inner.adapt_norm:", "names"),
        ("recomputation forgets the weights that do not adapt", "dict(zip(own, o, strict=True))", "own", "reference"),
        ("recomputation forgets learned rates", "rates = {**step_rates, **dict(zip(learned, r, strict=True))}", "rates = step_rates", "rates"),
        ("recomputation keeps its activations", "out = step(*(t.detach()", "out = ctx.kept = step(*(t.detach()", "memory"),
        ("fast weights of no_grad carry a graph", "fast = begin if track else {n: w.detach() for n, w in begin.items()}", "fast = begin", "detached"),
    ),
    *_bugs(
        "core/functional.py",
        ("support and query share statistics", "with _pass(rows, twice):", "with _pass(None, twice):", "functional"),
        ("support statistics outlive the call", "_statistics_rows.reset(tokens[0])", "pass", "functional"),
        ("body is the first block", "\"body\": names[:-1]", "\"body\": names[:1]", "functional"),
        ("blocks after the adapted one run before it", "reached = reached or name in adapted", "reached = name in adapted", "functional"),
        ("running statistics let through", "and module.training and", "and not module.training and", "functional"),
        ("the fast weights of task 0 for all", "in_dims=(0, 0), randomness", "in_dims=(None, 0), randomness", "functional"),
    ),
    *_bugs(
        "core/outer.py",
        ("weight by chunk, not by task", "part = losses.sum() * weight", "part = losses.mean() * weight * (task_chunk or tasks)", "tasks"),
        ("only the last chunk counts", "total[i] += g", "total[i] = g", "tasks"),
        ("sum and mean exchanged", 'if reduction == "mean" else 1.0', 'if reduction == "sum" else 1.0', "quadratic"),
        ("norm clipped a tensor", "g * scale if scale != 1.0 else g", 'g * min(1.0, outer.clip_at / float(g.norm())) if outer.clip == "norm" else g', "outer"),
        ("clipped on one side", "g.clamp(-outer.clip_at, outer.clip_at)", "g.clamp(max=outer.clip_at)", "outer"),
        ("norm always scaled to the bound", "scale = min(1.0, outer.clip_at / (norm + 1e-12))", "scale = outer.clip_at / (norm + 1e-12)", "outer"),
        ("infinity let through", "if not math.isfinite(norm):", "if math.isnan(norm):", "outer"),
        ("schedule not applied", 'group["lr"] = outer_lr(outer, step)', 'group["lr"] = outer.lr', "outer"),
        ("cosine ends a step late", "step / max(1, outer.steps - 1)", "step / max(1, outer.steps)", "outer"),
        ("halving is gradual", "0.5 ** (step // outer.halve_every)", "0.5 ** (step / outer.halve_every)", "outer"),
    ),
    *_bugs(
        "core/losses.py",
        ("loss summed over examples", "return flat.view(tasks, n).mean(1)", "return flat.view(tasks, n).sum(1)", "numbers"),
        ("loss averaged over tasks", "return flat.view(tasks, n).mean(1)", "return flat.view(tasks, n).mean(0)[:1].expand(tasks)", "numbers"),
        ("squared error summed over outputs", ".square().flatten(1).mean(1)", ".square().flatten(1).sum(1)", "numbers"),
        ("accuracy of the least likely", "logits.argmax(-1) == labels", "logits.argmin(-1) == labels", "numbers"),
    ),
    *_bugs(
        "core/statistics.py",
        ("interval with n", "v.std(correction=1)", "v.std(correction=0)", "numbers"),
        ("interval without the root", "/ math.sqrt(n), n)", "/ n, n)", "numbers"),
        ("paired difference without its sign", "over_episodes(a.double() - b.double())", "over_episodes((a.double() - b.double()).abs())", "numbers"),
        ("seed deviation with n", "for v in values) / (n - 1))", "for v in values) / n)", "numbers"),
    ),
    *_bugs(
        "core/random.py",
        ("every step the same stream", "for part in (seed, *path)", "for part in (seed, *path[:1])", "numbers"),
        ("names joined without a seam", 'text = "\\x1f".join(f"{type(part).__name__}:{part}"', 'text = "".join(str(part)', "numbers"),
        ("the root seed left out", "for part in (seed, *path)", "for part in path", "numbers"),
    ),
    *_bugs(
        "core/episodes.py",
        ("images drawn with replacement", "chosen = keys.topk(per_class, dim=2).indices", "chosen = (keys[..., :per_class].abs() * count[..., None]).long()", "sampler"),
        ("support is in the query", "query_x=x[:, :, self.shot :]", "query_x=x[:, :, : self.query]", "sampler"),
        ("labels not shuffled", ".topk(self.way, dim=1).indices", ".topk(self.way, dim=1).indices.sort(dim=1).values", "sampler"),
        ("images of the neighbouring class", ">= count[..., None], -1.0)", "> count[..., None], -1.0)", "sampler"),
        ("images from the global generator", "int(data.count.max()), generator=generator, device=where)", "int(data.count.max()), device=device)", "sampler"),
        ("turned clockwise", "torch.rot90(x[mask], k, dims", "torch.rot90(x[mask], -k, dims", "sampler"),
    ),
    *_bugs(
        "models/convolution.py",
        ("second derivative has the wrong factor", "ggy = sum(parts[1:], parts[0])", "ggy = 2 * sum(parts[1:], parts[0])", "convolution"),
        ("second derivative by the kernel left out", "need_w = need_x and vw is not None, need_w and vx is not None", "need_w = need_x and vw is not None, False", "convolution"),
        ("tasks exchanged in the grouped call", "y.unflatten(1, (tasks, -1)), 1", "y.unflatten(1, (-1, tasks)).transpose(1, 2), 1", "convolution"),
        ("bias left out", "return y if self.bias is None else", "return y if self.bias is not None else y if True else", "layers"),
    ),
    *_bugs(
        "models/normalisation.py",
        ("2ab for 3ab in the double backward", "(c - 3 * a * b)", "(c - 2 * a * b)", "norm"),
        ("shift without its mean", "shift = shift - v_gamma * r * g_mean", "shift = shift - 0 * g_mean", "norm"),
        ("scale's second derivative lost", "d_gamma = m * r * (c - a * b)", "d_gamma = m * r * c", "norm"),
        ("statistics an image", "mean = of.mean(_DIMS, keepdim=True)", "mean = x.mean((2, 3), keepdim=True)", "functional"),
        ("unbiased variance", "of.var(_DIMS, correction=0", "of.var(_DIMS, correction=1", "functional"),
        ("statistics of all rows", "of = x[:rows]", "of = x", "functional"),
    ),
    *_bugs(
        "models/conv4.py",
        ("ReLU lost", "return torch.relu(x)", "return x", "models"),
        ("init from the global generator", "module.reset_parameters(generator)", "module.reset_parameters(None)", "models"),
    ),
    *_bugs(
        "methods/named.py",
        ("BOIL adapts the head", 'Method("boil", "body"', 'Method("boil", "all"', "methods"),
        ("FOMAML of second order", '"all",\n    first_order=True', '"all",\n    first_order=False', "methods"),
        ("a method drops the loop's order", "first_order=self.first_order or loop.first_order", "first_order=self.first_order", "methods"),
    ),
    *_bugs(
        "methods/gradient.py",
        ("query used for support", "episodes.support_x,\n            episodes.support_y,\n            inner,", "episodes.query_x,\n            episodes.query_y,\n            inner,", "methods"),
        ("transductive where it should not be", "forward(model, last, fast, episodes.query_x, statistics_of=of)", "forward(model, last, fast, episodes.query_x)", "methods"),
        ("the shared part ignores the statistics", "forward(before, slow, {}, query, statistics_of=of)", "forward(before, slow, {}, query)", "methods"),
        ("step outputs without learned rates", "        rates=learned(parameters, \"rate\"),\n        start=begin,", "        start=begin,", "methods"),
        ("features by maximum", "return h.mean((3, 4))", "return h.amax((3, 4))", "methods"),
        ("NIL without its temperature's support", "        body_features(model, slow, fast, episodes.support_x),", "        body_features(model, slow, fast, episodes.query_x)[:, : episodes.support_x.shape[1]],", "methods"),
    ),
    *_bugs(
        "methods/gradient.py",
        ("norms of no step at test", "return at_step(slow, steps, 0) if steps else slow", "return slow", "rows at test"),
        ("the last row for blocks that do not adapt", "inside = {n for n, _ in rest.named_parameters()}", "inside = set(steps)", "rows at test"),
    ),
    *_bugs(
        "methods/objectives.py",
        ("the last step's share goes to all", "return [early] * (steps - 1) + [1 - early * (steps - 1)]", "return [early] * (steps - 1) + [early]", "shares"),
        ("the output before any step has a share", "next(outputs)  # before any step", "pass  # before any step", "shares"),
        ("Reptile walks away", "direction = {n: slow[n] - w for n, w in fast.items()}", "direction = {n: w - slow[n] for n, w in fast.items()}", "reptile"),
        ("Reptile learns from the support set alone", "in batches(x, y, inner.steps)", "in batches(episodes.support_x, episodes.support_y, inner.steps)", "reptile"),
        ("Reptile's steps see the same images", "slice(step % piles, None, piles)", "slice(0, None, piles)", "reptile"),
        ("Reptile begins each step anew", "loss=loss, start=fast)", "loss=loss)", "reptile"),
        ("iMAML multiplies by λ", "[a + h / inner.proximal for", "[a + h * inner.proximal for", "implicit"),
        ("iMAML's curvature at the query set", "forward(model, held, leaves, episodes.support_x, twice=True), episodes.support_y", "forward(model, held, leaves, episodes.query_x, twice=True), episodes.query_y", "implicit"),
        ("tasks share a step of conjugate gradients", "reshape(len(u), -1).sum(1) for u, v", "reshape(len(u), -1).sum().expand(len(u)) for u, v", "implicit"),
    ),
    *_bugs(
        "methods/starts.py",
        ("class means summed", " / member.sum(1).clamp_min(1)[..., None]", "", "starts"),
        ("ProtoMAML without the factor 2", "if cosine else 2 * means", "if cosine else means", "starts"),
        ("ProtoMAML's bias with the wrong sign", "else -means.square().sum(-1)", "else means.square().sum(-1)", "starts"),
    ),
    *_bugs(
        "methods/heads.py",
        ("centred by the query set", "mean = support.mean(1, keepdim=True)", "mean = query.mean(1, keepdim=True)", "heads"),
        ("pairs not normalised", "    a, b = normalised(a, b, normalise)\n", "", "heads"),
        ("temperature forgotten", "return temperature * euclidean_means(", "return euclidean_means(", "heads"),
    ),
    *_bugs(
        "data/pairs.py",
        ("a pair of one image", "(i + 1 + (draw[1] * (count[a] - 1)).long()) % count[a]", "(i + (draw[1] * (count[a] - 1)).long()) % count[a]", "pairs"),
        ("pairs of two classes may be of one", "other = (a + 1 + torch.randint(classes - 1,", "other = (a + torch.randint(classes,", "pairs"),
    ),
    *_bugs(
        "data/enlarge.py",
        ("labels out of step with the new images", "repeat_interleave(self.copies + 1, 1)", "repeat(1, self.copies + 1)", "enlarged"),
        ("enlarging moves the episodes on", "chance = _apart(generator)", "chance = generator", "enlarged"),
    ),
    *_bugs(
        "models/dagan.py",
        ("penalty on the squared norm", "return (norm - 1).square().mean()", "return (norm.square() - 1).square().mean()", "penalty"),
        ("one point for all images", "part = torch.rand(len(x), 1, 1, 1,", "part = torch.rand(1, 1, 1, 1,", "penalty"),
    ),
    *_bugs(
        "training/dagan.py",
        ("the real pair stands in both places", "torch.cat([other, made]))", "torch.cat([other, other]))", "dagan"),
        ("the generated image beside another first", "values = critic(torch.cat([x, x])", "values = critic(torch.cat([x, other])", "dagan"),
    ),
    *_bugs(
        "rl/advantage.py",
        ("reward of the next step", "after = rewards[..., t] + gamma * after", "after = gamma * (rewards[..., t] + after)", "advantage"),
        ("no discount in the temporal difference", "rewards + gamma * following - values", "rewards + following - values", "advantage"),
        ("λ left out", "gamma * lam), 0.0)", "gamma), 0.0)", "advantage"),
        ("the baseline sees steps behind an end", "seen = (x * alive[..., None]).flatten(1, 2)", "seen = x.flatten(1, 2)", "advantage"),
        ("advantages scaled over all tasks", "count = alive.sum((1, 2), keepdim=True)\n    mean = (advantages * alive).sum((1, 2), keepdim=True) / count", "count = alive.sum((1, 2), keepdim=True)\n    mean = (advantages * alive).sum() / alive.sum()", "advantage"),
    ),
    *_bugs(
        "rl/surrogate.py",
        ("log-probability for ratio", "return -_mean(ratio * y[..., size + 1], y[..., -1])", "return -_mean(torch.log(ratio) * y[..., size + 1], y[..., -1])", "meta-gradient of rl"),
        ("steps behind an end count", "return (values * weight).sum(1) / weight.sum(1)", "return values.mean(1)", "trpo"),
    ),
    *_bugs(
        "rl/policy.py",
        ("Fisher information of the variance", "2 * log_std], -1)", "log_std], -1)", "policy"),
        ("KL the other way round", "spread = torch.exp(2 * (log_std - other_log))", "spread = torch.exp(2 * (other_log - log_std))", "policy"),
    ),
    *_bugs(
        "rl/policy.py",
        ("acting policies are not adapted", 'own = {k: fast.get(f"{name}.{k}", slow[f"{name}.{k}"]).detach()', 'own = {k: slow[f"{name}.{k}"].detach()', "acting"),
        ("the shortcut for layers of one's own", "if not all(type(block) in (Layer, GaussianHead) for block in blocks.values()):", "if not blocks:", "acting"),
        ("an acting policy's log std without a floor", 'log_std = own["log_std"].clamp(min=LOWEST_LOG_STD)', 'log_std = own["log_std"]', "acting"),
        ("tanh policies act with ReLU", 'torch.relu_ if block.activation == "relu" else torch.tanh_', "torch.relu_", "acting"),
    ),
    *_bugs(
        "rl/trajectories.py",
        ("the step that ends a trajectory is lost", "alive.append(going)\n            going = going & ~step.ended", "going = going & ~step.ended\n            alive.append(going)", "navigation"),
        ("rewards behind an end", "torch.where(lived, torch.stack(rewards, 2).to(kind.dtype), 0.0)", "torch.stack(rewards, 2).to(kind.dtype)", "navigation"),
        ("the observation after the step", "seen.append(observation)", "seen.append(env.observe(tasks, step.state).to(kind.dtype))", "navigation"),
    ),
    *_bugs(
        "rl/cheetah.py",
        ("torques cost as they were before they are cut", "before, after, torques)\n        ended", "before, after, action.double().numpy())\n        ended", "cheetah"),
        ("PyTorch's threads are not given back", "            torch.set_num_threads(before)\n\n", "            pass\n\n", "cheetah"),
        ("PyTorch's threads spin beside MuJoCo's", "torch.set_num_threads(1)", "torch.set_num_threads(before)", "cheetah"),
    ),
    *_bugs(
        "estimator/choose.py",
        ("the left-out image is an example too", "rest = np.delete(np.arange(len(y)), i)", "rest = np.arange(len(y))", "choose"),
        ("the first images only are left out", "order[np.linspace(0, len(y) - 1, min(len(y), most)).round().astype(int)]", "order[:most]", "choose"),
    ),
    *_bugs(
        "estimator/heads.py",
        ("a head that sees the length of features", "F.normalize(read(x, self.readout), dim=-1)", "read(x, self.readout)", "choose"),
        ("class means of features of any length", "q, s = F.normalize(query, dim=-1)[None], F.normalize(support, dim=-1)[None]", "q, s = query[None], support[None]", "choose"),
    ),
    *_bugs(
        "estimator/feature_cache.py",
        ("other weights, the same features", "digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())", "pass", "features kept"),
        ("a damaged file is believed", " or content[head : head + _DIGEST] != _seal(key, payload)", "", "features kept"),
        ("one body's features for another", 'f"{self.body} {image}"', 'f"{image}"', "features kept"),
    ),
    *_bugs(
        "estimator/sorting.py",
        ("examples are sorted too", "            if real in support:", "            if real in left_out:", "sorted"),
        ("one picture in two classes", "elif files[twin].parent == place:", "elif True:", "sorted"),
        ("the most certain for the least", "order = sorted(range(len(probabilities)), key=lambda i: probabilities[i])", "order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])", "sorted"),
    ),
    *_bugs(
        "data/picture.py",
        ("EXIF rotation left as it is", "return ImageOps.exif_transpose(image)", "return image", "pictures"),
        ("16 bits cut off at 255", "values = values / 257.0", "values = values / 1.0", "pictures"),
        ("transparency over black", 'image.size, "white")', 'image.size, "black")', "pictures"),
    ),
    *_bugs(
        "estimator/inputs.py",
        ("blue is the brightest", "_GREY = (0.299, 0.587, 0.114)", "_GREY = (0.114, 0.587, 0.299)", "inputs"),
        ("transparent arrays without white", "rgb = rgba[:3] * share + white * (1 - share)", "rgb = rgba[:3] * share", "inputs"),
    ),
    *_bugs(
        "rl/trpo.py",
        ("the step is not scaled to the bound", "step = direction * math.sqrt(2 * settings.max_kl / curved)", "step = direction", "trpo"),
        ("any step within the bound is taken", "if after < before and kl <= settings.max_kl:", "if kl <= settings.max_kl:", "trpo"),
        ("the bound on the divergence is not looked at", "if after < before and kl <= settings.max_kl:", "if after < before:", "trpo"),
        ("Fisher product without the inner step's second derivative", "output = learner.output(slow, part.support, part.query.x)\n            u =", "from dataclasses import replace as _r\n            output = _r(learner, inner=_r(learner.inner, first_order=True)).output(slow, part.support, part.query.x)\n            u =", "trpo"),
        ("conjugate gradients forget the old direction", "p = r + (following / square) * p", "p = r", "trpo"),
        ("damping left out", "return _flat(total) + self._damping * v", "return _flat(total)", "trpo"),
    ),
    *_bugs(
        "rl/ppo.py",
        ("PPO without a bound", "loss = clipped_loss(settings.clip)", "loss = clipped_loss(1e9)", "ppo"),
        ("PPO of one epoch", "for _ in range(settings.epochs):", "for _ in range(1):", "ppo"),
        ("PPO reports the last epoch's loss", "first = first or (value, norm)", "first = (value, norm)", "ppo"),
    ),
    *_bugs(
        "rl/surrogate.py",
        ("the clipped gain alone", "torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)", "ratio.clamp(1 - clip, 1 + clip) * gain", "ppo"),
        ("clipped on one side", "ratio.clamp(1 - clip, 1 + clip)", "ratio.clamp(max=1 + clip)", "ppo"),
    ),
    *_bugs(
        "rl/train.py",
        ("Adam begins anew on resume", "restore_optimizer(adam, dict(slow), checkpoint)", "pass", "ppo runs"),
        ("PPO's settings not taken", "lr=config.ppo.lr, foreach=False", "lr=0.01, foreach=False", "ppo runs"),
    ),
    *_bugs(
        "studies/rl_bench.py",
        ("the same step in all rows", "tuple(value_after(r, s, step) for s, r in returns.items())", "tuple(value_after(r, s, 1) for s, r in returns.items())", "rl tables"),
    ),
    *_bugs(
        "studies/rl_baselines.py",
        ("the body frozen in fine-tuning", '"multitask", seed, "all")', '"multitask", seed, "head")', "rl baselines"),
        ("baselines from trained weights", "    if method is None:\n", "    if False:\n", "rl baselines"),
        ("the weakest baseline is compared with", "best = max(without,", "best = min(without,", "rl baselines"),
    ),
    *_bugs(
        "runs/plain.py",
        ("true counts as a number", "or (kind is int and isinstance(value, bool))", "or False", "plain"),
        ("unknown settings passed over", "if unknown := [str(k) for k in value if k not in own]:", "if unknown := []:", "plain"),
    ),
    *_bugs(
        "core/threads.py",
        ("as many threads as asked for", "if not 0 <= threads <= most:", "if threads < 0:", "threads"),
    ),
    *_bugs(
        "rl/meta_test.py",
        ("each step learns from the slow weights", "rates=how.rates, start=fast or None)\n    return", "rates=how.rates)\n    return", "meta-test"),
        ("new tasks at each test", 'stream(settings.seed, "tasks"))\n    first', 'stream(config.seed, "tasks"))\n    first', "meta-test"),
        ("the later rate from the first step on", "how = later if step else first", "how = later", "meta-test"),
    ),
    *_bugs(
        "studies/rl_tables.py",
        ("states behind an end compared", "met = data.weight[t] > 0", "met = data.weight[t] > -1", "rl tables"),
        ("the paper's values exchanged", "TABLE2_RL[method][env]", 'TABLE2_RL["anil" if method == "maml" else "maml"][env]', "rl tables"),
    ),
    *_bugs(
        "methods/attention.py",
        ("nearest instead of sum", ".logsumexp(2)", ".amax(2)", "methods"),
        ("support not normalised", "F.normalize(support, dim=-1)", "support", "methods"),
        ("softmax over the query", ".log_softmax(-1)", ".log_softmax(1)", "methods"),
    ),
    *_bugs(
        "analysis/cca.py",
        ("CCA without a rank cut", "return int((s > _RANK * s.max()).sum()) if len(s) else 0", "return len(s)", "cca"),
        ("CCA of half as many points", "if n < 2 * directions:", "if n < directions:", "cca"),
        ("PWCCA weights not normalised", "/ weight.sum())", "/ len(weight))", "cca"),
        ("PWCCA weights of the second", "((a @ u).T @ x).abs()", "((a @ u).T @ y).abs()", "cca"),
        ("SVCCA cut at a part of the singular values", "_leading(s.square(), keep)", "_leading(s, keep)", "cca"),
        ("SVCCA keeps one direction too few", "int(reached.int().argmax()) + 1", "max(1, int(reached.int().argmax()))", "cca"),
    ),
    *_bugs(
        "analysis/cka.py",
        ("CKA forgets to centre", "z = z - mean", "z = z - 0 * mean", "cka"),
        ("CKA of a constant is rounding", "z.masked_fill_(z.abs().amax(0) <= rounding, 0.0)", "z", "cka"),
        ("CKA unbiased with a wrong constant", "2 * rows / (n - 2)", "2 * rows / (n - 1)", "cka"),
        ("CKA unbiased keeps the diagonal", "_hsic1(cross - d @ e,", "_hsic1(cross,", "cka"),
        ("CKA kernel as wide as the square root", "(-2 * bandwidth**2 * median)", "(-2 * bandwidth * median)", "cka"),
    ),
    *_bugs(
        "analysis/similarity.py",
        ("similarity of a model and itself", "for m in (first, second))", "for m in (second, second))", "similarity"),
        ("similarity of the un-adapted", "    if inner is not None:", "    if False:", "similarity"),
        ("similarity of the first points", "x[torch.arange(points, device=x.device) * len(x) // points]", "x[:points]", "similarity"),
    ),
    *_bugs(
        "methods/attention.py",
        ("class means over all support images", "/ count.clamp_min(1)[..., None]", "/ support.shape[1]", "means"),
        ("class means by plain distance", '"donot_use_mm_for_euclid_dist").square()', '"donot_use_mm_for_euclid_dist")', "means"),
    ),
    *_bugs(
        "analysis/heads.py",
        ("the support alone is relabelled", "query_y=names[e.query_y])", "query_y=e.query_y)", "permutations"),
        ("a new head of zeros", 'if not zero and n.endswith("weight"):', 'if not zero and n.endswith("bias") and new.ndim > 1:', "fresh"),
        ("worst permutation is the mean", "self.scores.amin(0)", "self.scores.mean(0)", "permutations"),
        ("permutations too few", "while len(chosen) < permutations:", "for _ in range(permutations // 2):", "permutations"),
    ),
    *_bugs(
        "analysis/movement.py",
        ("the odd task is forgotten between chunks", "if n in odd else update", "if False else update", "movement"),
        ("cosine without the second length", "lengths[moved].prod(1)", "lengths[moved][:, 0].square()", "movement"),
    ),
    *_bugs(
        "analysis/cost.py",
        ("MAML's cost is first order's", "exact = replace(inner, first_order=False)", "exact = inner", "cost"),
        ("inference with the steps of training", "with_steps(loop, test_steps)", "loop", "cost"),
    ),
    *_bugs(
        "analysis/movement.py",
        ("norm with what cannot move", "own = [slow[n] for n in could", "own = [w for n, w in slow.items()", "movement of one step"),
    ),
    *_bugs(
        "data/distort.py",
        ("the map and not its inverse", "back = torch.linalg.inv(forward)", "back = forward", "distort"),
        ("shift in the wrong unit", "draw(2 * self.shift, 2)", "draw(self.shift, 2)", "distort"),
        ("one chance for all", "torch.rand(n, 1, generator=generator, device=generator.device) < self.chance", "torch.rand(1, 1, generator=generator, device=generator.device) < self.chance", "distort"),
    ),
    *_bugs(
        "data/multiclass.py",
        ("the first images only", "(part * data.count.to(where)[label]).long()", "(part * data.count.min()).long()", "multiclass"),
        ("labels of other images", "label = label.to(device)", "label = label.flip(0).to(device)", "multiclass"),
    ),
    *_bugs(
        "studies/bench.py",
        ("a difference of the wrong sign", "paired_difference(torch.tensor(a.per_episode), torch.tensor(b.per_episode))", "paired_difference(torch.tensor(b.per_episode), torch.tensor(a.per_episode))", "claims"),
    ),
    *_bugs(
        "studies/comparison_tables.py",
        ("NIL's row is ANIL's", '_gap(bench, "NIL − ANIL", ("anil", "nil"), ("anil", "anil"))', '_gap(bench, "NIL − ANIL", ("anil", "anil"), ("anil", "anil"))', "claims"),
    ),
    *_bugs(
        "studies/regimes.py",
        ("best for worst", "min(m[\"maml\"], m[\"anil\"]),", "max(m[\"maml\"], m[\"anil\"]),", "claims"),
    ),
]  # fmt: skip


def run(source: Path, tests: list[str]) -> tuple[int, str]:
    """pytest's exit status with `source` as the package, in a fork of this process, and what it printed last."""
    log = source.parent / "log"
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 99
        try:
            with log.open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
                sys.path.insert(0, str(source))
                os.chdir(ROOT)
                spec = importlib.util.find_spec("innerloop")
                assert spec is not None
                assert str(spec.origin).startswith(str(source)), f"{spec.origin} is not the copy"
                split = tests.index("-k") if "-k" in tests else len(tests)
                files = [f"tests/{t}" for t in tests[:split]]
                options = ["-x", "-q", "-p", "no:cacheprovider", "--tb=line", "--timeout=120"]
                status = int(pytest.main([*files, *tests[split:], *options]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, code = os.waitpid(child, 0)
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return os.waitstatus_to_exitcode(code), (failed or lines or ["nothing"])[-1 if not failed else 0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant bugs in a copy of the package; the tests must notice each.")
    parser.add_argument("--only", metavar="NAME", help="the bugs whose name contains NAME")
    only = parser.parse_args().only
    bugs = [b for b in BUGS if only is None or only in b.name]
    if not bugs:
        print(f"no bug {only!r}; there are: {', '.join(b.name for b in BUGS)}")
        return 2
    sys.dont_write_bytecode = True  # the copies differ by a few bytes within a second: no stale bytecode
    torch.set_num_threads(1)
    start, wrong = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        for key in dict.fromkeys(tuple(b.tests) for b in bugs):
            status, line = run(source, list(key))
            if status:
                print(f"FAILS WITHOUT A BUG  {' '.join(key)}: {line}", flush=True)
                wrong.append(" ".join(key))
        for b in bugs:
            path = source / "innerloop" / b.file
            text = path.read_text(encoding="utf-8")
            if text.count(b.old) != 1:
                print(f"NOT THERE  {b.name}: {b.old!r} occurs {text.count(b.old)} times in {b.file}", flush=True)
                wrong.append(b.name)
                continue
            path.write_text(text.replace(b.old, b.new), encoding="utf-8")
            with contextlib.ExitStack() as stack:
                stack.callback(path.write_text, text, encoding="utf-8")
                status, line = run(source, list(b.tests))
            noticed = status == 1
            if not noticed:
                wrong.append(b.name)
            print(f"{'noticed' if noticed else f'MISSED ({status})'}  {b.file}: {b.name}  <-  {line[:110]}", flush=True)
    spent = sum(os.times()[:4])
    print(
        f"{len(bugs)} bugs, {time.monotonic() - start:.0f} s, {spent:.0f} s of one core; "
        + (f"wrong: {'; '.join(wrong)}" if wrong else "all noticed")
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
