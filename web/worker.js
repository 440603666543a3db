// Fuses in the background: F in passes over tiles (export/passes.py), then range and colour as fuse.py has them.
const OWN = 256; // a tile's own pixels, at most, per side
const LUMA = [0.299, 0.587, 0.114];
const BORDER = 8, FLAT = 0.5 / 255; // imaging/ranges.py

let ort, site, files, provider;
const sessions = {}; // task -> one per pass
let wanted = -1; // the newest job: older ones stop at their next tile
let last = null; // what `finish` needs of the last result

async function start(about) {
  site = about;
  // A graphics card where the browser offers a real one, else the processor.
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  provider = adapter && !adapter.info?.isFallbackAdapter ? "webgpu" : "wasm";
  ort = await import(`./ort/ort.${provider}.bundle.min.mjs`);
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = new URL("ort/", self.location.href).href;
  files = {};
  await Promise.all(Object.entries(site.tasks).map(async ([task, { passes }]) => {
    files[task] = await Promise.all(passes.map(async (url) => {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`${url} could not be loaded`);
      return answer.arrayBuffer();
    }));
  }));
  await open(Object.keys(site.tasks)[0]); // so that the runtime itself is loaded too
  postMessage({ kind: "ready", runtime: provider === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}` });
}

async function open(task) {
  if (!sessions[task]) {
    sessions[task] = [];
    for (const file of files[task]) {
      sessions[task].push(await ort.InferenceSession.create(file, { executionProviders: [provider, "wasm"].slice(provider === "wasm") }));
    }
  }
  return sessions[task];
}

// Even parts of at most OWN pixels: [[begin, end], ...].
function parts(size) {
  const count = Math.ceil(size / OWN), step = Math.ceil(size / count);
  return Array.from({ length: count }, (_, i) => [i * step, Math.min(size, (i + 1) * step)]);
}

// A tile of a map {data, channels} of (height,width), with its overlap, zero outside the picture.
function cut(map, { height, width }, [top, bottom], [left, right], margin) {
  const rows = bottom - top + 2 * margin, columns = right - left + 2 * margin;
  const tile = new Float32Array(map.channels * rows * columns);
  const first = Math.max(left - margin, 0), end = Math.min(right + margin, width);
  for (let c = 0; c < map.channels; c++) {
    for (let y = Math.max(top - margin, 0); y < Math.min(bottom + margin, height); y++) {
      const from = (c * height + y) * width;
      tile.set(map.data.subarray(from + first, from + end), (c * rows + y - top + margin) * columns + first - left + margin);
    }
  }
  return new ort.Tensor("float32", tile, [1, map.channels, rows, columns]);
}

// The tile's own pixels of a result into the map.
function paste(map, { height, width }, [top, bottom], [left, right], margin, tile) {
  const rows = bottom - top + 2 * margin, columns = right - left + 2 * margin;
  for (let c = 0; c < map.channels; c++) {
    for (let y = top; y < bottom; y++) {
      const from = (c * rows + y - top + margin) * columns + margin;
      map.data.set(tile.subarray(from, from + right - left), (c * height + y) * width + left);
    }
  }
}

// 1 inside the picture, and of those 1 at the tile's own pixels.
function masks(size, rows, columns, margin) {
  const ones = { data: new Float32Array(size.height * size.width).fill(1), channels: 1 };
  const inside = cut(ones, size, rows, columns, margin), counted = new Float32Array(inside.data.length);
  const pitch = columns[1] - columns[0] + 2 * margin;
  for (let y = margin; y < margin + rows[1] - rows[0]; y++) counted.fill(1, y * pitch + margin, (y + 1) * pitch - margin);
  return { inside, counted: new ort.Tensor("float32", counted, inside.dims) };
}

// F's output, (height*width), of two lumas; null where a newer job came.
async function network(task, lumas, size, job) {
  const passes = await open(task), margin = site.reach;
  const tiles = parts(size.height).flatMap((rows) => parts(size.width).map((columns) => ({ rows, columns })));
  for (const tile of tiles) tile.masks = masks(size, tile.rows, tile.columns, margin);
  let maps = lumas.map((data) => ({ data, channels: 1 })), sums = [];
  for (const [turn, session] of passes.entries()) {
    let next = null;
    const totals = [];
    for (const [i, { rows, columns, masks }] of tiles.entries()) {
      const feeds = {};
      for (const name of session.inputNames) {
        const number = Number(name.at(-1));
        feeds[name] = masks[name] ?? (name.startsWith("sums") ? sums[number] : cut(maps[number], size, rows, columns, margin));
      }
      const results = await session.run(feeds);
      if (job !== wanted) return null;
      const streams = session.outputNames.filter((name) => !name.startsWith("next_sums"));
      next ??= streams.map((name) => {
        const channels = results[name].dims[1];
        return { data: new Float32Array(channels * size.height * size.width), channels };
      });
      streams.forEach((name, at) => paste(next[at], size, rows, columns, margin, results[name].data));
      session.outputNames.filter((name) => name.startsWith("next_sums")).forEach((name, at) => {
        totals[at] ??= { data: new Float64Array(results[name].data.length), dims: results[name].dims };
        results[name].data.forEach((x, k) => { totals[at].data[k] += x; });
      });
      postMessage({ kind: "progress", job, share: (turn * tiles.length + i + 1) / (passes.length * tiles.length) });
      await new Promise((resolve) => setTimeout(resolve)); // messages of newer jobs come in here
    }
    maps = next;
    sums = totals.map(({ data, dims }) => new ort.Tensor("float32", Float32Array.from(data), dims));
  }
  return maps[0].data;
}

function luma({ data, width, height }) {
  const found = new Float32Array(width * height);
  for (let i = 0; i < found.length; i++) found[i] = (LUMA[0] * data[4 * i] + LUMA[1] * data[4 * i + 1] + LUMA[2] * data[4 * i + 2]) / 255;
  return found;
}

function extremes(values) {
  let low = Infinity, high = -Infinity;
  for (const x of values) { if (x < low) low = x; if (x > high) high = x; }
  return [low, high];
}

const clip = (x, low, high) => Math.min(Math.max(x, low), high);

// imaging/ranges.py: a function from F's output to [0,1].
function rule(range, raw, lumas, { width, height }) {
  if (range === "sources") {
    const border = Math.min(BORDER, Math.floor(Math.min(width, height) / 4));
    const inside = raw.filter((_, i) => i % width >= border && i % width < width - border && i >= border * width && i < (height - border) * width);
    const [ownLow, ownHigh] = extremes(inside);
    const [[low0, high0], [low1, high1]] = lumas.map(extremes);
    const low = Math.min(low0, low1), high = Math.max(high0, high1);
    const gap = Math.max(0, Math.max(low0, low1) - Math.min(high0, high1));
    const gain = (high - low - gap) / Math.max(ownHigh - ownLow, FLAT);
    const half = (gain * (ownHigh - ownLow)) / 2, middle = (ownLow + ownHigh) / 2;
    const level = clip(middle, low + half, high - half);
    return (x) => clip((x - middle) * gain + level, low, high);
  }
  const [low, high] = extremes(raw);
  return range === "clip" || high <= low ? (x) => clip(x, 0, 1) : (x) => (x - low) / (high - low);
}

// Range and colour (Eq. 15) -> the picture to show.
function finish(job, range) {
  const { raw, lumas, a, b } = last, level = rule(range, raw, lumas, a), picture = new ImageData(a.width, a.height);
  const [kr, kg, kb] = LUMA;
  for (let i = 0; i < raw.length; i++) {
    let above = [0, 0], total = [0, 0];
    for (const { data } of [a, b]) {
      const red = data[4 * i], green = data[4 * i + 1], blue = data[4 * i + 2];
      const cr = 0.713 * (kg * (red - green) + kb * (red - blue)), cb = 0.564 * (kr * (blue - red) + kg * (blue - green));
      above[0] += Math.abs(cr) * cr; total[0] += Math.abs(cr);
      above[1] += Math.abs(cb) * cb; total[1] += Math.abs(cb);
    }
    const y = 255 * level(raw[i]), cr = total[0] ? above[0] / total[0] : 0, cb = total[1] ? above[1] / total[1] : 0;
    picture.data[4 * i] = y + 1.403 * cr; // the array clamps and rounds
    picture.data[4 * i + 1] = y - 0.714 * cr - 0.344 * cb;
    picture.data[4 * i + 2] = y + 1.773 * cb;
    picture.data[4 * i + 3] = 255;
  }
  postMessage({ kind: "picture", job, range, picture });
}

async function fuse({ job, task, range, a, b }) {
  wanted = job;
  last = null;
  await ready;
  const lumas = [luma(a), luma(b)];
  const mean = (x) => x.reduce((sum, value) => sum + value, 0);
  const ordered = task === "meie" && mean(lumas[1]) < mean(lumas[0]) ? [lumas[1], lumas[0]] : lumas;
  const raw = await network(task, ordered, { width: a.width, height: a.height }, job);
  if (raw === null) return;
  last = { raw, lumas, a, b };
  finish(job, range);
}

let ready;
let queue = Promise.resolve(); // one fusion at a time: a session runs one at a time
self.addEventListener("message", ({ data }) => {
  const failed = (error) => {
    const memory = /memory|alloc|array length|OOM/i.test(String(error?.message));
    const reason = memory
      ? "There is not enough memory for pictures of this size; close other tabs, take smaller ones, or use fuse.py."
      : `Fusing failed: ${String(error?.message ?? error).split("\n")[0]}`;
    postMessage({ kind: "failed", job: data.job, reason });
  };
  if (data.kind === "start") { ready = start(data.site); ready.catch(failed); }
  if (data.kind === "fuse") { wanted = data.job; queue = queue.then(() => (data.job === wanted ? fuse(data) : null)).catch(failed); }
  if (data.kind === "finish" && last) finish(data.job, data.range);
});
