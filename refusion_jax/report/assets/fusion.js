// The page of fused pairs: which pair is shown, which two of its pictures, the wipe line, zoom, list and keys.
"use strict";
(() => {
  const { sources, pairs } = JSON.parse($("index").textContent);
  const names = { a: sources[0], b: sources[1], fused: "fused", w: "map w", v: "map v" };
  const comparisons = [["a", "fused"], ["b", "fused"], ["a", "b"], ["w", "fused"], ["v", "fused"]];
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

  // The pairs. Their pictures lie in the page as text; only those near the one shown are read and decoded.
  const entries = new Map();
  const arrived = (id) => new Promise((resolve, reject) => {
    const look = () => {
      const element = $(id);
      // While the page is still being read, an element may be there in part; the one after it shows that it is whole.
      if (element && (element.nextElementSibling || document.readyState !== "loading")) resolve(element);
      else if (document.readyState !== "loading") reject(new Error("this pair is missing: the page was cut off"));
      else setTimeout(look, 60);
    };
    look();
  });
  function entry(number) {
    if (!entries.has(number)) {
      const read = arrived(`pair-${number}`).then(async (element) => {
        const images = {};
        await Promise.all(Object.entries(JSON.parse(element.textContent)).map(async ([key, uri]) => {
          images[key] = make("img", { src: uri, alt: `${names[key]} of ${pairs[number].name}`, draggable: false });
          await images[key].decode();
        }));
        return images;
      });
      entries.set(number, read);
      read.catch(() => entries.delete(number));
    }
    return entries.get(number);
  }
  const forgetFar = () => entries.forEach((_, n) => { if (Math.abs(n - shown) > 1) entries.delete(n); });

  // The wipe line: the share of the frame that shows the left picture.
  const frame = $("frame"), line = $("wipe");
  let wipe = 50, chosen = comparisons[0];
  function setWipe(percent) {
    wipe = clamp(percent, 0, 100);
    frame.style.setProperty("--wipe", `${wipe}%`);
    const share = Math.round(wipe);
    line.setAttribute("aria-valuenow", share);
    line.setAttribute("aria-valuetext", `${share} % ${names[chosen[0]]}, ${100 - share} % ${names[chosen[1]]}`);
  }

  // Zoom: both pictures share one transform. x, y are the picture's offset in frame sizes, so they survive resizing.
  const view = { zoom: 1, x: 0, y: 0 };
  const perPixel = () => (shown < 0 ? 1 : frame.clientWidth / pairs[shown].width); // screen pixels at zoom 1
  const largest = () => Math.max(8, 16 / perPixel());
  function setView(zoom, x, y) {
    view.zoom = clamp(zoom, 1, largest());
    view.x = clamp(x, 1 - view.zoom, 0);
    view.y = clamp(y, 1 - view.zoom, 0);
    frame.style.setProperty("--zoom", view.zoom);
    frame.style.setProperty("--x", `${100 * view.x}%`);
    frame.style.setProperty("--y", `${100 * view.y}%`);
    frame.classList.toggle("zoomed", view.zoom > 1);
    describeScale();
  }
  function describeScale() {
    const scale = view.zoom * perPixel();
    frame.classList.toggle("pixels", scale * devicePixelRatio >= 3);
    $("scale").value = `${Math.round(100 * scale)} %`;
    $("out").disabled = $("fit").disabled = view.zoom <= 1;
    $("in").disabled = view.zoom >= largest();
    $("actual").disabled = 1 / perPixel() < 1 || Math.abs(scale - 1) < 0.002;
  }
  // Zooms so that the point (px, py), in frame sizes, stays where it is.
  function zoomAt(zoom, px = 0.5, py = 0.5) {
    const next = clamp(zoom, 1, largest()), factor = next / view.zoom;
    setView(next, px - (px - view.x) * factor, py - (py - view.y) * factor);
  }
  const inFrame = (event) => {
    const box = frame.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };

  // One pointer moves the line (or a zoomed picture), two pinch.
  const pointers = new Map();
  let dragsLine = false, grip = 0;
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    const point = inFrame(event);
    pointers.set(event.pointerId, point);
    frame.setPointerCapture(event.pointerId);
    if (pointers.size > 1) { dragsLine = false; return; }
    const onLine = line.contains(event.target);
    dragsLine = onLine || view.zoom === 1;
    grip = onLine ? wipe - 100 * point.x : 0; // the line does not jump when it is taken beside its middle
    if (dragsLine) { setWipe(100 * point.x + grip); line.focus({ preventScroll: true, focusVisible: false }); }
    else { frame.classList.add("moving"); frame.focus({ preventScroll: true, focusVisible: false }); }
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = inFrame(event);
    if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      const box = frame.getBoundingClientRect();
      const apart = (p) => Math.hypot((p.x - other.x) * box.width, (p.y - other.y) * box.height);
      const middle = (p) => ({ x: (p.x + other.x) / 2, y: (p.y + other.y) / 2 });
      const from = middle(before), to = middle(now);
      zoomAt((view.zoom * apart(now)) / Math.max(apart(before), 1), from.x, from.y);
      setView(view.zoom, view.x + to.x - from.x, view.y + to.y - from.y);
    } else if (dragsLine) setWipe(100 * now.x + grip);
    else if (pointers.size === 1) setView(view.zoom, view.x + now.x - before.x, view.y + now.y - before.y);
    pointers.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    frame.addEventListener(kind, (event) => {
      pointers.delete(event.pointerId);
      if (!pointers.size) { dragsLine = false; frame.classList.remove("moving"); }
    });
  }
  frame.addEventListener("wheel", (event) => {
    const unit = [1, 18, 400][event.deltaMode];
    const zoom = view.zoom * Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0018));
    if (zoom <= 1 && view.zoom === 1 && !event.ctrlKey) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    const point = inFrame(event);
    zoomAt(zoom, point.x, point.y);
  }, { passive: false });
  frame.addEventListener("dblclick", (event) => {
    const point = inFrame(event);
    if (!line.contains(event.target)) zoomAt(view.zoom > 1 ? 1 : 3, point.x, point.y);
  });
  line.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const to = {
      ArrowLeft: wipe - step, ArrowDown: wipe - step, ArrowRight: wipe + step, ArrowUp: wipe + step,
      PageDown: wipe - 10, PageUp: wipe + 10, Home: 0, End: 100,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    setWipe(to);
  });
  frame.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.target !== frame || !move || view.zoom === 1 || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    setView(view.zoom, view.x + 0.1 * move[0], view.y + 0.1 * move[1]);
  });
  $("in").addEventListener("click", () => zoomAt(view.zoom * 1.5));
  $("out").addEventListener("click", () => zoomAt(view.zoom / 1.5));
  $("fit").addEventListener("click", () => setView(1, 0, 0));
  $("actual").addEventListener("click", () => zoomAt(1 / perPixel()));
  new ResizeObserver(describeScale).observe(frame);

  // What is compared.
  function offer(keys) {
    const offered = comparisons.filter((both) => both.every((key) => keys.includes(key)));
    if (!offered.includes(chosen)) chosen = offered[0];
    const radios = offered.map((both) => {
      const radio = make("input", { type: "radio", name: "compare", value: both.join("-"), checked: both === chosen });
      radio.addEventListener("change", () => { chosen = both; layers(displayed); });
      return make("label", {}, radio, names[both[0]], make("i", { textContent: "|" }), names[both[1]]);
    });
    // The same choices stay as they are, so that the keyboard does not lose its place.
    const present = [...$("compare").querySelectorAll("input")].map((radio) => radio.value).join();
    if (present !== offered.map((both) => both.join("-")).join()) $("compare").replaceChildren(...radios);
    $("compare").querySelectorAll("input").forEach((radio) => { radio.checked = radio.value === chosen.join("-"); });
  }
  let displayed = null; // the pictures of the pair shown, once they are there
  function layers(images) {
    displayed = images;
    frame.classList.toggle("loading", !images);
    [["left", chosen[0]], ["right", chosen[1]]].forEach(([side, key]) => {
      const [picture, tag] = $(side).children;
      if (images) picture.replaceWith(images[key].cloneNode());
      tag.textContent = names[key];
    });
    setWipe(wipe);
  }

  // Showing a pair.
  let shown = -1;
  async function show(number, { scroll = true } = {}) {
    if (number === shown || !pairs[number]) return;
    shown = number;
    const pair = pairs[number];
    const aspect = pair.width / pair.height;
    $("name").textContent = pair.name;
    $("place").textContent = `${number + 1} / ${pairs.length}`;
    for (const element of [frame, $("strip")]) element.style.setProperty("--aspect", aspect);
    setView(1, 0, 0);
    // All but the pictures is there at once, with room for them, so that nothing moves when they arrive.
    offer(pair.layers);
    layers(null);
    $("strip").style.setProperty("--pictures", pair.layers.length);
    $("strip").replaceChildren(...pair.layers.map((key) =>
      make("figure", {}, make("img", { alt: "" }), make("figcaption", { textContent: names[key] }))));
    $("legend").hidden = !pair.layers.includes("w") && !pair.layers.includes("v");
    $("facts").replaceChildren(...pair.facts.map(([key, value]) =>
      make("tr", {}, make("th", { scope: "row", textContent: key }), make("td", { textContent: value }))));
    markInList(scroll);
    steps();
    try { history.replaceState(null, "", `#${number + 1}`); } catch { /* some viewers forbid it */ }
    try {
      const images = await entry(number);
      if (number !== shown) return; // another was asked for meanwhile
      $("problem").hidden = true;
      layers(images);
      pair.layers.forEach((key, i) => $("strip").children[i].firstChild.replaceWith(images[key].cloneNode()));
      frame.dataset.pair = number;
      forgetFar();
      if (pairs[number + 1]) entry(number + 1).catch(() => {});
    } catch (error) {
      if (number !== shown) return;
      $("problem").textContent = `${pair.name} cannot be shown: ${error.message}`;
      $("problem").hidden = false;
    }
  }

  // The list, its filter, the way from one pair to the next among those that the filter lets through.
  const rows = pairs.map((pair, number) => {
    const picture = make("img", { src: pair.thumbnail, alt: "", loading: "lazy", decoding: "async" });
    const button = make("button", { type: "button", title: pair.name }, picture, make("span", { textContent: pair.name }));
    button.addEventListener("click", () => { show(number, { scroll: false }); openList(false); });
    return make("li", {}, button);
  });
  $("list").replaceChildren(...rows);
  const listed = () => pairs.map((_, number) => number).filter((number) => !rows[number].hidden);
  function markInList(scroll) {
    $("list").querySelectorAll("[aria-current]").forEach((button) => button.removeAttribute("aria-current"));
    rows[shown].firstChild.setAttribute("aria-current", "true");
    if (scroll) {
      const list = $("list"), row = rows[shown];
      const top = row.offsetTop - list.offsetTop, bottom = top + row.offsetHeight;
      if (top < list.scrollTop || bottom > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 2;
    }
  }
  const neighbour = (by) => (by > 0 ? listed().find((n) => n > shown) : listed().findLast((n) => n < shown));
  function steps() {
    $("previous").disabled = neighbour(-1) === undefined;
    $("next").disabled = neighbour(1) === undefined;
  }
  const go = (by) => { const to = neighbour(by); if (to !== undefined) show(to); };
  $("previous").addEventListener("click", () => go(-1));
  $("next").addEventListener("click", () => go(1));
  function filter() {
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    pairs.forEach((pair, number) => {
      const name = pair.name.toLowerCase();
      rows[number].hidden = !words.every((word) => name.includes(word));
    });
    const count = listed().length;
    $("found").textContent = words.length ? `${count} of ${pairs.length} pairs` : `${pairs.length} pairs`;
    steps();
  }
  $("filter").addEventListener("input", filter);
  $("filter").addEventListener("keydown", (event) => {
    const [first] = listed();
    if (event.key === "Enter" && first !== undefined) { show(first); openList(false); }
    if (event.key === "Escape" && $("filter").value) { $("filter").value = ""; filter(); event.stopPropagation(); }
  });
  $("list").addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const at = rows.indexOf(event.target.closest("li"));
    const to = by > 0 ? listed().find((n) => n > at) : listed().findLast((n) => n < at);
    if (to !== undefined) rows[to].firstChild.focus();
  });
  function openList(open) {
    $("pairs").classList.toggle("open", open);
    $("browse").setAttribute("aria-expanded", String(open));
    if (open) $("filter").focus();
  }
  $("browse").addEventListener("click", () => openList(!$("pairs").classList.contains("open")));
  $("close").addEventListener("click", () => { openList(false); $("browse").focus(); });

  // Keys that work anywhere but where text is typed.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape") return openList(false);
    const field = event.target.closest("input");
    if (field && field.type === "search") return;
    const arrows = !field && !event.target.closest("#list"); // a radio button's arrows are its own
    const actions = {
      n: () => go(1), p: () => go(-1), ArrowRight: arrows && (() => go(1)), ArrowLeft: arrows && (() => go(-1)),
      "+": () => zoomAt(view.zoom * 1.5), "=": () => zoomAt(view.zoom * 1.5), "-": () => zoomAt(view.zoom / 1.5),
      0: () => setView(1, 0, 0), 1: () => $("actual").click(), "/": () => { openList(true); $("filter").select(); },
      c: () => {
        const radios = [...$("compare").querySelectorAll("input")];
        radios[(radios.findIndex((radio) => radio.checked) + 1) % radios.length]?.click();
      },
    };
    if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
  });
  addEventListener("hashchange", () => show(Number(location.hash.slice(1)) - 1));

  // The stage has one height for all pairs, that of the middle one, so that nothing moves from pair to pair.
  if (pairs.length) {
    const aspects = pairs.map((pair) => pair.width / pair.height).sort((x, y) => x - y);
    $("stage").style.setProperty("--typical", clamp(aspects[aspects.length >> 1], 0.8, 3));
    filter();
    setWipe(50);
    const asked = Number(location.hash.slice(1)) - 1;
    show(pairs[asked] ? asked : 0);
  } else {
    document.body.classList.add("empty");
    $("found").textContent = "no pairs";
    $("name").textContent = "No pair was added to this report.";
  }
})();
