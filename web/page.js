// The page: two pictures in, the worker's result under a wipe line. base.js gives $ and make.
"use strict";
(async () => {
  // As many as fit: 32 channels of 4 bytes lie between two passes, twice.
  const LARGEST = 6_000_000;
  const RANGES = { sources: "the levels that both sources span", minmax: "the full range", clip: "the network's own levels" };
  const names = { a: "", b: "", fused: "fused" };
  const COMPARISONS = [["a", "fused"], ["b", "fused"], ["a", "b"]];
  const pictures = { a: null, b: null, fused: null }; // ImageData; files' names beside
  let compared = COMPARISONS[0], job = 0, began = 0;

  function problem(text) {
    $("problem").textContent = text;
    $("problem").hidden = !text;
    if (text) idle("");
  }
  function idle(text) {
    $("progress").hidden = true;
    $("status").textContent = text;
  }

  // A module of one function with a SIMD instruction: browsers without SIMD refuse it.
  const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD))) {
    problem("This browser has no WebAssembly SIMD, which fusing needs; take a current Chrome, Firefox or Safari.");
    return;
  }
  if (location.protocol === "file:") {
    problem("Opened as a file this page may not load its parts; serve the folder (make serve) and open it from there.");
    return;
  }
  let site;
  try {
    site = await (await fetch("site.json")).json();
  } catch {
    problem("The page's parts could not be loaded; load it again.");
    return;
  }

  const worker = new Worker("worker.js", { type: "module" });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    problem(`The page's worker failed: ${event.message || "it could not be loaded"}; load the page again.`);
  });
  worker.addEventListener("message", ({ data }) => {
    if (data.kind === "ready") {
      $("runtime").textContent = `Fused by ${data.runtime}.`;
      document.body.dataset.ready = data.runtime;
    }
    if (data.job !== undefined && data.job !== job) return; // of a pair that was replaced meanwhile
    if (data.kind === "failed") problem(data.reason);
    if (data.kind === "progress") {
      $("progress").hidden = false;
      $("progress").value = data.share;
      $("status").textContent = `fusing, ${Math.round(100 * data.share)} %`;
    }
    if (data.kind === "picture") {
      pictures.fused = data.picture;
      if (began) idle(`${data.picture.width} x ${data.picture.height} in ${((performance.now() - began) / 1000).toFixed(1)} s`);
      began = 0;
      show();
      document.body.dataset.shown = `${data.job} ${data.range}`;
    }
  });
  worker.postMessage({ kind: "start", site });

  // Choices.
  for (const [task, { title }] of Object.entries(site.tasks)) $("task").append(make("option", { value: task, textContent: title }));
  function choices(place, entries, chosen, changed) {
    for (const [value, text, title] of entries) {
      const radio = make("input", { type: "radio", name: place, value, checked: value === chosen });
      radio.addEventListener("change", () => changed(value));
      $(place).append(make("label", { title }, radio, text));
    }
  }
  let range = "sources";
  choices("range", Object.entries(RANGES).map(([key, title]) => [key, key, title]), range, (value) => {
    range = value;
    if (pictures.fused) worker.postMessage({ kind: "finish", job, range });
  });
  function nameSources() {
    [names.a, names.b] = site.tasks[$("task").value].sources;
    for (const key of "ab") $(`slot-${key}`).querySelector(".name").textContent = names[key];
    $("compare").querySelectorAll("label").forEach((label) => label.remove());
    const entries = COMPARISONS.map((both) => [both.join("-"), both.map((key) => names[key]).join(" | "), ""]);
    choices("compare", entries, compared.join("-"), (value) => { compared = value.split("-"); show(); });
  }

  // Pictures.
  async function read(blob, name) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    } catch {
      throw new Error(`${name} is not a picture that this browser can read; take PNG, JPEG or WebP.`);
    }
    const { width, height } = bitmap;
    if (width * height > LARGEST) {
      throw new Error(`${name} has ${(width * height / 1e6).toFixed(1)} million pixels; a browser's memory holds ${LARGEST / 1e6} million. fuse.py takes any size.`);
    }
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, width, height);
  }
  async function take(key, blob, name) {
    $(`slot-${key}`).querySelector(".file").textContent = name;
    try {
      pictures[key] = null;
      pictures[key] = await read(blob, name);
      problem("");
      fuse();
    } catch (error) {
      forget();
      problem(error.message);
    }
  }
  function forget() {
    job += 1;
    pictures.fused = null;
    $("save").disabled = true;
    $("frame").hidden = true;
    $("empty").hidden = false;
  }
  function fuse() {
    forget();
    const { a, b } = pictures;
    if (!a || !b) return;
    if (a.width !== b.width || a.height !== b.height) {
      problem(`The pictures need one size: ${names.a} has ${a.width} x ${a.height}, ${names.b} ${b.width} x ${b.height}.`);
      return;
    }
    problem("");
    began = performance.now();
    $("progress").hidden = false;
    $("progress").value = 0;
    $("status").textContent = document.body.dataset.ready ? "fusing" : "loading the network";
    worker.postMessage({ kind: "fuse", job, task: $("task").value, range, a, b });
  }
  for (const key of "ab") {
    const slot = $(`slot-${key}`), input = slot.querySelector("input");
    input.addEventListener("change", () => { if (input.files[0]) take(key, input.files[0], input.files[0].name); });
    slot.addEventListener("dragover", (event) => { event.preventDefault(); slot.classList.add("over"); });
    slot.addEventListener("dragleave", () => slot.classList.remove("over"));
    slot.addEventListener("drop", (event) => {
      event.preventDefault();
      slot.classList.remove("over");
      const files = [...event.dataTransfer.files];
      if (files.length === 2) "ab".split("").forEach((place, i) => take(place, files[i], files[i].name));
      else if (files[0]) take(key, files[0], files[0].name);
    });
  }
  const examples = {}; // fetched with the page, so that it needs no network afterwards
  await Promise.all(Object.entries(site.tasks).map(async ([task, { example }]) => {
    examples[task] = await Promise.all(example.map(async (url) => (await fetch(url)).blob()));
  })).catch(() => problem("The built-in pairs could not be loaded; load the page again."));
  $("example").addEventListener("click", async () => {
    const task = $("task").value;
    [pictures.a, pictures.b] = await Promise.all(examples[task].map((blob, i) => read(blob, names["ab"[i]])));
    for (const key of "ab") $(`slot-${key}`).querySelector(".file").textContent = "built-in";
    fuse();
  });
  $("task").addEventListener("change", () => { nameSources(); fuse(); });

  // The result.
  function show() {
    $("save").disabled = !pictures.fused;
    if (!pictures.fused) return;
    $("empty").hidden = true;
    $("frame").hidden = false;
    const { width, height } = pictures.fused;
    $("frame").style.setProperty("--aspect", width / height);
    [["left", compared[0]], ["right", compared[1]]].forEach(([side, key]) => {
      const [canvas, tag] = $(side).children;
      Object.assign(canvas, { width, height });
      canvas.getContext("2d").putImageData(pictures[key], 0, 0);
      tag.textContent = names[key];
    });
    setWipe(wipe);
  }
  $("save").addEventListener("click", () => {
    const canvas = make("canvas", { width: pictures.fused.width, height: pictures.fused.height });
    canvas.getContext("2d").putImageData(pictures.fused, 0, 0);
    canvas.toBlob((blob) => {
      const link = make("a", { href: URL.createObjectURL(blob), download: `fused-${$("task").value}-${range}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    });
  });

  // The wipe line.
  let wipe = 50;
  function setWipe(percent) {
    wipe = Math.min(100, Math.max(0, percent));
    $("frame").style.setProperty("--wipe", `${wipe}%`);
    const share = Math.round(wipe);
    $("wipe").setAttribute("aria-valuenow", share);
    $("wipe").setAttribute("aria-valuetext", `${share} % ${names[compared[0]]}, ${100 - share} % ${names[compared[1]]}`);
  }
  function follow(event) {
    const box = $("frame").getBoundingClientRect();
    setWipe((100 * (event.clientX - box.left)) / box.width);
  }
  $("frame").addEventListener("pointerdown", (event) => { $("frame").setPointerCapture(event.pointerId); follow(event); });
  $("frame").addEventListener("pointermove", (event) => { if ($("frame").hasPointerCapture(event.pointerId)) follow(event); });
  $("wipe").addEventListener("keydown", (event) => {
    const to = { ArrowLeft: wipe - 1, ArrowRight: wipe + 1, PageDown: wipe - 10, PageUp: wipe + 10, Home: 0, End: 100 }[event.key];
    if (to !== undefined) { event.preventDefault(); setWipe(to); }
  });

  nameSources();
  document.body.dataset.page = "ready";
})();
