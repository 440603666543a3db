// The page of a training run: charts as SVG with one cross-hair through all of them, and the previews.
"use strict";
(() => {
  const data = JSON.parse($("data").textContent);
  const draw = (tag, attributes, parent) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  };
  const whole = (x) => x.toLocaleString("en");
  function short(x) {
    if (x === null || x === undefined || Number.isNaN(x)) return "–";
    if (x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5)) return x.toExponential(2).replace(/\.?0*e\+?/, "e");
    return String(Number(x.toPrecision(4)));
  }

  // Ticks at round numbers; of a logarithmic axis at powers of ten, with 2 and 5 between when there are few.
  function ticks(low, high, count) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(12)));
    return found;
  }
  function logTicks(low, high) {
    const from = Math.floor(low), to = Math.ceil(high), few = high - low < 2.2;
    const every = Math.max(1, Math.ceil((high - low) / 5));
    const found = [];
    for (let power = from; power <= to; power++) {
      for (const factor of few ? [1, 2, 5] : [1]) {
        const at = power + Math.log10(factor);
        if (at >= low && at <= high && (few || power % every === 0)) found.push(Number((factor * 10 ** power).toPrecision(3)));
      }
    }
    return found;
  }

  // Exponential smoothing, freed of the pull of its start; missing values stay missing.
  function smoothed(values, weight) {
    let mean = 0, total = 0;
    return values.map((value) => {
      if (value === null) return null;
      mean = weight * mean + (1 - weight) * value;
      total = weight * total + (1 - weight);
      return mean / total;
    });
  }
  function nearest(steps, step) {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle; else high = middle;
    }
    return step - steps[low] <= steps[high] - step ? low : high;
  }

  const charts = [];
  const state = { weight: Number($("smoothing").value), log: false, step: null };
  const edge = { left: 54, right: 14, top: 8, bottom: 22 };

  class Chart {
    // lines: [{label, series, key}]; options: log, mayLog, reach, reference, best ({step, name}), dots
    constructor(host, title, note, lines, options) {
      Object.assign(this, { lines, options });
      lines.forEach((line) => Object.assign(line, { on: true, values: line.series.mean[line.key] }));
      this.svg = draw("svg", { tabindex: 0, role: "img", "aria-label": this.summary(title) }, document.createElement("div"));
      const keys = make("div", { className: "keys" });
      lines.forEach((line, i) => {
        line.color = `s${i % 6}`;
        line.output = make("output");
        const button = make("button", { type: "button", className: line.color }, make("i"), line.label, line.output);
        button.setAttribute("aria-pressed", "true");
        button.addEventListener("click", () => {
          line.on = !line.on;
          button.setAttribute("aria-pressed", String(line.on));
          this.render();
        });
        keys.append(button);
      });
      host.append(make("article", { className: "chart" }, make("h3", { textContent: title }), keys, this.svg,
        ...(note ? [make("p", { textContent: note })] : [])));
      const point = (event) => {
        const box = this.svg.getBoundingClientRect();
        const share = (event.clientX - box.left - edge.left) / (box.width - edge.left - edge.right);
        pointAt(Math.min(1, Math.max(0, share)) * data.last);
      };
      this.svg.addEventListener("pointermove", point);
      this.svg.addEventListener("pointerdown", point);
      this.svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") pointAt(null); });
      this.svg.addEventListener("blur", () => pointAt(null));
      this.svg.addEventListener("keydown", (event) => {
        const steps = lines[0].series.step, now = state.step === null ? steps.length - 1 : nearest(steps, state.step);
        const to = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - 10, PageDown: now + 10, Home: 0, End: steps.length - 1 }[event.key];
        if (event.key === "Escape") pointAt(null);
        if (to === undefined) return;
        event.preventDefault();
        pointAt(steps[Math.min(steps.length - 1, Math.max(0, to))]);
      });
      new ResizeObserver(() => this.render()).observe(this.svg);
      charts.push(this);
    }
    summary(title) {
      const parts = this.lines.map(({ label, values }) => {
        const known = values.filter((x) => x !== null);
        return `${label} from ${short(known[0])} to ${short(known.at(-1))}`;
      });
      return `${title}: ${parts.join(", ")}. Arrow keys read out values.`;
    }
    isLog() { return this.options.log || (this.options.mayLog && state.log); }

    render() {
      const { svg, options } = this, width = svg.clientWidth, height = svg.clientHeight;
      if (!width || !height) return;
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.replaceChildren();
      const log = this.isLog();
      const weight = options.dots ? 0 : state.weight;
      this.lines.forEach((line) => { line.smooth = weight ? smoothed(line.values, weight) : line.values; });
      const visible = this.lines.filter((line) => line.on);
      const shown = [...visible.flatMap((line) => [...line.values, ...line.smooth]), ...(log ? [] : options.reach ?? [])]
        .filter((x) => x !== null && (!log || x > 0));
      const scale = (x) => (log ? Math.log10(x) : x);
      let low = shown.length ? scale(shown.reduce((x, y) => Math.min(x, y))) : 0;
      let high = shown.length ? scale(shown.reduce((x, y) => Math.max(x, y))) : 1;
      const space = high > low ? 0.06 * (high - low) : Math.abs(low) * 0.1 || 0.5;
      const fixed = log ? [] : options.reach ?? [];
      if (!fixed.includes(low) || high === low) low -= space;
      if (!fixed.includes(high) || high === low) high += space;
      const right = width - edge.right, bottom = height - edge.bottom;
      const x = (step) => edge.left + (data.last ? step / data.last : 0) * (right - edge.left);
      const y = (value) => bottom - ((scale(value) - low) / (high - low)) * (bottom - edge.top);
      Object.assign(this, { x, y, bottom });

      for (const value of log ? logTicks(low, high) : ticks(low, high, 5)) {
        draw("line", { class: "grid", x1: edge.left, x2: right, y1: y(value), y2: y(value) }, svg);
        draw("text", { x: edge.left - 7, y: y(value) + 4, "text-anchor": "end" }, svg).textContent = short(value);
      }
      draw("text", { x: edge.left - 7, y: height - 5, "text-anchor": "end" }, svg).textContent = "step";
      for (const step of ticks(0, Math.max(data.last, 1), Math.max(2, Math.floor(width / 110)))) {
        const anchor = step === 0 ? "start" : x(step) > right - 20 ? "end" : "middle";
        draw("text", { x: x(step), y: height - 5, "text-anchor": anchor }, svg).textContent = whole(step);
      }
      if (options.reference !== null && options.reference !== undefined && scale(options.reference) >= low) {
        draw("line", { class: "reference", x1: edge.left, x2: right, y1: y(options.reference), y2: y(options.reference) }, svg);
      }
      const plotted = (value) => value !== null && (!log || value > 0);
      const path = (line, values) => {
        let pen = "M";
        return values.map((value, i) => {
          if (!plotted(value)) { pen = "M"; return ""; }
          const piece = `${pen}${x(line.series.step[i]).toFixed(1)} ${y(value).toFixed(1)}`;
          pen = "L";
          return piece;
        }).join("");
      };
      const clip = (value) => Math.min(10 ** 9, Math.max(-(10 ** 9), value));
      for (const line of visible) {
        const { low: lows, high: highs } = line.series;
        if (lows?.[line.key]) {
          const steps = line.series.step, some = steps.map((_, i) => i).filter((i) => plotted(lows[line.key][i]));
          const along = (values, order) => order.map((i) => `${x(steps[i]).toFixed(1)} ${clip(Math.min(bottom, Math.max(edge.top, y(values[i])))).toFixed(1)}`);
          const outline = [...along(highs[line.key], some), ...along(lows[line.key], some.toReversed())];
          if (outline.length) draw("path", { class: `band ${line.color}`, d: `M${outline.join("L")}Z` }, svg);
        }
      }
      for (const line of visible) if (weight) draw("path", { class: `raw ${line.color}`, d: path(line, line.values) }, svg);
      for (const line of visible) {
        draw("path", { class: `line ${line.color}`, d: path(line, line.smooth) }, svg);
        const alone = line.series.step.length === 1 || options.dots;
        line.smooth.forEach((value, i) => {
          if (alone && plotted(value)) draw("circle", { class: `dot ${line.color}`, cx: x(line.series.step[i]), cy: y(value), r: 3.5 }, svg);
        });
      }
      if (options.best) {
        const at = this.lines[0].series.step.indexOf(options.best.step), value = at < 0 ? null : this.lines[0].values[at];
        if (plotted(value) && this.lines[0].on) {
          draw("circle", { class: "best", cx: x(options.best.step), cy: y(value), r: 7 }, svg);
          const end = x(options.best.step) > right - 50;
          draw("text", { class: "best", x: x(options.best.step) + (end ? -11 : 11), y: y(value) + (y(value) < edge.top + 14 ? 14 : -6), "text-anchor": end ? "end" : "start" }, svg).textContent = options.best.name === this.lines[0].key ? "best" : "";
        }
      }
      this.cross = draw("g", {}, svg);
      this.point();
    }
    // The cross-hair and the numbers beside the names: of the step pointed at, else of the newest.
    point() {
      this.cross.replaceChildren();
      for (const line of this.lines) {
        const known = line.smooth.findLastIndex((value) => value !== null);
        const at = state.step === null ? known : nearest(line.series.step, state.step);
        const value = line.smooth[at] ?? null;
        line.output.value = short(value);
        if (state.step === null || !line.on || value === null || (this.isLog() && value <= 0)) continue;
        draw("circle", { class: `dot ${line.color}`, cx: this.x(line.series.step[at]), cy: this.y(value), r: 4 }, this.cross);
      }
      if (state.step === null) return;
      const x = this.x(state.step);
      this.cross.prepend(draw("line", { class: "cross", x1: x, x2: x, y1: edge.top, y2: this.bottom }, this.cross));
    }
  }

  const series = { ...data.phases };
  const longest = Object.values(series).reduce((best, one) => (one.step.length > (best?.step.length ?? 0) ? one : best), null);
  function pointAt(step) {
    state.step = step === null || !longest ? null : longest.step[nearest(longest.step, step)];
    charts.forEach((chart) => { if (chart.cross) chart.point(); });
    describe();
  }
  function describe() {
    const newest = longest ? longest.step.length - 1 : -1;
    const at = state.step === null ? newest : nearest(longest.step, state.step);
    $("at").value = at < 0 ? "" : `${state.step === null ? "newest: " : ""}step ${whole(longest.step[at])}, epoch ${longest.epoch[at] ?? "–"}`;
  }
  for (const { title, note, lines, ...options } of data.charts) {
    const known = lines.map((line) => ({ label: line.label, key: line.key, series: series[line.phase] }));
    new Chart($("charts"), title, note, known, { ...options, mayLog: !options.reach.length });
  }
  for (const key of Object.keys(data.scores.mean)) {
    const better = { true: "Higher is better.", false: "Lower is better." }[data.scores.higher[key]] ?? "";
    const judged = data.scores.best?.name === key ? `${better} The best is chosen by this score.` : better;
    new Chart($("scores"), key, judged, [{ label: "mean", key, series: data.scores }], { dots: true, best: data.scores.best });
  }
  $("curves").hidden = false;
  $("validation").hidden = !data.scores.step.length;
  $("smoothing").addEventListener("input", (event) => {
    state.weight = Number(event.target.value);
    $("amount").value = state.weight.toFixed(2);
    charts.forEach((chart) => chart.render());
  });
  $("log").addEventListener("change", (event) => {
    state.log = event.target.checked;
    charts.forEach((chart) => chart.render());
  });
  describe();

  // Previews: only the one shown is decoded.
  const slider = $("epoch"), picture = $("preview");
  function preview(number) {
    const { epoch, width, height } = data.previews[number];
    slider.value = number;
    slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
    $("which").value = `epoch ${epoch}`;
    Object.assign(picture, { width, height, alt: `Preview of epoch ${epoch}` });
    const held = $(`preview-${number}`);
    if (held) picture.src = JSON.parse(held.textContent);
    else if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => preview(Number(slider.value)), { once: true });
    $("earlier").disabled = number === 0;
    $("later").disabled = number === data.previews.length - 1;
  }
  $("viewer").hidden = !data.previews.length;
  if (data.previews.length) {
    slider.max = data.previews.length - 1;
    slider.addEventListener("input", () => preview(Number(slider.value)));
    $("earlier").addEventListener("click", () => preview(Number(slider.value) - 1));
    $("later").addEventListener("click", () => preview(Number(slider.value) + 1));
    preview(data.previews.length - 1);
  }
})();
