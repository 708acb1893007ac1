"use strict";
const $ = (id) => document.getElementById(id);
const percent = (p) => `${(100 * p).toFixed(1)} %`;
let picture = null, stream = null, turn = 0, model = null;

function say(text, bad = false) { $("status").textContent = text; $("status").className = bad ? "bad" : ""; }

function element(tag, text, parent) {
  const e = document.createElement(tag);
  if (text !== null) e.textContent = text;
  parent.append(e);
  return e;
}

async function ask(path, fields) {
  const options = fields ? { method: "POST", body: new FormData() } : {};
  for (const [name, value] of Object.entries(fields || {})) options.body.append(name, value);
  const answer = await fetch(path, options);
  const found = await answer.json().catch(() => ({}));
  if (answer.ok) return found;
  const why = Array.isArray(found.detail) ? found.detail.map((d) => d.msg).join("; ") : found.detail;
  throw new Error(why || `the server answered ${answer.status}`);
}

function describe(found) {
  model = found;
  const classes = Object.entries(found.classes);
  $("about").textContent = `${found.examples} examples of ${classes.length} classes: ` +
    classes.map(([name, n]) => `${name} (${n})`).join(", ") + `. Method ${found.method}.`;
  $("classes").replaceChildren();
  for (const [name] of classes) element("option", null, $("classes")).value = name;
  $("correct").hidden = !found.can_learn;
  $("keep").textContent = (found.new_classes ? "A new name makes a new class. " : "") + (found.kept_in
    ? `What you add is kept in ${found.kept_in}.` : "What you add is forgotten when the server stops (start it with --save to keep it).");
  $("undo-row").hidden = !found.added;
}

async function guess(blob) {
  if (blob.size > model.megabytes * 1e6) { say(`The file is too large: at most ${model.megabytes} MB are taken.`, true); return; }
  const mine = ++turn;
  picture = blob;
  URL.revokeObjectURL($("shown").src);
  $("shown").src = URL.createObjectURL(blob);
  $("shown").hidden = false;
  $("hint").hidden = true;
  say("Looking …");
  try {
    const found = await ask("api/guess", { file: blob });
    if (mine !== turn) return;
    $("guess").textContent = `${found.guess}, ${percent(found.probability)}`;
    $("none").hidden = !found.none_of_these;
    $("bars").replaceChildren();
    for (const { class: name, probability } of found.probabilities.slice(0, 8)) {
      const item = element("li", null, $("bars")), line = element("div", null, item);
      line.className = "name";
      element("span", name, line);
      element("span", percent(probability), line);
      const track = element("div", null, item);
      track.className = "track";
      element("div", null, track).style.width = `${100 * probability}%`;
    }
    $("near").replaceChildren();
    for (const near of found.nearest) {
      const item = element("li", null, $("near")), image = element("img", null, item);
      image.alt = `an example of ${near.class}`;
      image.addEventListener("error", () => { image.hidden = true; });
      image.src = `api/examples/${near.example}?${model.added}`;
      element("span", `${near.class}, cosine ${near.cosine.toFixed(2)}`, item);
    }
    $("label").value = "";
    $("result").hidden = false;
    say("");
  } catch (error) {
    if (mine !== turn) return;
    picture = null;
    $("result").hidden = true;
    say(error.message, true);
  }
}

function stop() {
  if (stream) stream.getTracks().forEach((t) => t.stop());
  stream = null;
  $("video").hidden = $("shoot").hidden = true;
}

$("file").addEventListener("change", () => { if ($("file").files[0]) { stop(); guess($("file").files[0]); } $("file").value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (file) { stop(); guess(file); }
  });
}
document.addEventListener("paste", (event) => { const file = event.clipboardData.files[0]; if (file) { stop(); guess(file); } });
$("camera").addEventListener("click", async () => {
  if (!navigator.mediaDevices) { say("The camera is there on https pages and on this machine only.", true); return; }
  try {
    stop();
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    $("video").srcObject = stream;
    await $("video").play();
    $("video").hidden = $("shoot").hidden = false;
    $("shown").hidden = $("hint").hidden = true;
  } catch (error) { say(`The camera cannot be used: ${error.message}`, true); }
});
$("shoot").addEventListener("click", () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [$("video").videoWidth, $("video").videoHeight];
  canvas.getContext("2d").drawImage($("video"), 0, 0);
  stop();
  canvas.toBlob(guess, "image/jpeg", 0.92);
});
$("correct").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!picture) return;
  const label = $("label").value, button = event.submitter || $("correct").querySelector("button");
  button.disabled = true;
  try {
    describe(await ask("api/correct", { file: picture, label }));
    await guess(picture);
    say(`Added as an example of ${label}.`);
  } catch (error) { say(error.message, true); }
  button.disabled = false;
});
$("undo").addEventListener("click", async () => {
  try {
    describe(await ask("api/undo", {}));
    if (picture) await guess(picture);
    say("Taken back.");
  } catch (error) { say(error.message, true); }
});
ask("api/model").then(describe).catch((error) => say(error.message, true));
