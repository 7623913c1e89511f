// The interactive picture: reads the data that Python wrote into the page, draws it with plotly.
// Rows are models; `lines` are rows in the order of training with -1 between two runs.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("inpca-data").textContent);
  const find = (id) => document.getElementById("inpca-" + id);
  const look = data.look;
  const webgl = hasWebGL();
  const size = data.n_rows > 2500 ? 2.6 : 3.6;
  const uiFont = { family: "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" };
  const hoverCache = new Map();
  // Below this width the legend goes below the picture and the colour bar above it.
  const NARROW = 700;

  function hasWebGL() {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  }

  // --- words -------------------------------------------------------------------------------

  // plotly reads its texts as a small HTML; names of runs are not.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function shown(value) {
    if (value === null) return "–";
    if (typeof value !== "number") return plain(value);
    if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
    return Number(value.toPrecision(4)).toString();
  }

  function valueOf(column, row) {
    const value = column.values[row];
    return column.kind === "category" ? (value < 0 ? null : column.categories[value]) : value;
  }

  function hover(row) {
    if (row < 0) return "";
    if (!hoverCache.has(row)) {
      const kind = data.kind[row] === 2 ? " (projected)" : "";
      const lines = ["<b>" + plain(data.names[row]) + "</b>" + kind];
      for (const column of data.columns) {
        const value = valueOf(column, row);
        if (value !== null && column.name !== "run") lines.push(plain(column.name) + ": " + shown(value));
      }
      hoverCache.set(row, lines.join("<br>"));
    }
    return hoverCache.get(row);
  }

  // --- the state of the controls -----------------------------------------------------------

  function state() {
    const number = (id) => (find(id).value === "" ? null : Number(find(id).value));
    const column = data.columns[number("color")];
    return {
      column: column === undefined ? null : column,
      log: find("log").checked && column !== undefined && column.kind === "number",
      axes: [number("x"), number("y"), number("z")].filter((k) => k !== null),
      lines: find("lines").checked,
      equal: find("equal").checked,
    };
  }

  // A loop, because Math.min(...values) fails for very many values.
  function extent(values) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return [low, high];
  }

  // --- traces ------------------------------------------------------------------------------

  function trace(now, rows, extra) {
    const pick = (k) => rows.map((row) => (row < 0 ? null : data.points[k][row]));
    const flat = now.axes.length === 2;
    const made = {
      type: flat ? (webgl && data.n_rows > 3000 ? "scattergl" : "scatter") : "scatter3d",
      x: pick(now.axes[0]),
      y: pick(now.axes[1]),
      hoverinfo: "text",
      hovertext: rows.map(hover),
      connectgaps: false,
    };
    if (!flat) made.z = pick(now.axes[2]);
    return Object.assign(made, extra);
  }

  const marker = (now, symbol, color, grow) => ({
    symbol, color, size: size * (grow || 1) * (now.axes.length === 2 ? 2 : 1), opacity: 0.9, line: { width: 0 },
  });

  // Solid everywhere: WebGL breaks dashes into stray pieces where a line turns.
  const line = (color, width) => ({ color, width: width || 1.5 });

  // Lighter, not transparent: WebGL shows transparent lines in the wrong colour.
  function pale(hex) {
    const mixed = [1, 3, 5].map((k) => Math.round(0.5 * parseInt(hex.slice(k, k + 2), 16) + 127));
    return `rgb(${mixed.join()})`;
  }

  // All rows of `lines` that pass, with single gaps.
  function keep(lines, passes) {
    const kept = [];
    for (const row of lines) {
      if (row < 0 ? kept.length && kept[kept.length - 1] >= 0 : passes(row)) kept.push(row);
    }
    return kept;
  }

  function greyLines(now, lines, name) {
    return trace(now, lines, {
      mode: "lines", line: line("#bdbdbd"), hoverinfo: "skip", hovertext: null,
      showlegend: false, name, connectgaps: false,
    });
  }

  function categoryTraces(now) {
    const column = now.column;
    const traces = [];
    if (now.lines && column && !column.follows_runs) traces.push(greyLines(now, data.lines, "runs"));
    const names = column ? column.categories : ["models"];
    for (let code = column ? -1 : 0; code < names.length; code++) {
      const mine = (row) => !column || column.values[row] === code;
      const joined = now.lines && (!column || column.follows_runs);
      const color = code < 0 ? look.no_value : look.colors[code % look.colors.length];
      const symbol = code < 0 ? look.no_value_symbol : look.symbols[code % look.symbols.length];
      const name = code < 0 ? "no value" : plain(names[code]);
      for (const [lines, projected] of [[data.lines, false], [data.projected_lines, true]]) {
        const rows = keep(lines, mine);
        if (!rows.some((row) => row >= 0)) continue;
        traces.push(trace(now, rows, {
          mode: joined || (projected && now.lines) ? "lines+markers" : "markers",
          name: projected ? name + ", projected" : name,
          marker: projected ? projectedMarker(now, color) : marker(now, symbol, color, symbol.endsWith("open") ? 1.25 : 1),
          line: projected ? line("#222222", 2) : line(pale(color)),
        }));
      }
    }
    return traces;
  }

  const projectedMarker = (now, color) =>
    Object.assign(marker(now, look.projected_symbol, color, 1.3), { line: { color: "black", width: 1 }, opacity: 1 });

  function numberTraces(now) {
    const column = now.column;
    const raw = (row) => column.values[row];
    const positive = column.values.filter((v) => v !== null && v > 0);
    const floor = positive.length ? extent(positive)[0] : 1;
    const scaled = (v) => (now.log ? Math.log10(Math.max(v, floor)) : v);
    const known = column.values.filter((v) => v !== null).map(scaled);
    const range = extent(known);
    const below = now.log ? column.values.filter((v) => v !== null && v <= 0).length : 0;
    find("log-note").textContent = below
      ? `${below} models with ${column.name} ≤ 0 have no logarithm; they have the colour of the smallest positive value, ${shown(floor)}.`
      : "";
    const traces = [];
    let bar = true;
    for (const [lines, projected] of [[data.lines, false], [data.projected_lines, true]]) {
      if (!lines.length) continue;
      if (now.lines) {
        const made = greyLines(now, lines, "runs");
        if (projected) made.line = line("#222222", 2);
        traces.push(made);
      }
      const rows = lines.filter((row) => row >= 0 && raw(row) !== null);
      const none = lines.filter((row) => row >= 0 && raw(row) === null);
      if (rows.length) {
        const shape = projected ? projectedMarker(now, null) : marker(now, "circle", null);
        shape.color = rows.map((row) => scaled(raw(row)));
        Object.assign(shape, { colorscale: "Viridis", cmin: range[0], cmax: range[1], showscale: bar });
        if (bar) shape.colorbar = colorBar(now, range);
        bar = false;
        traces.push(trace(now, rows, {
          mode: "markers", name: projected ? "projected (colour by value)" : "models", marker: shape, showlegend: projected,
        }));
      }
      if (none.length) {
        traces.push(trace(now, none, {
          mode: "markers", name: projected ? "projected, no value" : "no value",
          marker: projected ? projectedMarker(now, look.no_value) : marker(now, look.no_value_symbol, look.no_value),
        }));
      }
    }
    return traces;
  }

  function colorBar(now, range) {
    const bar = {
      title: { text: plain(now.column.name) + (now.log ? "<br>(log scale)" : ""), side: "top" },
      thickness: 16, len: 0.55, x: 1.02, xanchor: "left", y: 0, yanchor: "bottom", outlinewidth: 0,
    };
    if (find("scatter").clientWidth < NARROW) {
      bar.title.text = bar.title.text.replace("<br>", " ");
      Object.assign(bar, { orientation: "h", thickness: 12, len: 0.9, x: 0.5, xanchor: "center", y: 1, yanchor: "bottom" });
    }
    if (!now.log) return bar;
    const ticks = [];
    const steps = range[1] - range[0] > 2 ? [1] : [1, 2, 5];
    for (let power = Math.floor(range[0]); power <= range[1]; power++) {
      for (const step of steps) {
        const at = power + Math.log10(step);
        if (at >= range[0] - 1e-9 && at <= range[1] + 1e-9) ticks.push([at, step * 10 ** power]);
      }
    }
    bar.tickvals = ticks.map((tick) => tick[0]);
    bar.ticktext = ticks.map((tick) => (tick[1] < 1e-3 || tick[1] >= 1e5 ? tick[1].toExponential(0) : shown(tick[1])));
    return bar;
  }

  // Reference models too many to be named one by one, under one name.
  function crowdTraces(now) {
    if (!data.crowd.rows.length) return [];
    return [trace(now, data.crowd.rows, {
      mode: "markers", name: plain(data.crowd.name),
      marker: { symbol: data.crowd.symbol, color: "#333", size: 5, line: { color: "#333", width: 1 } },
    })];
  }

  function referenceTraces(now) {
    return crowdTraces(now).concat(data.references.map((reference) => {
      const open = reference.symbol.endsWith("open");
      return trace(now, [reference.row], {
        mode: "markers", name: plain(reference.name), cliponaxis: now.axes.length === 2 ? false : undefined,
        marker: {
          symbol: reference.symbol, color: "black", size: open ? 11 : 8,
          line: { color: "black", width: 3 },
        },
      });
    }));
  }

  const noteLook = (reference) => ({
    text: "<b>" + plain(reference.name) + "</b>", font: { size: 14, color: "black" }, bgcolor: "rgba(255,255,255,0.75)",
    arrowhead: 0, arrowwidth: 1.2, arrowcolor: "black", standoff: 5,
  });

  // In space a crowd of models hides what is behind it; an annotation stays in front, and points
  // outwards along the first axis, where nobody else is.
  function referenceNotes(now) {
    const [low, high] = extent(data.points[now.axes[0]]);
    const outwards = (reference) => Math.sign(data.points[now.axes[0]][reference.row] - (low + high) / 2) || 1;
    return data.references.map((reference) => Object.assign(noteLook(reference), {
      x: data.points[now.axes[0]][reference.row],
      y: data.points[now.axes[1]][reference.row],
      z: data.points[now.axes[2]][reference.row],
      ax: 38 * outwards(reference), ay: reference.key === "@truth" ? 16 : -20,
    }));
  }

  // Where the name of a reference model goes in the flat picture, in pixels from it, near ones first.
  const PLACES = [[0, 24], [0, -24], [70, 0], [-70, 0], [60, 30], [-60, 30], [60, -30], [-60, -30], [0, 55], [0, -55]];

  // Each name where it covers the fewest models and no other name.
  function flatNotes(now, width, height) {
    const [x, y] = now.axes.map((k) => data.points[k]);
    const across = (0.9 * width) / span(now.axes[0]);
    const down = (-0.9 * height) / span(now.axes[1]);
    const taken = [];
    return data.references.map((reference) => {
      const at = [x[reference.row] * across, y[reference.row] * down];
      let [best, least] = [PLACES[0], Infinity];
      for (const place of PLACES) {
        const hides = (px, py) => Math.abs(px - at[0] - place[0]) < 58 && Math.abs(py - at[1] - place[1]) < 13;
        let cost = 1000 * taken.filter(([px, py]) => Math.abs(px - at[0] - place[0]) < 110 && Math.abs(py - at[1] - place[1]) < 24).length;
        for (let row = 0; row < data.n_rows; row++) cost += hides(x[row] * across, y[row] * down) ? 1 : 0;
        if (cost < least) [best, least] = [place, cost];
      }
      taken.push([at[0] + best[0], at[1] + best[1]]);
      return Object.assign(noteLook(reference), { x: x[reference.row], y: y[reference.row], ax: best[0], ay: best[1] });
    });
  }

  function runNames(now) {
    if (!data.projected_labels.length) return [];
    const rows = data.projected_labels.map((label) => label.row);
    return [trace(now, rows, {
      mode: "text", text: data.projected_labels.map((label) => plain(label.name)), textposition: "top center",
      textfont: { size: 12, color: "black" }, hoverinfo: "skip", hovertext: null,
      name: "names of projected runs",
    })];
  }

  // --- layout ------------------------------------------------------------------------------

  function span(k) {
    const [low, high] = extent(data.points[k]);
    return Math.max(high - low, 1e-300);
  }

  // In a narrow window the legend is two columns below the picture, and the box grows by it.
  function legendHeight(traces) {
    const entries = traces.filter((one) => one.showlegend !== false).length;
    return 24 * Math.ceil(entries / 2) + 34;
  }

  // The height follows the width, as what is seen does: nothing is gained by white around it.
  function resize(now, below) {
    const box = find("scatter");
    const narrow = box.clientWidth < NARROW;
    const numeric = now.column !== null && now.column.kind === "number";
    const wide = box.clientWidth - (narrow ? 0 : 190);
    const height = Math.max(320, Math.min((narrow ? 0.8 : 0.74) * wide, 0.82 * window.innerHeight));
    box.style.height = Math.round(height + (narrow ? below + (numeric ? 70 : 0) : 0)) + "px";
    return { narrow, wide, height };
  }

  function layout(now, traces) {
    const below = legendHeight(traces);
    const { narrow, wide, height } = resize(now, below);
    const widest = Math.max(...data.points.map((_, k) => span(k)));
    // Where all coincide up to rounding there is nothing to zoom into.
    const around = (k) => {
      const [low, high] = extent(data.points[k]);
      const half = (widest > 1e-200 ? widest : 1) / 2;
      return high - low > 1e-6 * widest ? undefined : [(low + high) / 2 - half, (low + high) / 2 + half];
    };
    const axis = (k) => ({
      range: around(k), exponentformat: "none",
      title: { text: data.axes[k].label, font: { size: narrow ? 11 : 13 } },
      zeroline: false, gridcolor: "#dddddd", linecolor: "#666666", tickfont: { size: 11 },
    });
    const made = {
      // Plotly looks at the size of its box once only, unless it is told.
      height: find("scatter").clientHeight,
      font: Object.assign({ size: 13, color: "#1b1b1b" }, uiFont),
      margin: { l: 0, r: 0, t: 30, b: 0 },
      uirevision: now.axes.join(),
      hoverlabel: { align: "left", font: Object.assign({ size: 12 }, uiFont), bgcolor: "white", bordercolor: "#444444" },
      legend: {
        title: { text: now.column && now.column.kind === "category" ? plain(now.column.name) : "" },
        itemsizing: "constant", x: 1.01, y: 1, maxheight: now.column && now.column.kind === "number" ? 0.4 : 1,
      },
      showlegend: true,
      hovermode: "closest",
    };
    if (narrow) {
      Object.assign(made.legend, {
        orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0, yanchor: "bottom",
        entrywidth: 0.46, entrywidthmode: "fraction", maxheight: 1, font: { size: 12 },
      });
      made.legend.title.side = "top";
      made.margin.b = below;
      if (now.column && now.column.kind === "number") made.margin.t = 100;
    }
    if (now.axes.length === 2) {
      made.margin = { l: 85, r: 20, t: made.margin.t, b: 75 + (narrow ? below : 0) };
      made.xaxis = axis(now.axes[0]);
      made.yaxis = axis(now.axes[1]);
      if (now.equal) made.yaxis.scaleanchor = "x";
      made.annotations = flatNotes(now, wide - 105, height - 105);
      return made;
    }
    const sides = now.axes.map(span);
    const longest = Math.max(...sides);
    const ratio = sides.map((side) => (now.equal ? Math.max(side / longest, 0.02) : Math.max(side / longest, 0.6)));
    const scale = 1.15 / Math.cbrt(ratio[0] * ratio[1] * ratio[2]);
    const limit = Math.min(scale, now.equal ? 1.65 : 1.45);
    // Words keep their size in a narrow window, so the rest has less room.
    const back = narrow ? 1.22 : 0.88 * Math.max(1, (1.3 * height) / wide);
    made.scene = {
      xaxis: axis(now.axes[0]), yaxis: axis(now.axes[1]), zaxis: axis(now.axes[2]),
      aspectmode: "manual",
      aspectratio: { x: ratio[0] * limit, y: ratio[1] * limit, z: ratio[2] * limit },
      // The picture is as high as its box whatever the width; step back where it is narrow.
      camera: { eye: { x: 1.1 * back, y: -1.8 * back, z: 0.8 * back }, center: { x: 0, y: 0, z: narrow ? -0.15 : -0.22 } },
      annotations: referenceNotes(now),
    };
    return made;
  }

  const config = {
    responsive: true, displaylogo: false, showSendToCloud: false, scrollZoom: true,
    toImageButtonOptions: { format: "png", filename: "inpca", scale: 2 },
  };

  function draw() {
    const now = state();
    drawnWidth = find("scatter").clientWidth;
    const numeric = now.column !== null && now.column.kind === "number";
    find("log").disabled = !numeric;
    find("log-note").textContent = "";
    if (new Set(now.axes).size < now.axes.length) {
      find("axes-note").textContent = "Two axes show the same coordinate; choose different ones.";
      return;
    }
    find("axes-note").textContent = "";
    const many = now.column && now.column.kind === "category" && now.column.categories.length > look.max_categories;
    find("color-note").textContent = many
      ? `${now.column.name} has ${now.column.categories.length} values; colours and symbols repeat after ${look.max_categories}. Hover to tell models apart.`
      : "";
    const models = numeric ? numberTraces(now) : categoryTraces(now);
    const traces = models.concat(referenceTraces(now), runNames(now));
    Plotly.react(find("scatter"), traces, layout(now, traces), config);
  }

  // --- the spectrum ------------------------------------------------------------------------

  function drawSpectrum() {
    const traces = [[1, "space-like, +", look.space_like, "circle"], [-1, "time-like, −", look.time_like, "diamond"]]
      .map(([sign, name, color, symbol]) => {
        // A zero has neither sign nor logarithm.
        const mine = data.spectrum.filter((one) => one.sign === sign);
        return {
          type: "scatter", mode: "markers", name, x: mine.map((one) => one.rank), y: mine.map((one) => Math.abs(one.eigenvalue)),
          marker: { color, symbol, size: 8 }, hoverinfo: "text",
          hovertext: mine.map((one) => `rank ${one.rank}, ${name}<br>eigenvalue ${shown(one.eigenvalue)}<br>` +
            `explained stress up to here<br>root form: ${one.root}<br>Eq. 8: ${one.eq8}`),
        };
      }).filter((one) => one.x.length);
    Plotly.newPlot(find("spectrum"), traces, {
      font: Object.assign({ size: 12, color: "#1b1b1b" }, uiFont),
      margin: { l: 62, r: 10, t: 6, b: 42 },
      xaxis: { title: { text: "rank" }, type: data.spectrum.length > 10 ? "log" : "linear", dtick: data.spectrum.length > 10 ? undefined : 1,
        tickvals: data.spectrum.length > 10 ? [1, 3, 10, 25, 50] : undefined, gridcolor: "#e5e5e5" },
      yaxis: { title: { text: "|eigenvalue|" }, type: "log", gridcolor: "#e5e5e5", exponentformat: "power", dtick: 1 },
      legend: { x: 1, y: 1, xanchor: "right", bgcolor: "rgba(255,255,255,0.7)" },
      showlegend: true, hovermode: "closest", hoverlabel: { align: "left", bgcolor: "white" },
    }, Object.assign({}, config, { displayModeBar: false, scrollZoom: false }));
  }

  // --- the controls ------------------------------------------------------------------------

  function fill() {
    const add = (id, value, text, group) => {
      const option = new Option(text, value);
      let parent = find(id);
      if (group) {
        parent = [...find(id).children].find((child) => child.label === group) ||
          find(id).appendChild(Object.assign(document.createElement("optgroup"), { label: group }));
      }
      parent.append(option);
    };
    data.columns.forEach((column, k) => column.offered && add("color", k, column.name, column.kind === "category" ? "categories" : "numbers"));
    add("color", "", "nothing (one colour)");
    data.axes.forEach((axis, k) => ["x", "y", "z"].forEach((id) => add(id, k, axis.short)));
    add("z", "", "none (flat picture)");
    const start = data.columns.findIndex((column) => column.name === data.start_column);
    find("color").value = start < 0 ? "" : start;
    find("x").value = 0;
    find("y").value = 1;
    find("z").value = data.axes.length > 2 && webgl ? 2 : "";
    if (!webgl && data.axes.length > 2) {
      find("webgl-note").textContent = "This browser has no WebGL, which the picture in three dimensions needs; here is the flat one.";
    }
    suggestLog();
    find("color").addEventListener("change", suggestLog);
    for (const id of ["color", "log", "x", "y", "z", "lines", "equal"]) find(id).addEventListener("change", draw);
  }

  function suggestLog() {
    const column = data.columns[find("color").value === "" ? -1 : Number(find("color").value)];
    find("log").checked = Boolean(column && column.suggest_log);
  }

  let waiting = 0;
  let drawnWidth = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => find("scatter").clientWidth !== drawnWidth && draw(), 150);
  });

  fill();
  draw();
  drawSpectrum();
})();
