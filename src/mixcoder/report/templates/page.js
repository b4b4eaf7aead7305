"use strict";
(() => {
  // What does not depend on the window and on the runs shown is computed in chart_data.py, for plots as well.
  const { runs, points, costs, margins, places, effects, search } = JSON.parse(document.getElementById("data").textContent);
  const LABELS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#d4b13c", "#b07aa1", "#ff9da7", "#9c755f", "#8a8a8a"];
  const POINT = 4 / 3; // pixels
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  const visible = new Set(runs.keys());
  let pinned = null;
  let cost = Object.keys(costs)[0];

  // ---------------------------------------------------------------- small helpers

  function svg(tag, attributes = {}, text = null) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    return node;
  }
  function html(tag, className = "", text = "") {
    const node = document.createElement(tag);
    node.className = className;
    node.textContent = text;
    return node;
  }
  function short(number) {
    for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (number >= size) return `${+(number / size).toPrecision(3)}${unit}`;
    return `${+number.toPrecision(3)}`;
  }
  const plain = (number) => `${+number.toPrecision(3)}`;
  const loss = (number) => (number === null ? "no loss" : number.toPrecision(4));
  // The least and the largest of values, which may be too many for the arguments of one call.
  function extent(values) {
    return values.length ? values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]) : [1, 2];
  }
  // A scale from [low, high] to [from, to]; `warp` is Math.log for a logarithmic one. Equal values are in the middle.
  function scale([low, high], from, to, warp = (x) => x) {
    const start = warp(low), span = warp(high) - start;
    return (value) => from + (span ? (warp(value) - start) / span : 0.5) * (to - from);
  }
  const labelColour = (name) => LABELS[((name % LABELS.length) + LABELS.length) % LABELS.length];
  function logTicks([low, high]) {
    const steps = high / low > 30 ? [1] : high / low > 6 ? [1, 2, 5] : high / low > 2 ? [1, 1.5, 2, 3, 4, 5, 7] : null;
    if (!steps) return evenTicks([low, high], 4);
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const step of steps) {
        const tick = step * 10 ** power;
        if (tick >= low && tick <= high) ticks.push(tick);
      }
    return ticks.length > 1 ? ticks : evenTicks([low, high], 4);
  }
  function evenTicks([low, high], count) {
    const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
    const ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(tick);
    return ticks;
  }
  // Moves positions apart to at least `gap`, where there is room, in their order, within [top, bottom], and no
  // further: blocks of neighbours that are too close settle around their mean. As `spread` of chart_data.py.
  function spread(positions, least, top, bottom) {
    const gap = Math.min(least, (bottom - top) / Math.max(1, positions.length - 1));
    const order = positions.map((_, i) => i).sort((a, b) => positions[a] - positions[b]);
    const blocks = [];
    order.forEach((i, rank) => {
      let block = { sum: positions[i] - rank * gap, members: [i] };
      while (blocks.length) {
        const before = blocks[blocks.length - 1];
        if (before.sum / before.members.length <= block.sum / block.members.length) break;
        blocks.pop();
        block = { sum: before.sum + block.sum, members: [...before.members, ...block.members] };
      }
      blocks.push(block);
    });
    const placed = [];
    let rank = 0;
    for (const { sum, members } of blocks)
      for (const i of members)
        placed[i] = Math.min(Math.max(sum / members.length, top), bottom - (positions.length - 1) * gap) + rank++ * gap;
    return placed;
  }

  // ---------------------------------------------------------------- one run, found everywhere

  function focus(run) {
    for (const node of all("[data-run]")) {
      if (node.tagName === "DETAILS") continue;
      const isIt = Number(node.dataset.run) === run;
      node.classList.toggle("lit", run !== null && isIt);
      node.classList.toggle("dim", run !== null && !isIt);
    }
  }
  const hold = () => focus(pinned);
  function pin(run) {
    pinned = pinned === run ? null : run;
    focus(pinned);
    if (pinned !== null && runs[pinned].latents) chooseLatents(pinned);
  }
  document.addEventListener("pointerover", (event) => {
    const node = event.target.closest("[data-run]");
    if (node && node.tagName !== "DETAILS") focus(Number(node.dataset.run));
    else if (!event.target.closest(".chart")) hold();
  });
  document.addEventListener("click", (event) => {
    const node = event.target.closest("[data-run]");
    if (node && node.tagName !== "DETAILS" && !node.closest("details")) pin(Number(node.dataset.run));
  });

  const tip = byId("tip");
  function showTip(event, title, text) {
    tip.replaceChildren(html("b", "", title), document.createTextNode(text));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = event.clientX + 16 + width > innerWidth ? event.clientX - width - 16 : event.clientX + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, event.clientY - height - 12)}px`;
  }
  const hideTip = () => { tip.hidden = true; };

  // ---------------------------------------------------------------- table

  const body = byId("table").tBodies[0];
  const rows = [...body.rows];

  function sortBy(column, button) {
    const heading = button.parentElement;
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of all("th", byId("table"))) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.sort;
    const numeric = rows.every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
    const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
    rows.sort((a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      return compare(key(a), key(b)) * (descending ? -1 : 1);
    });
    body.append(...rows);
  }
  for (const button of all("th button")) button.addEventListener("click", () => sortBy(Number(button.dataset.column), button));

  function filterRows() {
    const words = byId("filter").value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    visible.clear();
    for (const row of rows) {
      const run = Number(row.dataset.run);
      const text = `${runs[run].name} ${row.textContent}`.toLowerCase();
      const parts = text.split(/[\s,]+/);
      const fits = words.every((word) => (word.includes("=") ? parts.includes(word) || text.includes(`${word},`) : text.includes(word)));
      row.hidden = !fits;
      if (fits) visible.add(run);
    }
    for (const strip of all(".strip[data-run]")) strip.hidden = !visible.has(Number(strip.dataset.run));
    byId("shown").textContent = words.length ? `${visible.size} of ${runs.length} runs` : "";
    draw();
  }
  byId("filter").addEventListener("input", filterRows);

  function drawBars() {
    const losses = runs.map((run) => run.loss).filter((value) => value !== null);
    const [low, high] = extent(losses);
    for (const row of rows) {
      const value = runs[Number(row.dataset.run)].loss;
      const share = value ? 0.12 + 0.88 * (high > low ? Math.log(value / low) / Math.log(high / low) : 1) : 0;
      row.style.setProperty("--share", share.toFixed(3));
    }
  }

  // ---------------------------------------------------------------- curves

  function drawCurves() {
    const shown = runs.map((run, id) => ({ run, id })).filter(({ id, run }) => visible.has(id) && run.validation.length + run.training.length);
    const losses = extent(shown.flatMap(({ run }) => run.limits));
    const inputs = [0, Math.max(1, extent(shown.flatMap(({ run }) => [...run.training, ...run.validation].map(([x]) => x)))[1])];
    drawPanel(byId("training"), "training", shown, inputs, losses);
    drawPanel(byId("validation"), "validation", shown, inputs, losses);
  }
  function drawPanel(host, kind, shown, inputs, losses) {
    const width = host.clientWidth, height = Math.max(320, Math.min(560, 13 * shown.length + 60));
    const labelled = kind === "validation" && width > 420;
    const box = { left: 48, right: width - (labelled ? Math.min(260, width * 0.36) : 10), top: 8, bottom: height - 26 };
    const x = scale(inputs, box.left, box.right), y = scale(losses, box.bottom, box.top, Math.log);
    const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${kind} loss of ${shown.length} runs over inputs` });
    const clip = svg("clipPath", { id: `clip-${kind}` });
    clip.append(svg("rect", { x: box.left, y: box.top, width: Math.max(0, box.right - box.left), height: box.bottom - box.top }));
    chart.append(clip);
    drawAxes(chart, box, x, y, evenTicks(inputs, Math.max(2, (box.right - box.left) / 90)), logTicks(losses), short);
    const lines = svg("g", { "clip-path": `url(#clip-${kind})` });
    for (const { run, id } of shown) {
      const path = run[kind].map(([seen, value], i) => `${i ? "L" : "M"}${x(seen).toFixed(1)} ${y(value).toFixed(1)}`).join("");
      lines.append(svg("path", { class: "curve", d: path, stroke: run.colour, "data-run": id }));
    }
    chart.append(lines);
    if (labelled) drawLabels(chart, shown, kind, box, x, y);
    host.replaceChildren(chart);
    hoverCurves(host, chart, shown, kind, box, x, y);
  }
  function drawAxes(chart, box, x, y, xTicks, yTicks, format) {
    for (const tick of yTicks) {
      chart.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
      chart.append(svg("text", { x: box.left - 6, y: y(tick) + 4, "text-anchor": "end" }, plain(tick)));
    }
    for (const tick of xTicks) {
      chart.append(svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: box.bottom, y2: box.bottom + 4 }));
      chart.append(svg("text", { x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, format(tick)));
    }
    chart.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  }
  function drawLabels(chart, shown, kind, box, x, y) {
    const ended = shown.filter(({ run }) => run[kind].length);
    const last = ended.map(({ run }) => run[kind][run[kind].length - 1]);
    const heights = last.map(([, value]) => Math.min(box.bottom, Math.max(box.top, y(value))));
    const places = spread(heights, 15, box.top + 4, box.bottom);
    ended.forEach(({ run, id }, i) => {
      const end = x(last[i][0]);
      chart.append(svg("path", { class: "leader", d: `M${end + 3} ${heights[i]}L${box.right + 16} ${places[i]}` }));
      const label = svg("text", { class: "label", x: box.right + 20, y: places[i] + 4, "data-run": id });
      label.append(svg("tspan", { fill: run.colour }, "● "), document.createTextNode(`${loss(last[i][1])}  ${run.short}`));
      chart.append(label);
    });
  }
  function hoverCurves(host, chart, shown, kind, box, x, y) {
    const dot = svg("circle", { r: 4.5, visibility: "hidden" });
    chart.append(dot);
    host.onpointermove = (event) => {
      const { left, top } = host.getBoundingClientRect();
      const [px, py] = [event.clientX - left, event.clientY - top];
      if (px > box.right + 8) return; // the labels speak for themselves
      let best = null;
      for (const { run, id } of shown)
        for (const [seen, value] of run[kind]) {
          const distance = Math.hypot(x(seen) - px, y(value) - py);
          if (!best || distance < best.distance) best = { distance, run, id, seen, value };
        }
      if (!best || best.distance > 60) { dot.setAttribute("visibility", "hidden"); hideTip(); hold(); return; }
      focus(best.id);
      for (const [key, value] of Object.entries({ cx: x(best.seen), cy: y(best.value), fill: best.run.colour, visibility: "visible" })) dot.setAttribute(key, value);
      showTip(event, best.run.name, `${kind} loss ${loss(best.value)} after ${best.seen.toLocaleString("en")} inputs`);
    };
    host.onpointerleave = () => { dot.setAttribute("visibility", "hidden"); hideTip(); hold(); };
  }

  // ---------------------------------------------------------------- cost

  // Of points in Pareto order, those with a lower loss than all before them.
  function frontier(ranked) {
    const front = [];
    for (const point of ranked) if (!front.length || point.loss < front[front.length - 1].loss) front.push(point);
    return front;
  }
  // A mark is of one run, of several, or of a published network, which is always shown.
  const isShown = ({ runs: its }) => !its.length || its.some((id) => visible.has(id));
  function drawPareto() {
    const host = byId("pareto"), shown = costs[cost].order.filter((i) => isShown(points[i]));
    if (!shown.some((i) => points[i].runs.length)) { host.replaceChildren(html("p", "muted", "no finished run to show")); return; }
    const ranked = shown.map((i) => ({ ...points[i], place: i, cost: points[i].costs[cost], isPublished: !points[i].runs.length }));
    const front = frontier(ranked), dots = ranked.sort((a, b) => a.place - b.place);
    const width = host.clientWidth, height = 380;
    const box = { left: 48, right: width - 20, top: 12, bottom: height - 40 };
    const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `validation loss against ${cost}` });
    placeDots(chart, dots, box);
    const path = front.map(({ cx, cy }, i) => (i ? `H${cx}V${cy}` : `M${cx} ${cy}`)).join("");
    chart.append(svg("path", { class: "frontier", d: path }));
    for (const dot of dots) drawDot(chart, dot, front.includes(dot));
    const taken = dots.map(({ cx, cy }) => ({ left: cx - 5, top: cy - 5, wide: 10, high: 10 }));
    for (const dot of new Set([...front, ...dots.filter((dot) => dot.named)])) label(chart, dot, dots, box, taken);
    host.replaceChildren(chart);
  }
  // Draws the axes, and gives each dot its place on them in pixels.
  function placeDots(chart, dots, box) {
    const pad = ([low, high], margin) => { const by = Math.max(1.02, (high / low) ** margin); return [low / by, high * by]; };
    const range = pad(extent(dots.map((dot) => dot.cost)), margins[0]), losses = pad(extent(dots.map((dot) => dot.loss)), margins[1]);
    const x = scale(range, box.left, box.right, Math.log), y = scale(losses, box.bottom, box.top, Math.log);
    const most = (box.right + 20) / 70;
    const ticks = logTicks(range).filter((tick, i, list) => list.length <= most || i % 2 === 0);
    drawAxes(chart, box, x, y, ticks, logTicks(losses), short);
    chart.append(svg("text", { x: box.right, y: box.bottom + 34, "text-anchor": "end" }, costs[cost].axis));
    for (const dot of dots) {
      const { std } = dot, bar = std === null ? null : [Math.max(dot.loss - std, losses[0]), Math.min(dot.loss + std, losses[1])];
      Object.assign(dot, { cx: x(dot.cost), cy: y(dot.loss), bar: bar && bar.map(y) });
    }
  }
  // What ties a mark to its run, where that is one.
  const tie = ({ runs: its }) => (its.length === 1 ? { "data-run": its[0] } : {});
  function drawDot(chart, dot, isFront) {
    const { name, colour, cx, cy, std, bar, isPublished } = dot, r = isFront ? 7 : 5;
    if (bar) chart.append(svg("path", { class: "deviation", d: `M${cx} ${bar[0]}V${bar[1]}`, stroke: colour }));
    const node = isPublished
      ? svg("path", { class: "published", d: `M${cx - r} ${cy}L${cx} ${cy - r}L${cx + r} ${cy}L${cx} ${cy + r}Z`, fill: colour })
      : svg("circle", { cx, cy, r, fill: colour, ...tie(dot) });
    const spread = std === null ? "" : ` ± ${plain(std)}`;
    const text = `validation loss ${loss(dot.loss)}${spread} with ${short(dot.cost)} ${costs[cost].axis}`;
    const title = isPublished ? `the article's ${name}` : dot.runs.length === 1 ? runs[dot.runs[0]].name : name;
    node.addEventListener("pointermove", (event) => showTip(event, title, text));
    node.addEventListener("pointerleave", hideTip);
    chart.append(node);
  }
  // Pixels from a dot to the nearest point of a name's box.
  function distance({ cx, cy }, { left, top, wide, high }) {
    return Math.hypot(Math.max(left - cx, 0, cx - left - wide), Math.max(top - cy, 0, cy - top - high));
  }
  // Writes a dot's name beside it, where the name covers neither a dot nor another name, and is nearest to its own dot.
  function label(chart, dot, dots, box, taken) {
    const { name, cx, cy } = dot, wide = name.length * 6.4 + 4;
    for (const [right, up] of places) {
      const anchor = right > 0 ? "start" : "end", dx = POINT * right, dy = 4 - POINT * up;
      const left = anchor === "start" ? cx + dx : cx + dx - wide, top = cy + dy - 11;
      const hits = taken.some((other) => other.top < top + 14 && top < other.top + other.high && left < other.left + other.wide && other.left < left + wide);
      if (hits || left < box.left || left + wide > box.right + 16) continue;
      const place = { left, top, wide, high: 14 }, own = distance(dot, place);
      if (dots.some((other) => distance(other, place) < own)) continue;
      taken.push(place);
      chart.append(svg("text", { class: "label", x: cx + dx, y: cy + dy, "text-anchor": anchor, ...tie(dot) }, name));
      return;
    }
  }
  for (const button of all("#costs button"))
    button.addEventListener("click", () => {
      cost = button.dataset.cost;
      for (const other of all("#costs button")) other.setAttribute("aria-pressed", String(other === button));
      drawPareto();
      hold();
    });

  // ---------------------------------------------------------------- search

  function drawSearch() {
    if (!search) return;
    const shown = search.points.filter(({ run }) => visible.has(run));
    byId("rungs").replaceChildren(...search.rungs.map(({ name, colour }) => {
      const entry = html("span"), dot = html("i", "dot");
      dot.style.background = colour;
      entry.append(dot, name);
      return entry;
    }));
    const figures = search.axes.map(({ title }) => {
      const figure = html("figure");
      figure.append(html("figcaption", "", title), html("div", "chart"));
      return figure;
    });
    byId("values").replaceChildren(...figures);
    if (shown.length) search.axes.forEach((axis, i) => drawValue(figures[i].lastChild, axis, i, shown));
  }
  function drawValue(host, axis, index, shown) {
    const width = host.clientWidth, height = 240, losses = extent(shown.map((point) => point.loss));
    const box = { left: 48, right: width - 12, top: 10, bottom: height - 26 };
    const ends = axis.options ? [-0.5, axis.options.length - 0.5] : axis.range;
    const x = scale(ends, box.left + 6, box.right - 6, axis.log ? Math.log : undefined), y = scale(losses, box.bottom - 6, box.top, Math.log);
    const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `loss against ${axis.title}` });
    const ticks = axis.options ? axis.options.map((_, i) => i) : axis.log ? logTicks(ends) : evenTicks(ends, 4);
    drawAxes(chart, box, x, y, ticks, logTicks(losses), (tick) => (axis.options ? axis.options[tick] : plain(tick)));
    const middle = (search.rungs.length - 1) / 2;
    for (const point of shown) chart.append(drawTraining(point, x(point.at[index]) + (axis.options ? 9 * (point.rung - middle) : 0), y(point.loss)));
    host.replaceChildren(chart);
  }
  function drawTraining({ run, rung, loss: reached }, cx, cy) {
    const { name, colour } = search.rungs[rung], isFinal = rung === search.rungs.length - 1;
    const node = isFinal ? svg("rect", { class: "final", x: cx - 5, y: cy - 5, width: 10, height: 10 }) : svg("circle", { cx, cy, r: 5 });
    node.setAttribute("fill", colour);
    node.dataset.run = run;
    node.addEventListener("pointermove", (event) => showTip(event, runs[run].name, `loss ${loss(reached)}, ${name}`));
    node.addEventListener("pointerleave", hideTip);
    return node;
  }

  // ---------------------------------------------------------------- latent space

  const chooser = byId("latent-run");
  function chooseLatents(run) {
    if (!chooser) return;
    chooser.value = String(run);
    drawLatents();
  }
  function fillChooser() {
    const seen = runs.map((run, id) => ({ run, id })).filter(({ run }) => run.latents).sort((a, b) => a.run.loss - b.run.loss);
    for (const { run, id } of seen) {
      const option = html("option", "", `${run.name} (${loss(run.loss)})`);
      option.value = String(id);
      chooser.append(option);
    }
    chooser.addEventListener("change", drawLatents);
  }
  function drawLatents() {
    const run = runs[Number(chooser.value)], found = run.latents, host = byId("pca");
    const size = Math.min(host.clientWidth, 560);
    const x = scale(extent(found.points.map(([first]) => first)), 10, size - 10), y = scale(extent(found.points.map(([, second]) => second)), size * 0.8 - 10, 10);
    const chart = svg("svg", { viewBox: `0 0 ${size} ${size * 0.8}`, height: size * 0.8, role: "img", "aria-label": "codes of validation images, projected to two dimensions" });
    found.points.forEach((point, i) => {
      const name = found.labels ? found.labels[i] : null;
      const dot = svg("circle", { cx: x(point[0]), cy: y(point[1]), r: 4, fill: name === null ? run.colour : labelColour(name), "fill-opacity": 0.8 });
      dot.style.strokeWidth = 0.5;
      if (name !== null) dot.addEventListener("pointermove", (event) => showTip(event, `label ${name}`, `validation image ${i}`));
      dot.addEventListener("pointerleave", hideTip);
      chart.append(dot);
    });
    host.replaceChildren(chart);
    const share = found.explained.reduce((sum, part) => sum + part, 0);
    byId("pca-caption").textContent = !found.explained.length ? `the codes of all ${found.points.length} validation images are equal` :
      `${found.points.length} validation images on the two main axes of the code (${(100 * share).toFixed(0)} % of its variance)`;
    byId("classes").replaceChildren(...[...new Set(found.labels || [])].sort((a, b) => a - b).map((name) => {
      const entry = html("span"), dot = html("i", "dot");
      dot.style.background = labelColour(name);
      entry.append(dot, String(name));
      return entry;
    }));
    for (const id of ["interpolation", "samples"]) {
      byId(id).src = found[id] || "data:,";
      byId(id).closest("figure").hidden = !found[id];
    }
    byId("probe").textContent = found.accuracy === null ? "" :
      `The five nearest of ${found.codes.toLocaleString("en")} training codes (${found.dimensions} numbers each) tell the label of ${(100 * found.accuracy).toFixed(1)} % of the validation images.`;
  }

  // ---------------------------------------------------------------- effects

  function drawEffects() {
    const host = byId("effects"), done = runs.filter((run) => run.loss).map((run) => run.loss);
    if (!effects.length || done.length < 2) {
      host.replaceChildren(html("p", "muted", effects.length ? "Fewer than two runs are done." : "There is one run."));
      return;
    }
    const [low, high] = extent(done), pad = (high / low) ** 0.04;
    const x = scale([low / pad, high * pad], 0, 100, Math.log);
    host.replaceChildren(...effects.map(({ axis, values }) => {
      const block = html("div", "effect");
      block.append(html("h3", "", axis));
      for (const { value, runs: ids } of values) {
        const track = html("div", "track");
        const found = ids.filter((id) => runs[id].loss);
        for (const id of found) {
          const dot = html("i");
          dot.dataset.run = id;
          dot.style.left = `${x(runs[id].loss)}%`;
          dot.style.setProperty("--run", runs[id].colour);
          dot.addEventListener("pointermove", (event) => showTip(event, runs[id].name, `validation loss ${loss(runs[id].loss)}`));
          dot.addEventListener("pointerleave", hideTip);
          track.append(dot);
        }
        if (found.length > 1) {
          const middle = html("b"), mean = found.reduce((sum, id) => sum + runs[id].loss, 0) / found.length;
          middle.style.left = `${x(mean)}%`;
          middle.title = `mean ${loss(mean)}`;
          track.append(middle);
        }
        block.append(html("div", "value", value), track);
      }
      const ruler = html("div", "scale");
      const room = Math.max(1, Math.floor((host.clientWidth * 0.6) / 70));
      const ticks = logTicks([low, high]), every = Math.ceil(ticks.length / room);
      for (const tick of ticks.filter((_, i) => i % every === 0)) {
        const mark = html("span", "", plain(tick));
        mark.style.left = `${x(tick)}%`;
        ruler.append(mark);
      }
      block.append(ruler);
      return block;
    }));
  }

  // ---------------------------------------------------------------- all together

  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
  });
  function draw() {
    drawCurves();
    drawPareto();
    drawSearch();
    drawEffects();
    if (chooser && chooser.options.length) drawLatents();
    hold();
  }
  if (chooser) fillChooser();
  drawBars();
  draw();
  let lastWidth = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== lastWidth) { lastWidth = innerWidth; draw(); } });
})();
